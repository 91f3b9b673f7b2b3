"""Whole runs in one process: what they leave behind, and that they give the same numbers again."""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

import harness.reporting.rebuild
import policies
from harness.cli import run
from harness.execution import checkpoint as checkpoints
from harness.reporting.render.figures import write_figures
from tests.harness.execution.execution_cases import (
    SIZES,
    assert_same,
    curves,
    manifest,
    played_locally,
    records,
    trained,
)

EVERY = (*policies.COMPARED, "mlp")
FINAL = "results/one/cells/point_goal.{}.maml.s0/checkpoints/iteration-000003.safetensors"


@pytest.fixture(scope="module")
def _finished(tmp_path_factory):
    """A folder in which run ``one`` of several policies was played, with its figures."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("finished")
        patch.chdir(place)
        patch.setattr(harness.reporting.rebuild, "write_figures", write_figures)
        assert played_locally("one", policy=EVERY) == 0
    return place


@pytest.fixture
def finished(_finished, monkeypatch):
    monkeypatch.chdir(_finished)
    return _finished


def table(name):
    text = Path(f"results/{name}/table.csv").read_text()
    frame = pd.read_csv(pd.io.common.StringIO(text), comment="#")
    return frame.drop(columns=[column for column in frame if "wall" in column])


def score(*argv):
    return run.main(["evaluate", "--backend", "local", *argv])


def test_a_run_leaves_everything_a_reader_needs(finished):
    folder = finished / "results" / "one"
    assert {path.name for path in folder.iterdir() if path.name != "events.jsonl"} >= {
        *("run.json", "cells", "figures", "table.csv", "table.md", "table.tex"),
    }
    assert list((folder / "figures").iterdir())
    found = manifest("one")
    assert {state.policy for state in found.cells.values()} == set(EVERY)
    assert found.ids("ok") == tuple(found.cells)
    assert all(state.wall_seconds > 0 for state in found.cells.values())
    for cell in found.cells:
        own = folder / "cells" / cell
        assert (own / "checkpoints/iteration-000003.safetensors").exists()
        assert [row[0] for row in curves("one")[cell]] == [1, 2, 3]


def test_records_are_complete(finished):
    frame = trained("one")
    keys = ["policy", "task_index", "shots", "query_episode"]
    assert not frame.duplicated(keys).any()
    assert len(frame) == len(EVERY) * 5 * 2 * 2
    assert set(frame.shots) == {0, 1}
    assert set(frame.task_index) == {0, 1, 2, 3, 4}
    # 3 iterations x 4 tasks x (support + query) x 2 episodes x 8 steps
    assert set(frame.train_env_steps) == {3 * 4 * 2 * 2 * 8}
    assert set(frame[frame.shots == 0].support_env_steps) == {0}
    assert set(frame[frame.shots == 1].support_env_steps) == {2 * 8}
    lines = records("one").query("learner == 'reference'")
    assert set(lines.policy) == {"zero-action", "random-action"}
    assert len(lines) == 2 * 5 * 2


def test_policies_are_trained_and_differ(finished):
    frame = trained("one")
    assert frame.groupby("policy").return_.sum().nunique() == len(EVERY)
    for shots in (0, 1):
        assert frame[frame.shots == shots].return_.nunique() > len(EVERY)
    adapted = frame.pivot(
        index=["policy", "task_index", "query_episode"], columns="shots", values="return_"
    )
    assert (adapted[0] != adapted[1]).all(), "a shot changed nothing"


@pytest.mark.usefixtures("finished")
def test_a_cell_gives_the_same_numbers_again_whatever_is_played_beside_it():
    chosen = ["ssm", "mlp"]
    assert played_locally("again", policy=chosen) == 0
    expected, rows = (
        frame[frame.policy.isin(chosen) | frame.learner.eq("reference")].reset_index(drop=True)
        for frame in (records("one"), table("one"))
    )
    assert_same(records("again"), expected)
    assert_same(table("again"), rows)
    own = curves("again")
    assert len(own) == len(chosen)
    assert own == {cell: curves("one")[cell] for cell in own}


def test_another_seed_gives_other_numbers(finished):
    assert played_locally("other-seed", "--seed", "1") == 0
    ours = trained("other-seed").return_
    theirs = trained("one").query("policy == 'mlp'").return_
    assert not set(ours) & set(theirs)


@pytest.mark.parametrize("policy", ["mlp", "lstm"])
def test_scoring_the_final_checkpoint_gives_the_records_of_the_run(finished, policy):
    assert score("--checkpoint", FINAL.format(policy), "--name", f"scored-{policy}") == 0
    whole = trained("one").query("policy == @policy").reset_index(drop=True)
    assert_same(trained(f"scored-{policy}"), whole)


def test_a_task_scores_the_same_whatever_is_scored_beside_it(finished):
    argv = ["--checkpoint", FINAL.format("mlp"), "--name", "subset", "--test-tasks", "3"]
    assert score(*argv) == 0
    whole = trained("one").query("policy == 'mlp' and task_index == 3").reset_index(drop=True)
    got = trained("subset")
    assert set(got.task_index) == {3}
    pd.testing.assert_frame_equal(got, whole, rtol=1e-4)  # another batch size: other last bits


def test_zero_shot_on_chosen_tasks(finished):
    argv = ["--train-tasks", "0", "1", "2", "--test-tasks", "3", "4", "--zero-shot"]
    argv += ["--task-dist", "point_goal", "--epochs", "1", "--meta-batch-size", "4"]
    argv += ["--policy", "mlp", "--episodes-per-task", "2", "--backend", "local", "--name", "zero"]
    assert run.main(argv) == 0
    frame = trained("zero")
    assert set(frame.shots) == {0}
    assert set(frame.task_index) == {3, 4}
    assert set(frame.split) == {"test"}


def test_a_name_is_used_once(finished, capsys):
    before = Path("results/one/run.json").read_bytes()
    assert played_locally("one", policy=EVERY) == 2
    assert "--resume" in capsys.readouterr().err
    assert Path("results/one/run.json").read_bytes() == before


def test_resuming_a_complete_run_does_nothing_anew(finished):
    part = Path("results/one/cells/point_goal.mlp.maml.s0/records.parquet")
    before = (part.stat().st_mtime_ns, part.read_bytes(), Path("results/one/table.csv").read_text())
    assert played_locally("one", "--resume", policy=EVERY) == 0
    assert before == (
        part.stat().st_mtime_ns,
        part.read_bytes(),
        Path("results/one/table.csv").read_text(),
    )


def test_resuming_with_a_changed_flag_is_refused(finished, capsys):
    before = Path("results/one/run.json").read_bytes()
    assert played_locally("one", "--resume", "--learning-rate", "0.5") == 2
    assert "--learning-rate" in capsys.readouterr().err
    assert Path("results/one/run.json").read_bytes() == before


def damage(path, kind):
    if kind == "tensors":
        path.write_bytes(path.read_bytes()[:-8] + b"\xff" * 8)
    elif kind == "json":
        before, after = (rb"\"iteration\": %d" % iteration for iteration in (3, 4))
        assert before in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(before, after))
    elif kind == "foreign":
        path.write_bytes(b"PK\x03\x04")
    elif kind == "directory":
        path.unlink()
        path.mkdir()
    else:  # digests are right, what it says is not
        saved = checkpoints.read(path)
        saved.run["cell"] |= {"policy": "gru"} if kind == "other cell" else {"seed": "../../x"}
        if kind == "does not fit":
            saved.run["cell"]["seed"] = 0
            saved.tensors.pop("obs/total")
        checkpoints.write(path, saved)


@pytest.mark.parametrize(
    "kind", ["tensors", "json", "foreign", "directory", "other cell", "escape", "does not fit"]
)
def test_a_bad_checkpoint_is_refused_on_one_line(finished, tmp_path, kind, capsys):
    shutil.copy(FINAL.format("mlp"), tmp_path / "bad.safetensors")
    damage(tmp_path / "bad.safetensors", kind)
    name = f"bad-{kind.replace(' ', '-')}"
    capsys.readouterr()
    assert score("--checkpoint", str(tmp_path / "bad.safetensors"), "--name", name) == 5
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "bad.safetensors" in errors[0]


def test_a_missing_checkpoint_is_bad_input(workplace, capsys):
    assert score("--checkpoint", "absent.safetensors") == 2
    assert re.search("absent.safetensors", capsys.readouterr().err)


def test_too_many_workers_are_refused_before_anything_is_loaded_or_made(workplace, capsys):
    loaded = "ray" in sys.modules
    assert run.main([*SIZES, "--backend", "ray", "--num-workers", "6400", "--name", "many"]) == 2
    error = capsys.readouterr().err
    assert "--num-workers 6400" in error
    assert "Traceback" not in error
    assert ("ray" in sys.modules) == loaded
    assert not Path("results").exists()
