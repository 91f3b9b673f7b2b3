"""Checkpoints scored beside freshly trained cells, in rows of their own."""

from pathlib import Path

import pytest

from harness.cli import run
from harness.execution import checkpoint
from harness.experiments import run as runs
from tests.harness.execution.execution_cases import (
    assert_same,
    manifest,
    played_locally,
    records,
    sizes,
    trained,
)


@pytest.fixture(autouse=True)
def _here(workplace):
    """In an empty folder."""


def test_a_checkpoint_is_a_row_with_the_scores_it_had_and_survives_resuming(capsys):
    assert played_locally("first", "--learner", "rl2", policy=("gru",)) == 0
    (newest, *_) = sorted(Path("results/first").rglob("iteration-*.safetensors"), reverse=True)
    policy = checkpoint.export_policy(newest, Path("kept"))
    argv = ["--learner", "maml", "--pretrained", str(policy)]
    assert played_locally("second", *argv, policy=("gru",)) == 0
    assert "pretrained-gru" in capsys.readouterr().out
    frames = {name: records(name, without=["cell"]) for name in ("first", "second")}
    before = frames["first"].query("learner == 'rl2'").reset_index(drop=True)
    after = frames["second"].query("policy == 'pretrained-gru'").reset_index(drop=True)
    assert_same(before.drop(columns="policy"), after.drop(columns="policy"))
    key = "point_goal.pretrained-gru.rl2.s0"
    assert not (Path("results/second/cells") / key / "checkpoints").exists()
    (Path("results/second/cells") / key / "state.json").unlink()
    (Path("results/second/cells") / key / "records.parquet").unlink()
    assert played_locally("second", "--resume") == 0
    assert manifest("second").cells[key].status == "ok"
    again = records("second", without=["cell"]).query("policy == 'pretrained-gru'")
    assert_same(again.reset_index(drop=True), after)


def test_a_checkpoint_of_other_tasks_is_refused_before_anything_is_made():
    assert played_locally("first", epochs=1) == 0
    (newest, *_) = sorted(Path("results/first").rglob("iteration-*.safetensors"))
    argv = ["--pretrained", str(newest), "--horizon", "9"]
    for words in (argv, ["--pretrained", "nowhere.safetensors"]):
        assert played_locally("second", *words) == 2
    assert not Path("results/second").exists()


def test_checkpoints_share_a_row_if_their_seeds_alone_differ():
    assert played_locally("long", "--seed", "0", "1", epochs=2) == 0
    assert played_locally("short", epochs=1) == 0
    files = [*newest("long", 0), *newest("long", 1), *newest("short", 0)]
    assert played_locally("all", "--pretrained", *files, "--learner", "multitask") == 0
    rows = trained("all").groupby(["policy", "seed"]).size().index
    expected = {("mlp", 0), *((f"pretrained-mlp{n}", s) for n, s in [("", 0), ("", 1), ("-2", 0)])}
    assert set(rows) == expected


def test_a_checkpoint_that_cannot_be_scored_so_is_refused(capsys):
    assert played_locally("first", "--adapter", "memory+gradient", policy=("gru",), epochs=1) == 0
    words = sizes("maml")
    words[words.index("--query-episodes") + 1] = "5"
    argv = ["--policy", "mlp", "--pretrained", *newest("first", 0), "--name", "second"]
    assert run.main([*words, *argv, "--backend", "local"]) == 2
    assert "support episode" in capsys.readouterr().err
    assert not Path("results/second").exists()


def test_a_scored_checkpoint_may_be_deleted():
    assert played_locally("first", epochs=1) == 0
    (file,) = newest("first", 0)
    assert played_locally("second", "--pretrained", file) == 0
    Path(file).unlink()
    assert played_locally("second", "--resume", "--seeds", "1") == 0


def test_a_checkpoint_that_is_gone_costs_its_own_row_alone(monkeypatch):
    assert played_locally("first", epochs=1) == 0
    (file,) = newest("first", 0)
    planned = runs.plan

    def gone(*arguments):
        Path(file).unlink(missing_ok=True)
        return planned(*arguments)

    monkeypatch.setattr(runs, "plan", gone)
    assert played_locally("second", "--pretrained", file) == 3
    states = manifest("second").cells
    assert {key: state.status for key, state in states.items()} == {
        "point_goal.mlp.maml.s0": "ok",
        "point_goal.pretrained-mlp.maml.s0": "failed",
    }


def newest(run, seed):
    """The last checkpoint of a cell, as a list of one."""
    return [str(max(Path("results", run).glob(f"cells/*.s{seed}/**/iteration-*.safetensors")))]
