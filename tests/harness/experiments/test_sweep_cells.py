"""Sweeps without Ray, one cell after the other in this process: what is kept, and what it means."""

from pathlib import Path

import pandas as pd
import pytest

import harness.reporting.rebuild
import harness.reporting.sweeps
from harness.cli import run, status, sweep, tables
from harness.execution import scoring
from harness.experiments import sweep_run, trial
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records
from tests.harness.execution.execution_cases import VARIABLE, assert_same, played_locally, records

SETTINGS = """
base:
  task_dist: point_goal
  env: {horizon: 8, test_tasks: [0, 1, 2, 3, 4]}
  train: {meta_batch_size: 4, episodes_per_task: 2, outer_steps: 2, epochs: 3}
  evaluation: {few_shot: [1], episodes_per_shot: 2, query_episodes: 2}
  execution: {checkpoint_every: 1}
sweep:
"""
TWINS = SETTINGS + "  policy: [mlp]\n  learner: [finetune, multitask]\n"
RATES = SETTINGS + "  policy: [mlp]\n  adapt.inner_lr: [0.1, 0.2]\n"


@pytest.fixture(autouse=True)
def _here(monkeypatch, workplace):
    for module in (harness.reporting.rebuild, harness.reporting.sweeps):
        monkeypatch.setattr(module, "write_figures", lambda *_: None)


