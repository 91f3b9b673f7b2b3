"""Sweeps on a real Ray: cells with actors, asha, and the driver stopped and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

import harness.reporting.rebuild
import harness.reporting.sweeps
from harness.cli import sweep
from harness.reporting.store.records import read_curves
from tests.harness.execution.execution_cases import assert_same, played_locally, records
from tests.harness.experiments.sweep_cases import SETTINGS, play_on_ray, states, swept

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 240
"""Seconds that a busy machine may take to start a driver and its Ray."""


@pytest.fixture(autouse=True)
def _here(monkeypatch, workplace):
    for module in (harness.reporting.rebuild, harness.reporting.sweeps):
        monkeypatch.setattr(module, "write_figures", lambda *_: None)
    monkeypatch.setattr("harness.experiments.sweep_run.available_cpus", lambda: 4)


def table_of(name):
    return pd.read_csv(f"results/{name}/table.csv").drop(columns="wall_seconds")


@pytest.mark.usefixtures("_ray")
def test_a_sweep_of_cells_with_actors_gives_the_numbers_of_a_run():
    argv = ["--learner", "finetune", "multitask"]
    assert played_locally("run", *argv, epochs=2) == 0
    text = SETTINGS % 2 + "sweep:\n  policy: [mlp]\n  learner: [finetune, multitask]\n"
    assert play_on_ray(text, workers=2) == 0
    assert_same(swept(), records("run"))
    assert_same(table_of("x"), table_of("run"))


@pytest.mark.usefixtures("_ray")
def test_asha_stops_what_does_worst_and_says_so():
    # After 2 iterations 0.3 is behind 0.001, and 1.0 is ahead.
    text = SETTINGS % 3 + (
        "sweep:\n  policy: [mlp]\n  train.outer_lr: [0.001, 0.3, 1.0]\n"
        "tune: {scheduler: asha, grace_env_steps: 256, reduction_factor: 2, workers_per_cell: 0,"
        " max_concurrent: 1}\n"
    )
    Path("x.yaml").write_text(text)
    assert sweep.main(["x.yaml"]) == 0
    found = states()
    (stopped,) = [key for key, state in found.items() if state.status == "stopped"]
    assert stopped.endswith(".outer_lr-0.3")
    assert found[stopped].reason == "by asha after 2 iterations, 256 environment steps"
    assert not list(Path(f"results/x/cells/{stopped}/records").glob("*.mlp.*"))
    assert "STOPPED:** 1 of 3 cells" in Path("results/x/table.md").read_text()
    assert pd.read_csv("results/x/table.csv").seeds_stopped.sum() == 1
    assert sweep.main(["x.yaml", "--resume"]) == 0
    assert states() == found


def start(*argv):
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "harness.sweep", "x.yaml", *argv]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def iterations():
    """How many iterations of all cells together a checkpoint holds."""
    newest = {}
    for path in Path("results/x/cells").glob("*/checkpoints/*/*.json"):
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
    text = SETTINGS % epochs + "sweep:\n  policy: [mlp]\n  seed: [0, 1]\n"
    Path("x.yaml").write_text(f"{text}tune: {{workers_per_cell: 0, max_concurrent: 1}}\n")
    process, seen = start(), 0
    for number, code in ((signal.SIGTERM, 4), (signal.SIGKILL, -signal.SIGKILL)):
        wait_for_more(process, seen)
        assert iterations() > seen, "it did not get on in time"
        ours = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, error
        assert "Traceback" not in error
        assert "running" in {state.status for state in states().values()}
        seen = iterations()
        _, left = psutil.wait_procs(ours, timeout=90)
        assert not left, "a process of ours outlived the driver"
        for path in Path("results/x/.tune").rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        process = start("--resume")
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    assert_same(swept(), records("run"))
    assert_same(table_of("x"), table_of("run"))
    for cell in Path("results/x/cells").iterdir():
        (curve,) = read_curves(cell).values()
        assert [row.iteration for row in curve] == list(range(1, epochs + 1))
    assert not Path("results/x/.tune").exists()
