"""What a sweep costs: against one process, and against being killed three times on the way.

Twelve tiny cells (point_goal) are played by ``harness.sweep``, by ``harness.run`` in one process
and on Ray, and by a sweep whose driver is killed with SIGKILL at three random moments and resumed
each time. Prints wall times as ratios to the undisturbed sweep, the share of the cores that was
idle, whether the records are the same cell by cell, and how long the killed driver's processes
lived on.

    python benchmarks/sweep_faults.py [--epochs 60] [--workers 0] [--kills 3] [--skip-runs]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
from nodes import environment, played

from harness.reporting.store.records import read_records

POLICIES = ["mlp", "gru"]
LEARNERS = ["maml", "multitask"]
SEEDS = [0, 1, 2]
FILE = """
base:
  task_dist: point_goal
  env: {{horizon: 10, test_tasks: [0, 1, 2, 3, 4]}}
  train: {{epochs: {epochs}, meta_batch_size: 8, episodes_per_task: 5}}
  ppo: {{ppo_passes: 1, ppo_minibatches: 2}}
  evaluation: {{few_shot: [1], episodes_per_shot: 4, query_episodes: 2}}
  execution: {{checkpoint_every: 2}}
sweep:
  policy: [{policies}]
  learner: [{learners}]
  seed: [{seeds}]
tune:
  workers_per_cell: {workers}
"""
SETTINGS = [
    *(sys.executable, "-m", "harness.run", "--task-dist", "point_goal", "--horizon", "10"),
    *(
        "--test-tasks",
        "0",
        "1",
        "2",
        "3",
        "4",
        "--meta-batch-size",
        "8",
        "--episodes-per-task",
        "5",
    ),
    *("--ppo-passes", "1", "--ppo-minibatches", "2"),
    *("--few-shot", "1", "--episodes-per-shot", "4", "--query-episodes", "2"),
]
"""The command that plays one cell of the file, without what tells it from the others."""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
VARIABLE = ["run", "adapt_seconds"]
"""Columns of records that measure time or name the folder."""


@dataclass(frozen=True, slots=True)
class Took:
    """What one way to play the cells took."""

    seconds: float
    idle: float
    """Share of all cores' time, 0 to 1; of the whole machine, so nothing else may run on it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60, help="outer iterations of a cell")
    parser.add_argument("--workers", type=int, default=0, help="rollout actors of a cell")
    parser.add_argument("--kills", type=int, default=3, help="times the driver is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--skip-runs", action="store_true", help="compare sweeps alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-faults-") as folder:
        os.chdir(folder)
        write_cells(given.epochs, given.workers)
        compare(given)


def write_cells(epochs: int, workers: int) -> None:
    """Write the sweep file of the twelve cells here."""
    text = FILE.format(
        epochs=epochs,
        policies=", ".join(POLICIES),
        learners=", ".join(LEARNERS),
        seeds=", ".join(map(str, SEEDS)),
        workers=workers,
    )
    Path("cells.yaml").write_text(text)


def compare(given: argparse.Namespace) -> None:
    """Play all four ways, then print the ratios."""
    print(f"12 cells, {given.epochs} iterations each, {given.workers} workers a cell")
    whole = timed(lambda: played(sweep_command("whole")))
    show("sweep, undisturbed", whole, whole)
    runs = (
        {}
        if given.skip_runs
        else {"local": "harness.run, one process", "ray": "harness.run on Ray"}
    )
    for backend, name in runs.items():
        command = run_command(given.epochs, backend, "--backend", backend)
        show(name, timed(partial(played, command)), whole)
    moments: list[float] = []
    lived: list[float] = []
    killed = timed(lambda: kill_on_the_way(given, whole.seconds, moments, lived))
    show(f"sweep, killed {len(lived)} times, resumed", killed, whole)
    print(
        f"killed after {', '.join(f'{s:.1f}' for s in moments)} s of playing; the last process of"
    )
    print(f"each killed driver was gone after {', '.join(f'{s:.1f}' for s in lived)} s")
    reference = records("whole")
    for name in ("killed", *runs):
        same = equal(reference, records(name))
        print(f"cells of {name} equal to the undisturbed sweep's, bit for bit: {same}")


def show(name: str, took: Took, whole: Took) -> None:
    """Print one line of the table."""
    ratio = took.seconds / whole.seconds
    print(f"{name:33} {took.seconds:7.1f} s  {ratio:5.2f}  idle {took.idle:4.0%}", flush=True)


def sweep_command(name: str, *more: str) -> list[str]:
    """Return the command that plays the sweep below ``results/name``."""
    return [sys.executable, "-m", "harness.sweep", "cells.yaml", "--name", name, *more]


def run_command(epochs: int, name: str, *more: str) -> list[str]:
    """Return the command that plays the same cells one after the other."""
    cells = ["--policy", *POLICIES, "--learner", *LEARNERS, "--seeds", *map(str, SEEDS)]
    return [
        *SETTINGS,
        "--epochs",
        str(epochs),
        *cells,
        "--checkpoint-every",
        "2",
        "--name",
        name,
        *more,
    ]


def timed(play: Callable[[], object]) -> Took:
    """Return what a call takes."""
    before, began = psutil.cpu_times(), time.monotonic()
    play()
    seconds, after = time.monotonic() - began, psutil.cpu_times()
    unused = after.idle + after.iowait - before.idle - before.iowait
    return Took(seconds, unused / (seconds * psutil.cpu_count()))


def kill_on_the_way(
    given: argparse.Namespace, whole: float, moments: list[float], lived: list[float]
) -> None:
    """Play the sweep, its driver killed at random moments; add those, and how long others lived."""
    rng = random.Random(given.seed)
    more: list[str] = []
    with Path("killed.log").open("w") as log:
        for _ in range(given.kills):
            moment = rng.uniform(0.3, 0.9) / given.kills * whole  # before the end, all together
            process = subprocess.Popen(
                sweep_command("killed", *more), stdout=log, stderr=log, env=environment()
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                sys.exit(f"it ended before it was killed, with {process.wait(timeout=moment)}")
            moments.append(moment)
            lived.append(kill(process))
            more = ["--resume"] if Path("results/killed/run.json").exists() else []
    played(sweep_command("killed", *more))


def kill(process: subprocess.Popen[bytes]) -> float:
    """Kill a driver; return the seconds until nothing of it was left but Ray's idle agents."""
    ours = [p for p in psutil.Process(process.pid).children(recursive=True) if not _is_agent(p)]
    os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    process.wait()
    _, left = psutil.wait_procs(ours, timeout=90)
    if left:
        sys.exit(f"processes outlived the driver: {left}")
    return time.monotonic() - began


def _is_agent(process: psutil.Process) -> bool:
    """Return whether it serves Ray's own pages: those look once a minute whether Ray is there."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).startswith(AGENTS)
    return False


def records(name: str) -> dict[str, pd.DataFrame]:
    """Return the records of every cell, reference lines left out."""
    frame = read_records(Path("results") / name).drop(columns=VARIABLE)
    frame = frame[frame["learner"] != "reference"]
    return {str(cell): part.reset_index(drop=True) for cell, part in frame.groupby("cell")}


def equal(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> str:
    """Return how many cells have the same records, to the last bit."""
    same = sum(cell in right and part.equals(right[cell]) for cell, part in left.items())
    return f"{same} of {len(left)}"


if __name__ == "__main__":
    main()
