"""Sweeps without Ray, one cell after the other in this process, as Tune would play them."""

import contextlib
from pathlib import Path

import pandas as pd
import pytest
from ray.exceptions import OutOfMemoryError

from harness.cli import run, status, sweep, tables
from harness.errors import ExitCode
from harness.execution import scoring
from harness.execution.interrupt import InterruptedRunError, StopFile
from harness.execution.local import LocalBackend
from harness.experiments import ray_tune, trial
from harness.experiments import run as runs
from harness.experiments.cell_queue import ForwardingListener
from harness.reporting.rebuild import rerun_command
from harness.reporting.store.manifest import Manifest
from tests.harness.execution.execution_cases import (
    assert_same,
    manifest,
    played_locally,
    records,
    trained,
)
from tests.harness.experiments.sweep_cases import settings

TWINS = settings(3, "finetune", "multitask")
RATES = settings(3) + "sweep:\n  learner.maml.inner_lr: [0.1, 0.2]\n"
REFERENCES = "point_goal.reference.s0"


@pytest.fixture(autouse=True)
def _here(monkeypatch, workplace):
    monkeypatch.setattr(runs, "available_cpus", lambda: 1)
    monkeypatch.setattr(runs, "_cluster", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(ray_tune, "check_nodes", lambda *_: None)


def play(monkeypatch, text, *argv, on_report=lambda queue, key, values: None):
    """Play a sweep here; ``on_report`` is called after every report of every cell."""
    played = []

    def one_by_one(queue, at_once, workers, cpus):
        assert (at_once, workers, cpus) == (1, 0, 1)
        while not queue.exhausted:
            key, last = queue.next(at_once), {"iteration": 0}
            played.extend([key] if key in queue.planned else [])

            def report(values, key=key, last=last):
                queue.reported(values)
                last.update(values)
                on_report(queue, key, values)

            spec = queue.spec(key, workers)
            listener = ForwardingListener(report, every_iteration=True)
            try:
                trial.play_cell(
                    spec, LocalBackend(spec.config), listener, StopFile(queue.stop_file)
                )
            except (InterruptedRunError, SystemExit):  # the latter is how a scheduler ends a trial
                pass
            except RuntimeError as error:
                queue.died(key, str(error))
                queue.failed(key, f"lost: {error}")
            queue.ended(key, last)

    monkeypatch.setattr(ray_tune, "play", one_by_one)
    Path("x.yaml").write_text(text)
    return sweep.main(["x.yaml", "--name", "x", *argv]), played


def state(key):
    return manifest().cells[key]


def test_cells_of_their_own_make_the_table_of_one_run(monkeypatch, capsys):
    assert played_locally("run", "--learner", "finetune", "multitask") == 0
    code, played = play(monkeypatch, TWINS)
    assert code == 0
    assert played == ["point_goal.mlp.multitask.s0", "point_goal.mlp.finetune.s0"]
    assert_same(records("x"), records("run"))
    tables = [pd.read_csv(f"results/{name}/table.csv") for name in ("x", "run")]
    assert_same(*(table.drop(columns="wall_seconds") for table in tables))
    # Played again there is nothing to do; another file is another sweep.
    assert play(monkeypatch, TWINS, "--resume") == (0, [])
    assert play(monkeypatch, TWINS)[0] == 2
    capsys.readouterr()
    assert play(monkeypatch, TWINS.replace("horizon: 8", "horizon: 9"), "--resume")[0] == 2
    assert "2 cells changed" in capsys.readouterr().err
    assert sweep.main(["results/x", "--resume"]) == 0
    assert status.main(["results/x"]) == 0
    assert "2/2 cells done: 2 ok" in capsys.readouterr().out
    # The command of a cell, pasted where the sweep was typed, gives the cell's numbers.
    cell = Path("results/x/cells/point_goal.mlp.finetune.s0")
    program, _, module, *argv = rerun_command(cell)
    assert (program, module) == ("python", "harness.run")
    assert argv == ["--config", str(cell / "cell.yaml"), "--backend", "local"]
    assert run.main([*argv, "--name", "again"]) == 0
    whole = trained("x").query("learner == 'finetune'").reset_index(drop=True)
    assert_same(trained("again"), whole)


def test_a_stop_is_obeyed_after_the_checkpoint_and_a_resume_goes_on_there(monkeypatch):
    played_locally("run", "--learner", "finetune", "multitask")
    seen = []

    def stop(queue, key, report):
        seen.append(report.get("iteration", 0))
        if report.get("iteration") == 2:
            queue.stop_file.touch()

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
    done = [metrics.iteration for metrics in reported(seen, "multitask")]
    assert done == [3], "finished iterations were done again"
    assert_same(records("x"), records("run"))


def reported(seen, word):
    """The metrics of the iterations that cells with ``word`` in their key have reported."""
    return [
        arguments[1]
        for key, report in seen
        for name, arguments in report["events"]
        if name == "iteration" and word in key
    ]


def test_failed_and_stopped_cells_are_told_and_in_no_number(monkeypatch):
    first, second = (f"point_goal.mlp.maml.s0.inner_lr-{rate}" for rate in ("0.1", "0.2"))

    def end(queue, key, report):
        if report.get("iteration") == 2:
            raise SystemExit if key == first else RuntimeError("its process died")

    judged = RATES + "tune: {scheduler: asha, grace_env_steps: 1000}\n"
    code, played = play(monkeypatch, judged, on_report=end)
    assert (code, played) == (3, [first, second])
    assert state(first).status == "stopped"
    assert "after 2 iterations, 256 environment steps" in state(first).reason
    assert state(second).reason == "lost: its process died"
    told = Path("results/x/table.md").read_text()
    assert "**STOPPED:** a scheduler stopped 1 of 2 cells" in told
    assert "FAILED:** 1 of 2 cells" in told
    assert f"cells/{second}/cell.yaml --backend local" in told
    frame = pd.read_csv("results/x/table.csv")
    rows = frame[frame.learner.str.startswith("maml")]
    assert list(rows["learner.maml.inner_lr"]) == [0.1, 0.2]
    assert rows.return_0.isna().all()
    assert list(rows.seeds_stopped) == [1, 0]
    assert list(rows.seeds_failed) == [0, 1]
    # Failed cells are played again; stopped ones are over.
    assert play(monkeypatch, judged, "--resume") == (0, [second])


def test_without_a_scheduler_no_cell_is_over_before_its_end(monkeypatch):
    def end(queue, key, report):
        if report.get("iteration") == 2:
            raise SystemExit

    assert play(monkeypatch, RATES, on_report=end)[0] == 4
    first, second = (f"point_goal.mlp.maml.s0.inner_lr-{rate}" for rate in ("0.1", "0.2"))
    assert {state(key).status for key in (first, second)} == {"running"}
    assert play(monkeypatch, RATES, "--resume") == (0, [first, second])


@pytest.mark.parametrize("lost", ["0.2", ""], ids=["one", "all"])
def test_a_cell_that_dies_before_it_begins_costs_no_other(monkeypatch, capsys, lost):
    first, second = (f"point_goal.mlp.maml.s0.inner_lr-{rate}" for rate in ("0.1", "0.2"))
    write = trial.write_cell_config

    def dies(path, config):
        if str(config.learner["maml"].settings.inner_lr).endswith(lost):
            raise RuntimeError("no memory for torch")
        write(path, config)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "write_cell_config", dies)
        assert play(patch, RATES) == (3, [first, second])
    assert state(second).reason == "lost: no memory for torch"
    told = Path("results/x/table.md").read_text()
    assert f"FAILED:** {1 if lost else 2} of 2 cells" in told
    assert f"Rerun {second}: python -m harness.run --config results/x/cells/{second}/" in told
    assert (Path("results/x/cells") / second / "cell.yaml").is_file()
    assert (tables.main(["results/x"]), status.main(["results/x"])) == (3, 0)
    retried = [second] if lost else [first, second]
    assert play(monkeypatch, RATES, "--resume") == (0, retried)
    assert set(records("x").learner) == {"maml", "reference"}


