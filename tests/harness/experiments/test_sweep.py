"""Cells side by side on Ray Tune: the numbers of one process, whoever dies or is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from harness.cli import sweep
from harness.reporting.store.records import read_curves
from tests.harness.execution.execution_cases import (
    assert_same,
    events,
    manifest,
    play,
    played_locally,
    records,
    trained,
)
from tests.harness.experiments.sweep_cases import play_on_ray, settings

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 240
"""Seconds that a busy machine may take to start a driver and its Ray."""


@pytest.fixture(autouse=True)
def _here(monkeypatch, workplace):
    monkeypatch.setattr("harness.experiments.run.available_cpus", lambda: 4)


def states(name="x"):
    return {key: (cell.status, cell.reason) for key, cell in manifest(name).cells.items()}


def table_of(name):
    return pd.read_csv(f"results/{name}/table.csv").drop(columns="wall_seconds")


FAULTY = ("maml", "learner-dies", "raises", "dies-always")
RATES = "  learner.maml.inner_lr: [0.1, 0.2]\n  learner.learner-dies.inner_lr: [0.1]\n"


@pytest.mark.usefixtures("_ray")
def test_cells_that_die_go_on_and_cells_that_cannot_be_played_fail_alone():
    faulty = f"{settings(3, *FAULTY)}sweep:\n{RATES}"
    assert play_on_ray(faulty) == 3
    found = states()
    failed = {key for key, (status, _) in found.items() if status == "failed"}
    assert failed == {key for key in found if ".raises." in key or ".dies-always." in key}
    assert {status for status, _ in found.values()} == {"ok", "failed"}
    assert "FloatingPointError: <boom>" in found["point_goal.mlp.raises.s0"][1]
    assert found["point_goal.mlp.dies-always.s0"][1].startswith("lost: its process died")
    kinds = events("x").kind.value_counts()
    # One for the learner that dies once, two for the one that always does.
    assert kinds["trial_died"] == 3
    assert kinds["cell_failed"] == 2
    own = {name: part for name, part in trained("x").groupby("learner")}
    assert own.keys() == {"maml", "learner-dies"}
    died, whole = (
        own[name][own[name].cell.str.endswith("inner_lr-0.1")]
        .drop(columns=["cell", "learner"])
        .reset_index(drop=True)
        for name in ("learner-dies", "maml")
    )
    assert_same(died, whole)
    assert "**FAILED:** 2 of 5 cells" in Path("results/x/table.md").read_text()
    frame = pd.read_csv("results/x/table.csv")
    assert set(frame["learner.maml.inner_lr"].dropna()) == {0.1, 0.2}
    assert set(frame[frame.learner == "maml inner_lr=0.2"]["learner.maml.inner_lr"]) == {0.2}


@pytest.mark.usefixtures("_ray")
def test_cells_with_actors_and_cells_side_by_side_give_the_numbers_of_one_process(monkeypatch):
    argv = ["--learner", "finetune", "multitask"]
    assert played_locally("run", *argv, epochs=2) == 0
    text = settings(2, "finetune", "multitask")
    assert play_on_ray(text, workers=2) == 0
    assert_same(records("x"), records("run"))
    assert_same(table_of("x"), table_of("run"))
    # As many cells as CPUs: a plain run takes the same path, a process and a CPU each.
    monkeypatch.setattr("harness.experiments.run.available_cpus", lambda: 2)
    assert play("beside", *argv, epochs=2) == 0
    assert_same(records("beside"), records("run"))


@pytest.mark.usefixtures("_ray")
def test_asha_stops_what_does_worst_and_says_so():
    # After 2 iterations 1.0 is behind the others on validation tasks.
    text = settings(3) + (
        "sweep:\n  learner.maml.learning_rate: [0.001, 0.3, 1.0]\n"
        "tune: {scheduler: asha, grace_env_steps: 256, reduction_factor: 2, workers_per_cell: 0,"
        " max_concurrent: 1}\n"
    )
    Path("x.yaml").write_text(text)
    assert sweep.main(["x.yaml"]) == 0
    found = states()
    ((stopped, (_, reason)),) = [item for item in found.items() if item[1][0] == "stopped"]
    assert stopped.endswith(".learning_rate-1")
    assert reason == "by asha after 2 iterations, 256 environment steps"
    assert not Path(f"results/x/cells/{stopped}/records.parquet").exists()
    assert "**STOPPED:** a scheduler stopped 1 of 3 cells" in Path("results/x/table.md").read_text()
    assert pd.read_csv("results/x/table.csv").seeds_stopped.sum() == 1
    assert sweep.main(["results/x", "--resume"]) == 0
    assert states() == found


def start(*argv):
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "harness.sweep", *argv]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def iterations():
    """How many iterations of all cells together a checkpoint holds."""
    newest = {}
    for path in Path("results/x/cells").glob("*/checkpoints/*.safetensors"):
        number = int(path.stem.rpartition("-")[2])
        newest[path.parent] = max(number, newest.get(path.parent, 0))
    return sum(newest.values())


def wait_for_more(process, before):
    deadline = time.monotonic() + PATIENCE
    while iterations() <= before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.faults
def test_a_sweep_whose_driver_is_stopped_and_killed_goes_on_where_it_was():
    """Nothing of ours is left behind, nothing of Tune's is believed, no iteration done again."""
    epochs = 8
    assert played_locally("run", "--seeds", "0", "1", epochs=epochs) == 0
    text = settings(epochs) + "sweep:\n  seed: [0, 1]\n"
    Path("x.yaml").write_text(f"{text}tune: {{workers_per_cell: 0, max_concurrent: 1}}\n")
    process, seen = start("x.yaml"), 0
    for number, code in ((signal.SIGTERM, 4), (signal.SIGKILL, -signal.SIGKILL)):
        wait_for_more(process, seen)
        assert iterations() > seen, "it did not get on in time"
        ours = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, error
        assert "Traceback" not in error
        assert "running" in {status for status, _ in states().values()}
        seen = iterations()
        _, left = psutil.wait_procs(ours, timeout=90)
        assert not left, "a process of ours outlived the driver"
        for path in Path("results/x/.tune").rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        process = start("results/x", "--resume")
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    assert_same(records("x"), records("run"))
    assert_same(table_of("x"), table_of("run"))
    for curve in read_curves(Path("results/x")).values():
        assert [row.iteration for row in curve] == list(range(1, epochs + 1))
    assert not Path("results/x/.tune").exists()
