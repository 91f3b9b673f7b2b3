"""What a sweep costs: against one process, and against being killed three times on the way.

Twelve tiny cells (point_goal) are played by ``harness.sweep``, by ``harness.run`` in one process
and on Ray, and by a sweep whose driver is killed with SIGKILL at three random moments and resumed
each time. Prints wall times as ratios to the undisturbed sweep, whether the records are the same
cell by cell, and how long the killed driver's processes lived on.

    python benchmarks/sweep_faults.py [--epochs 40] [--workers 0] [--seed 0]
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
from pathlib import Path

import pandas as pd
import psutil

from harness.reporting.records import read_records

POLICIES = ["mlp", "gru"]
LEARNERS = ["maml", "multitask"]
SEEDS = [0, 1, 2]
FILE = """
base:
  task_dist: point_goal
  env: {{horizon: 10, test_tasks: [0, 1, 2, 3, 4]}}
  train: {{epochs: {epochs}, meta_batch_size: 8, episodes_per_task: 5}}
  evaluation: {{few_shot: [1], episodes_per_shot: 4, query_episodes: 2}}
  execution: {{checkpoint_every: 2}}
sweep:
  policy: [{policies}]
  learner: [{learners}]
  seed: [{seeds}]
tune:
  workers_per_cell: {workers}
"""
VARIABLE = ["run", "adapt_seconds"]
"""Columns of records that measure time or name the folder."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40, help="outer iterations of a cell")
    parser.add_argument("--workers", type=int, default=0, help="rollout actors of a cell")
    parser.add_argument("--kills", type=int, default=3, help="times the driver is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory(prefix="sweep-faults-") as folder:
        os.chdir(folder)
        text = FILE.format(
            epochs=given.epochs,
            policies=", ".join(POLICIES),
            learners=", ".join(LEARNERS),
            seeds=", ".join(map(str, SEEDS)),
            workers=given.workers,
        )
        Path("cells.yaml").write_text(text)
        compare(given)


def compare(given: argparse.Namespace) -> None:
    """Play all four ways, then print the ratios."""
    one_process = timed(*run_command(given, "one", "--backend", "local"))
    on_ray = timed(*run_command(given, "ray", "--backend", "ray"))
    whole = timed(*sweep_command("whole"))
    killed, lived, alive = kill_on_the_way(given, whole)
    print(f"12 cells, {given.epochs} iterations each, {given.workers} workers a cell")
    print(f"sweep, undisturbed                {whole:7.1f} s   1.00")
    for name, seconds in (
        ("harness.run, one process", one_process),
        ("harness.run on Ray, all workers", on_ray),
        (f"sweep, killed {alive} times, resumed", killed),
    ):
        print(f"{name:33} {seconds:7.1f} s   {seconds / whole:.2f}")
    print(f"processes of a killed driver lived on for {', '.join(f'{s:.1f}' for s in lived)} s")
    reference = records("whole", sweep=True)
    print(
        f"cells equal to the undisturbed sweep's: {equal(reference, records('killed', sweep=True))}"
    )
    print(f"cells equal to harness.run's: {equal(reference, records('one', sweep=False))}")


def sweep_command(name: str, *more: str) -> list[str]:
    """Return the command that plays the sweep below ``results/name``."""
    return [sys.executable, "-m", "harness.sweep", "cells.yaml", "--name", name, *more]


def run_command(given: argparse.Namespace, name: str, *more: str) -> list[str]:
    """Return the command that plays the same cells one after the other."""
    settings = [
        *("--task-dist", "point_goal", "--horizon", "10", "--test-tasks", "0", "1", "2", "3", "4"),
        *("--epochs", str(given.epochs), "--meta-batch-size", "8", "--episodes-per-task", "5"),
        *("--few-shot", "1", "--episodes-per-shot", "4", "--query-episodes", "2"),
        *("--policy", *POLICIES, "--learner", *LEARNERS, "--seeds", *map(str, SEEDS)),
        *("--checkpoint-every", "2", "--name", name, *more),
    ]
    return [sys.executable, "-m", "harness.run", *settings]


def timed(*command: str) -> float:
    """Return the seconds that a command takes."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def kill_on_the_way(given: argparse.Namespace, whole: float) -> tuple[float, list[float], int]:
    """Return the total seconds, how long processes lived on, and how often it was killed."""
    rng = random.Random(given.seed)
    lived: list[float] = []
    more: list[str] = []
    began = time.monotonic()
    with Path("killed.log").open("w") as log:
        for _ in range(given.kills):
            process = subprocess.Popen(sweep_command("killed", *more), stdout=log, stderr=log)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(timeout=rng.uniform(0.15, 0.6) * whole) == 0:
                    break
            lived.append(kill(process))
            more = ["--resume"] if Path("results/killed/sweep.json").exists() else []
        else:
            subprocess.run(sweep_command("killed", *more), check=True, stdout=log, stderr=log)
    return time.monotonic() - began, lived, len(lived)


def kill(process: subprocess.Popen[bytes]) -> float:
    """Kill a driver; return the seconds until none of its processes was left."""
    ours = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    process.wait()
    psutil.wait_procs(ours, timeout=90)
    return time.monotonic() - began


def records(name: str, *, sweep: bool) -> dict[str, pd.DataFrame]:
    """Return the records of every cell, reference lines left out."""
    folder = Path("results") / name
    folders = sorted((folder / "cells").iterdir()) if sweep else [folder]
    frame = pd.concat([read_records(path) for path in folders]).drop(columns=VARIABLE)
    frame = frame[frame["learner"] != "reference"]
    return {str(cell): part.reset_index(drop=True) for cell, part in frame.groupby("cell")}


def equal(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> str:
    """Return how many cells have the same records, to the last bit."""
    same = sum(cell in right and part.equals(right[cell]) for cell, part in left.items())
    return f"{same} of {len(left)}"


if __name__ == "__main__":
    main()
