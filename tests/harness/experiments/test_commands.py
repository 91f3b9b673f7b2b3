"""train, eval, adapt and export as a user types them, end to end."""

import dataclasses
import json
from pathlib import Path

import pytest

from harness.cli import run
from harness.cli.parser import load_config
from harness.config.scoring import AdaptConfig
from harness.errors import UsageError
from tests.harness.execution.execution_cases import assert_same, records, trained

SIZES = [
    *("--backend", "local", "--config", "basic", "--horizon", "8", "--tasks-per-batch", "2"),
    *("--episodes-per-task", "2", "--few-shot", "1", "--episodes-per-shot", "2"),
    *("--query-episodes", "2", "--test-tasks", "0", "1", "2", "--checkpoint-every", "1"),
]
LATEST = ["--backend", "local", "--checkpoint", "checkpoints/latest.npz"]


@pytest.fixture(scope="module")
def _trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("commands")
        patch.chdir(place)
        assert run.main(["train", *SIZES, "--outer-steps", "2", "--name", "t"]) == 0
    return place


@pytest.fixture
def place(_trained, monkeypatch):
    monkeypatch.chdir(_trained)
    return _trained


def stored(*argv):
    assert run.main(["adapt", *LATEST, *argv]) == 0
    name = argv[argv.index("--name") + 1]
    return json.loads((Path("results") / name / "adaptation.json").read_text())


def test_train_leaves_npz_checkpoints_where_the_flag_says(place):
    names = sorted(path.name for path in (place / "checkpoints").glob("[!.]*"))
    assert names == ["latest.npz", "step_1.npz", "step_2.npz"]
    argv = [*SIZES, "--epochs", "1", "--policy", "mlp", "gru", "--ckpt-dir", "c", "--name", "two"]
    assert run.main(argv) == 0
    cells = ["point_goal.gru.maml.s42", "point_goal.mlp.maml.s42"]
    assert sorted(path.name for path in (place / "c").glob("[!.]*")) == cells


def test_scoring_leaves_a_folder_of_checkpoints_alone(place):
    before = sorted((place / "checkpoints").iterdir())
    Path("file.yaml").write_text("execution: {ckpt_dir: checkpoints, backend: local}")
    latest = "checkpoints/latest.npz"
    argv = ["--checkpoint", latest, "--episodes", "1", "--config", "file.yaml", "--name", "kept"]
    assert run.main(["eval", *argv]) == 0
    assert sorted((place / "checkpoints").iterdir()) == before
    argv = [*SIZES, "--epochs", "1", "--pretrained", latest, "--name", "mixed"]
    assert run.main([*argv, "--ckpt-dir", "checkpoints"]) == 2
    assert sorted((place / "checkpoints").iterdir()) == before


def test_eval_of_either_kind_scores_the_same_and_without_adaptation(place):
    (source,) = (place / "results/t").glob("cells/*/checkpoints/iteration-000002.safetensors")
    for name, path in (("e1", "checkpoints/latest.npz"), ("e2", str(source))):
        argv = ["--backend", "local", "--checkpoint", path, "--episodes", "3", "--name", name]
        assert run.main(["eval", *argv]) == 0
    assert_same(records("e1"), records("e2"))
    frame = trained("e1")
    assert set(frame.shots) == {0}
    assert set(frame.query_episode) == {0, 1, 2}
    # The first two episodes are those that training scored.
    again = frame[frame.query_episode < 2].reset_index(drop=True)
    first = trained("t")
    assert_same(again, first[first.shots == 0].reset_index(drop=True))
    assert run.main(["eval", *LATEST, "--episodes-per-shot", "2"]) == 2, "it has no effect"


def test_adapt_reports_the_paired_gain(place, capsys):
    told = stored("--adapt-steps", "2", "--episodes-per-shot", "2", "--name", "a")
    frame = trained("a")
    means = frame.groupby(["task", "shots"]).return_.mean().unstack()
    assert told["pre"] == pytest.approx(means[0].mean())
    assert told["post"] == pytest.approx(means[2].mean())
    gains = means[2] - means[0]
    assert told["gain"] == pytest.approx(gains.mean())
    assert told["gain"] != 0
    assert (told["better"], told["tasks"]) == ((gains > 0).sum(), len(gains))
    assert f"gain {told['gain']:+.1f}" in capsys.readouterr().out
    assert told["split"] == "test"
    assert stored("--adapt-steps", "2", "--splits", "train", "--name", "b")["split"] == "train"


ONLINE = ["--adapt-steps", "2", "--online", "--adapt-every", "8", "--episodes", "3"]


def test_online_adaptation_plays_on_and_every_flag_of_it_acts(place, capsys):
    base = stored(*ONLINE, "--name", "o")
    assert "gain" in capsys.readouterr().out
    assert base["pre"] + base["gain"] == pytest.approx(base["post"])
    assert base["gain"] != 0
    changes = {"--adapt-steps": "3", "--adapt-every": "5", "--adapt-lr": "0.01"}
    for number, (flag, value) in enumerate((changes | {"--buffer-size": "3"}).items()):
        argv = [part for part in ONLINE if part not in (flag,)]
        if flag in ONLINE:
            at = ONLINE.index(flag)
            argv = [*ONLINE[:at], *ONLINE[at + 2 :]]
        other = stored(*argv, flag, value, "--name", f"o{number}")
        assert other["pre"] == base["pre"]
        assert other["post"] != base["post"], flag
    assert run.main(["adapt", *LATEST, *ONLINE, "--name", "o"]) == 2  # never written over


def test_a_checkpoint_of_another_distribution_is_refused(place, capsys):
    assert run.main(["eval", *LATEST, "--env", "HalfCheetah-v5"]) == 2
    shown = capsys.readouterr().err
    assert "point_goal" in shown
    assert "halfcheetah" in shown


def test_an_adapter_that_the_checkpoint_was_not_trained_for_is_bad_input(place, capsys):
    for adapter in ("memory", "memory+gradient"):
        assert run.main(["adapt", *LATEST, "--adapter", adapter, "--name", "no"]) == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert said.startswith("error: --adapter")
        assert adapter in said
        assert not Path("results/no").exists()
    both = load_config(["--task-dist", "point_goal", "--adapter", "memory+gradient"])
    asked = AdaptConfig(Path("x"), adapter="gradient")
    with pytest.raises(UsageError, match=r"memory\+gradient"):
        asked.applied_to(both)
    assert dataclasses.replace(asked, adapter=None).applied_to(both).adapter == both.adapter


def test_export_goes_both_ways_to_the_last_bit(place):
    (source,) = (place / "results/t").glob("cells/*/checkpoints/iteration-000002.safetensors")
    assert run.main(["export", "--checkpoint", str(source), "--to", "x.npz"]) == 0
    assert run.main(["export", "--checkpoint", "x.npz", "--to", "x.safetensors"]) == 0
    assert Path("x.safetensors").read_bytes() == source.read_bytes()
