"""One way to continue a run: from its folder alone; and one process at a time."""

import json
import shutil
from pathlib import Path

import pytest

import harness.console.display
from harness.cli import run, status, sweep, tables
from harness.config.sweep_file import TuneConfig
from harness.errors import ArtefactError, ExitCode, UsageError
from harness.experiments.lock import alone, being_played
from harness.experiments.run import resume, schedule
from tests.harness.execution.execution_cases import (
    Listener,
    assert_same,
    curves,
    manifest,
    played_locally,
    records,
)

pytestmark = pytest.mark.usefixtures("workplace")
CELL = "point_goal.mlp.maml.s0"


def stopped_after(monkeypatch, iteration, *argv, **kwargs):
    """Start a run and interrupt it."""

    def stop(done):
        if done == iteration:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(harness.console.display, "make_progress", lambda *_: Listener(stop))
        assert played_locally("x", *argv, **kwargs) == ExitCode.INTERRUPTED


def test_a_run_is_resumed_with_nothing_typed_again(monkeypatch):
    argv = ["--learner", "finetune", "rsac", "--learning-rate", "0.02"]
    assert played_locally("whole", *argv, policy=("gru",)) == 0
    stopped_after(monkeypatch, 2, *argv, policy=("gru",))
    listener = Listener()
    assert resume(Path("results/x"), listener) == 0
    assert_same(records("x"), records("whole"))
    assert curves("x") == curves("whole")
    assert 1 not in listener.iterations[:1], "finished iterations were done again"
    assert sweep.main(["results/x", "--resume"]) == 0


def test_a_cell_names_every_processor_that_played_it(monkeypatch, capsys):
    def on(cpu):
        monkeypatch.setattr("harness.experiments.trial.machine", lambda: {"cpu": cpu})

    on("AMD EPYC")
    stopped_after(monkeypatch, 1)
    on("Xeon")
    assert resume(Path("results/x"), Listener()) == 0
    assert manifest().cells[CELL].cpu == "AMD EPYC; Xeon"
    on("Abacus")
    more = {"seed": [1], "train": {"meta_iterations": 4}}
    assert resume(Path("results/x"), Listener(), more=more) == 0
    found = {key: cell.cpu for key, cell in manifest().cells.items()}
    assert found == {CELL: "AMD EPYC; Xeon; Abacus", "point_goal.mlp.maml.s1": "Abacus"}
    shown = Path("results/x/table.md").read_text()
    assert "different processors: AMD EPYC; Abacus; Xeon." in shown
    capsys.readouterr()
    assert tables.main(["results/x"]) == 0
    assert capsys.readouterr().err.count("processor") == 2


def test_execution_settings_may_change_on_the_way(monkeypatch):
    stopped_after(monkeypatch, 1)
    assert resume(Path("results/x"), Listener(), checkpoint_every=7, ckpt_dir=Path("c")) == 0
    assert sorted(path.name for path in Path("c").glob("[!.]*")) == ["latest.npz", "step_3.npz"]
    assert manifest().cells[CELL].status == "ok"


def test_what_cannot_be_resumed_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="no run"):
        resume(Path("results/x"), Listener())
    assert not Path("results/x").exists()
    stopped_after(monkeypatch, 1)
    for change in ({"num_workers": 2}, {"address": "auto"}):
        with pytest.raises(UsageError, match="--backend ray"):
            resume(Path("results/x"), Listener(), **change)
    stored = json.loads(Path("results/x/run.json").read_text())
    scored = stored | {"given": {"checkpoint": "x.safetensors"}}
    Path("results/x/run.json").write_text(json.dumps(scored))
    with pytest.raises(UsageError, match="cannot be resumed"):
        resume(Path("results/x"), Listener())
    Path("results/x/run.json").write_text("{}")
    with pytest.raises(ArtefactError):
        resume(Path("results/x"), Listener())
    assert sweep.main(["results/x"]) == ExitCode.BAD_INPUT, "a folder without --resume"


def test_a_cell_whose_folder_was_deleted_is_played_again(monkeypatch):
    assert played_locally("x") == 0
    before = records("x")
    shutil.rmtree(f"results/x/cells/{CELL}")
    assert resume(Path("results/x"), Listener()) == 0
    assert_same(records("x"), before)


def test_a_run_has_one_writer_and_status_tells_dead_from_alive(monkeypatch, capsys):
    stopped_after(monkeypatch, 1)
    assert not being_played(Path("results/x"))
    with alone(Path("results/x")):
        capsys.readouterr()
        assert status.main(["results/x"]) == 0
        assert "being played" in capsys.readouterr().out
        assert played_locally("x", "--resume") == ExitCode.BAD_INPUT
        assert "another process" in capsys.readouterr().err
    assert status.main(["results/x"]) == 0
    assert "no process plays it" in capsys.readouterr().out
    assert played_locally("x", "--resume") == 0


@pytest.mark.parametrize(
    ("tune", "cells", "cpus", "expected"),
    [
        ({}, 4, 4, (4, 0)),  # as many cells as CPUs: side by side, a process each
        ({}, 100, 4, (4, 0)),
        ({"max_concurrent": 3}, 100, 4, (3, 0)),
        ({}, 3, 4, (1, 4)),  # fewer: one after another, with a worker per CPU
        ({"workers_per_cell": 2}, 3, 4, (2, 2)),
        ({"workers_per_cell": 0}, 1, 4, (4, 0)),
        ({"workers_per_cell": 2, "max_concurrent": 1}, 100, 4, (1, 2)),  # --num-workers 2
        ({"scheduler": "asha", "grace_env_steps": 9}, 2, 4, (4, 0)),
    ],
)
def test_how_cells_are_scheduled(tune, cells, cpus, expected):
    assert schedule(TuneConfig(**tune), cells, cpus) == expected


def test_a_run_gets_more_seeds_and_trains_on(monkeypatch):
    monkeypatch.setattr("harness.reporting.rebuild.write_figures", lambda *_: None)
    assert played_locally("whole", "--seeds", "0", "2", epochs=3) == 0
    assert played_locally("x", epochs=2) == 0
    assert run.main(["--resume", "x", "--seeds", "0", "2"]) == 0
    listener = Listener()
    assert resume(Path("results/x"), listener, more={"train": {"meta_iterations": 3}}) == 0
    assert listener.iterations == [3, 3], "finished iterations were done again"
    assert list(manifest().cells) == list(manifest("whole").cells)
    assert_same(records("x"), records("whole"))
    assert curves("x") == curves("whole")
    more = [{"seed": [0, 2]}, {"train": {"meta_iterations": 3}}]
    assert manifest().given["extended"] == more
    # The same command again is only a resumption: nothing is left to play.
    before = Path(f"results/x/cells/{CELL}/state.json").read_bytes()
    assert run.main(["--resume", "x", "--seeds", "0", "2", "--epochs", "3"]) == 0
    assert Path(f"results/x/cells/{CELL}/state.json").read_bytes() == before