def test_cells_that_ray_kills_for_memory_are_left_to_a_resume(monkeypatch, capsys):
    class Killed:
        def __init__(self, *_, **__):
            pass

        def fit(self):
            raise RuntimeError("unexpected") from OutOfMemoryError("low on memory")

    monkeypatch.setattr(ray_tune.tune, "Tuner", Killed)
    Path("x.yaml").write_text(TWINS)
    assert sweep.main(["x.yaml"]) == ExitCode.INTERRUPTED
    assert "max_concurrent" in capsys.readouterr().err
    code, played = play(monkeypatch, TWINS, "--resume")
    assert (code, len(played)) == (0, 2)


def test_reference_lines_that_fail_cost_no_cell_and_are_scored_again(monkeypatch, capsys):
    def broken(*_):
        raise FloatingPointError("<boom>")

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "reference", broken)
        assert play(patch, RATES)[0] == 3
    assert {cell.status for cell in manifest().cells.values()} == {"ok"}
    assert "FAILED:** 2 of 4 cells and reference lines" in Path("results/x/table.md").read_text()
    assert set(records("x").learner) == {"maml"}
    assert status.main(["results/x"]) == 0
    assert f"{REFERENCES}: failed: error" in " ".join(capsys.readouterr().out.split())
    assert play(monkeypatch, RATES, "--resume") == (0, [])
    assert set(records("x").learner) == {"maml", "reference"}
    assert status.main(["results/x"]) == 0
    assert "failed" not in capsys.readouterr().out.splitlines()[0]