def play(monkeypatch, text, *argv, on_report=lambda conductor, key, report: None):
    """Play a sweep here; ``on_report`` is called after every iteration of every cell."""
    order_played = []

    def one_by_one(conductor, cluster):
        conductor.watch.started(conductor.view)
        while not conductor.exhausted:
            key = conductor.next(1)
            order_played.append(key)
            conductor.begun(key)

            def report(values, key=key):
                conductor.reported(key, values)
                on_report(conductor, key, values)

            try:
                trial.play(conductor.order(key, 0), report)
            except SystemExit:  # how a scheduler ends a trial
                pass
            except RuntimeError as error:
                conductor.died(key, str(error))
                conductor.failed(key, f"lost: {error}")
            conductor.finished(key)
        return conductor.stop_file.exists()

    monkeypatch.setattr(trial, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(sweep_run, "_play", one_by_one)
    Path("x.yaml").write_text(text)
    return sweep.main(["x.yaml", "--name", "x", *argv]), order_played


def swept(name="x"):
    frames = [read_records(path) for path in sorted(Path(f"results/{name}/cells").iterdir())]
    keys = ["cell", "split", "task", "shots", "query_episode"]
    return pd.concat(frames).drop(columns=VARIABLE).sort_values(keys, ignore_index=True)


def state(key):
    (found,) = Manifest.load(Path(f"results/x/cells/{key}/manifest.json")).cells.values()
    return found


def test_cells_of_their_own_make_the_table_of_one_run(monkeypatch, capsys):
    assert played_locally("run", "--learner", "finetune", "multitask") == 0
    code, played = play(monkeypatch, TWINS)
    assert code == 0
    assert played == ["point_goal.mlp.multitask.s0", "point_goal.mlp.finetune.s0"]
    assert_same(swept(), records("run"))
    tables = [pd.read_csv(f"results/{name}/table.csv") for name in ("x", "run")]
    assert_same(*(table.drop(columns="wall_seconds") for table in tables))
    # Played again there is nothing to do; another file is another sweep.
    assert play(monkeypatch, TWINS, "--resume") == (0, [])
    assert play(monkeypatch, TWINS)[0] == 2
    capsys.readouterr()
    assert play(monkeypatch, TWINS.replace("horizon: 8", "horizon: 9"), "--resume")[0] == 2
    assert "2 cells changed" in capsys.readouterr().err
    assert status.main(["results/x"]) == 0
    assert "2/2 cells done: 2 ok" in capsys.readouterr().out
    # The command of a cell, pasted where the sweep was typed, gives the cell's numbers.
    cell = Path("results/x/cells/point_goal.mlp.finetune.s0")
    program, _, module, *argv = Manifest.load(cell / "manifest.json").command
    assert (program, module) == ("python", "harness.run")
    assert argv == ["--config", str(cell / "cell.yaml"), "--backend", "local"]
    assert run.main([*argv, "--name", "again"]) == 0
    assert_same(records("again"), read_records(cell).drop(columns=VARIABLE))


def test_a_stop_is_obeyed_after_the_checkpoint_and_a_resume_goes_on_there(monkeypatch):
    played_locally("run", "--learner", "finetune", "multitask")
    seen = []

    def stop(conductor, key, report):
        seen.append(report["iteration"])
        if report["iteration"] == 2:
            conductor.stop_file.touch()

    code, played = play(monkeypatch, TWINS, on_report=stop)
    assert code == 4
    assert played == ["point_goal.mlp.multitask.s0"]
    assert max(seen) == 2
    assert state(played[0]).status == "running"
    seen.clear()
    code, played = play(
        monkeypatch, TWINS, "--resume", on_report=lambda c, k, r: seen.append((k, r))
    )
    assert code == 0
    assert played == ["point_goal.mlp.multitask.s0", "point_goal.mlp.finetune.s0"]
    done = [r["iteration"] for k, r in seen if "multitask" in k and r["iteration"]]
    assert sorted(set(done)) == [2, 3], "finished iterations were done again"
    assert_same(swept(), records("run"))


def test_failed_and_stopped_cells_are_told_and_in_no_number(monkeypatch):
    first, second = (f"point_goal.mlp.maml.s0.inner_lr-{rate}" for rate in ("0.1", "0.2"))

    def end(conductor, key, report):
        if report["iteration"] == 2:
            raise SystemExit if key == first else RuntimeError("its process died")

    code, played = play(monkeypatch, RATES, on_report=end)
    assert (code, played) == (3, [first, second])
    assert state(first).status == "stopped"
    assert "after 2 iterations, 256 environment steps" in state(first).reason
    assert state(second).reason == "lost: its process died"
    told = Path("results/x/table.md").read_text()
    assert "STOPPED:** 1 of 2 cells" in told
    assert "FAILED:** 1 of 2 cells" in told
    assert f"cells/{second}/cell.yaml --backend local" in told
    frame = pd.read_csv("results/x/table.csv")
    rows = frame[frame.learner.str.startswith("maml")]
    assert list(rows["adapt.inner_lr"]) == [0.1, 0.2]
    assert rows.return_0.isna().all()
    assert list(rows.seeds_stopped) == [1, 0]
    assert list(rows.seeds_failed) == [0, 1]
    # Failed cells wait for --retry-failed; stopped ones are over.
    assert play(monkeypatch, RATES, "--resume") == (3, [])
    assert play(monkeypatch, RATES, "--resume", "--retry-failed") == (0, [second])


@pytest.mark.parametrize("lost", ["0.2", ""], ids=["one", "all"])
def test_a_cell_that_dies_before_it_begins_costs_no_other(monkeypatch, capsys, lost):
    first, second = (f"point_goal.mlp.maml.s0.inner_lr-{rate}" for rate in ("0.1", "0.2"))
    describe = trial.describe

    def dies(config):
        if str(config.adapt.inner_lr).endswith(lost):
            raise RuntimeError("no memory for torch")
        return describe(config)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "describe", dies)
        assert play(patch, RATES) == (3, [first, second])
    assert state(second).reason == "lost: no memory for torch"
    told = Path("results/x/table.md").read_text()
    assert f"FAILED:** {1 if lost else 2} of 2 cells" in told
    assert f"Replay {second}: python -m harness.run --config results/x/cells/{second}/" in told
    assert (Path("results/x/cells") / second / "cell.yaml").is_file()
    assert (tables.main(["results/x"]), status.main(["results/x"])) == (3, 0)
    assert play(monkeypatch, RATES, "--resume") == (3, [])
    retried = [second] if lost else [first, second]
    assert play(monkeypatch, RATES, "--resume", "--retry-failed") == (0, retried)
    assert set(swept().learner) == {"maml", "reference"}


def test_another_process_on_the_same_sweep_is_refused(monkeypatch, capsys):
    play(monkeypatch, RATES, on_report=lambda c, k, r: c.stop_file.touch())
    with sweep_run._alone(Path("results/x").absolute()):
        assert play(monkeypatch, RATES, "--resume")[0] == 2
        assert "another process" in capsys.readouterr().err
        assert status.main(["results/x"]) == 0
        assert "being played" in capsys.readouterr().out


def test_reference_lines_that_fail_cost_no_cell_and_are_scored_again(monkeypatch, capsys):
    def broken(*_):
        raise FloatingPointError("<boom>")

    views, told_live = [], []

    def look(conductor, key, report):
        views.append(conductor.view)
        told_live.append("reference lines failed: 2" in conductor.view.summary())

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "reference", broken)
        assert play(patch, RATES, on_report=look)[0] == 3
    assert told_live[2:] == [True] * len(told_live[2:]), "not shown while a cell still runs"
    assert len(told_live) > 4
    first, second = (f"point_goal.mlp.maml.s0.inner_lr-{rate}" for rate in ("0.1", "0.2"))
    assert state(first).status == state(second).status == "ok"
    told = Path("results/x/table.md").read_text()
    assert "FAILED:** 2 of 4 cells and reference lines" in told
    assert f"Replay {first}: python -m harness.run --config" in told
    assert set(swept().learner) == {"maml"}
    assert status.main(["results/x"]) == 0
    assert f"{first}: reference zero-action: failed" in " ".join(capsys.readouterr().out.split())
    assert play(monkeypatch, RATES, "--resume") == (3, [])
    told_live.clear()
    again = play(monkeypatch, RATES, "--resume", "--retry-failed", on_report=look)
    assert again == (0, [first])
    assert told_live[0], "not known from the cell's folder"
    assert "reference" not in views[-1].summary(), "still shown after they were scored"
    assert set(swept().learner) == {"maml", "reference"}


def contents(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_added_cells_are_played_and_those_that_were_there_stay_as_they_are(monkeypatch, capsys):
    small = SETTINGS + "  policy: [mlp]\n  seed: [1]\n  adapt.inner_lr: [0.1]\n"
    # The added seed comes first in the file, and must not score the reference lines anew.
    large = SETTINGS + "  policy: [mlp, gru]\n  seed: [0, 1]\n  adapt.inner_lr: [0.1]\n"
    large = large.replace("epochs: 3", "epochs: 1")
    small = small.replace("epochs: 3", "epochs: 1")
    first = "point_goal.mlp.maml.s1.inner_lr-0.1"
    assert play(monkeypatch, small, "--extend")[0] == 2, "there is nothing to extend"
    assert play(monkeypatch, small)[0] == 0
    before = contents(Path("results/x/cells") / first)
    written = Path("results/x/sweep.json").read_bytes()
    capsys.readouterr()
    for text, told in (
        (small, "adds no cell"),
        (large.replace("seed: [0, 1]", "seed: [0, 2]"), f"no longer there ({first})"),
        (large.replace("horizon: 8", "horizon: 9"), "env.horizon: 8 then, 9 now"),
        (large + "tune: {scheduler: asha, grace_env_steps: 9}\n", "the scheduler differs"),
    ):
        assert play(monkeypatch, text, "--extend")[0] == 2
        assert told in capsys.readouterr().err
        assert Path("results/x/sweep.json").read_bytes() == written
    code, played = play(monkeypatch, large, "--extend")
    assert code == 0
    assert len(played) == 3
    assert first not in played
    assert contents(Path("results/x/cells") / first) == before
    assert sum(swept().learner == "reference") == 2 * 5 * 2
    # What was put together is what a sweep of all of it would have been.
    assert play(monkeypatch, large, "--resume") == (0, [])
    assert play(monkeypatch, large, "--name", "whole")[0] == 0
    mine, others = (f[f.learner != "reference"] for f in (swept(), swept("whole")))
    assert_same(mine.reset_index(drop=True), others.reset_index(drop=True))
    assert len(pd.read_csv("results/x/table.csv")) == 2 + 2 + 1