def contents(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_added_cells_are_played_and_those_that_were_there_stay_as_they_are(monkeypatch, capsys):
    small = settings(1) + "sweep:\n  seed: [1]\n  learner.maml.inner_lr: [0.1]\n"
    # The added seed comes first in the file, and must not score the reference lines anew.
    large = small.replace("{mlp: {}}", "{mlp: {}, gru: {}}").replace("seed: [1]", "seed: [0, 1]")
    first = "point_goal.mlp.maml.s1.inner_lr-0.1"
    assert play(monkeypatch, small, "--extend")[0] == 2, "there is nothing to extend"
    assert play(monkeypatch, small)[0] == 0
    manifest = Manifest.load(Path("results/x"))
    elsewhere = {"host": {**manifest.host, "cpu": "another"}}
    manifest.model_copy(update=elsewhere).save(Path("results/x"))
    before = contents(Path("results/x/cells") / first)
    written = Path("results/x/run.json").read_bytes()
    capsys.readouterr()
    for text, told in (
        (small, "adds no cell"),
        (large.replace("seed: [0, 1]", "seed: [0, 2]"), f"1 cells missing ({first})"),
        (large.replace("horizon: 8", "horizon: 9"), "env.horizon: 8 then, 9 now"),
        (large + "tune: {scheduler: asha, grace_env_steps: 9}\n", "the scheduler differs"),
    ):
        assert play(monkeypatch, text, "--extend")[0] == 2
        assert told in capsys.readouterr().err
        assert Path("results/x/run.json").read_bytes() == written
    code, played = play(monkeypatch, large, "--extend")
    assert code == 0
    assert len(played) == 3
    assert first not in played
    assert contents(Path("results/x/cells") / first) == before
    assert Manifest.load(Path("results/x")).host["cpu"] == "another", "older cells name none"
    assert sum(records("x").learner == "reference") == 2 * 5 * 2
    # What was put together is what a sweep of all of it would have been.
    assert play(monkeypatch, large, "--resume") == (0, [])
    assert play(monkeypatch, large, "--name", "whole")[0] == 0
    assert_same(trained("x"), trained("whole"))
    assert len(pd.read_csv("results/x/table.csv")) == 2 + 2 + 1


def test_chosen_cells_are_played_and_a_resume_plays_the_others(monkeypatch, capsys):
    assert play(monkeypatch, TWINS, "--only", "*.rl2.*")[0] == 2
    assert not Path("results/x").exists()
    capsys.readouterr()
    shares, trains = "point_goal.mlp.finetune.s0", "point_goal.mlp.multitask.s0"
    # The training that it would share is not there.
    assert play(monkeypatch, TWINS, "--only", "*.finetune.*") == (0, [shares])
    assert [state(key).status for key in (shares, trains)] == ["ok", "pending"]
    assert "**INCOMPLETE:**" in Path("results/x/table.md").read_text()
    assert play(monkeypatch, TWINS, "--only", "*.finetune.*", "--resume") == (0, [])
    assert play(monkeypatch, TWINS, "--resume") == (0, [trains])
    capsys.readouterr()
    for words in (["x.yaml"], ["results/x", "--resume"]):
        assert sweep.main([*words, "--dry-run", "--only", "*.finetune.*"]) == 0
        assert capsys.readouterr().out.splitlines() == [shares]
    assert sweep.main(["results/x", "--resume", "--name", "other"]) == 2
