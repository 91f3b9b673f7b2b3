"""Cost of killing a sweep's driver three times.

A sweep of twelve tiny cells (point_goal) runs undisturbed, and again with its driver killed by
SIGKILL at random moments and resumed each time. Prints wall times as ratios to the undisturbed
sweep, the idle share of the cores, whether the records agree cell by cell, and how long the killed
driver's processes survived it.

    python benchmarks/sweep_faults.py [--epochs 60] [--workers 0] [--kills 3]
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
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml
from common import harness, parser

from harness.reporting.store.manifest import RUN_FILE
from harness.reporting.store.records import read_records
from harness.types import REFERENCE

BASE: dict[str, Any] = {
    "task_dist": "point_goal",
    "env": {"horizon": 10},
    "test_tasks": [0, 1, 2, 3, 4],
    "policy": ["mlp", "gru"],
    "learner": {
        "maml": {"meta_batch_size": 8, "episodes_per_task": 5},
        "multitask": {"episodes_per_iteration": 80, "update_epochs": 1, "minibatches": 2},
    },
    "seed": [0, 1, 2],
    "evaluation": {"few_shot": [1], "episodes_per_shot": 4, "query_episodes": 2},
    "execution": {"checkpoint_every": 2},
}
"""Twelve cells."""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Serve Ray's own pages; they notice only once a minute that Ray is gone."""
VARIABLE = ["run", "adapt_seconds"]
"""Columns of records that hold a time or the name of the run."""


def write_settings(epochs: int, workers: int) -> None:
    """Write ``run.yaml`` and ``sweep.yaml``: the same cells for harness.run and harness.sweep."""
    base = BASE | {"train": {"meta_iterations": epochs}}
    sweep = {"base": base, "tune": {"workers_per_cell": workers}}
    Path("run.yaml").write_text(yaml.safe_dump(base))
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))


def run_sweep(name: str, *flags: object) -> None:
    """Run the sweep to its end in ``results/name``."""
    harness("sweep", "sweep.yaml", "--name", name, *flags).check()


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of running the cells."""

    seconds: float
    idle: float
    """Share of all cores' time, 0 to 1; of the whole machine, so nothing else may run on it."""

    def show(self, name: str, reference: Cost) -> None:
        """Print one line of the table."""
        ratio = self.seconds / reference.seconds
        print(f"{name:33} {self.seconds:7.1f} s  {ratio:5.2f}  idle {self.idle:4.0%}", flush=True)


def timed(work: Callable[[], object]) -> Cost:
    """Return the cost of a call."""
    before, start = psutil.cpu_times(), time.monotonic()
    work()
    seconds, after = time.monotonic() - start, psutil.cpu_times()
    unused = after.idle + after.iowait - before.idle - before.iowait
    return Cost(seconds, unused / (seconds * psutil.cpu_count()))


class KilledSweep:
    """A sweep whose driver is killed at random moments and resumed."""

    def __init__(self, kills: int, seed: int, seconds: float) -> None:
        rng = random.Random(seed)
        # Together they are shorter than the whole sweep.
        self.moments = [rng.uniform(0.3, 0.9) / kills * seconds for _ in range(kills)]
        self.survival: list[float] = []
        """Seconds until the last process of each killed driver was gone."""

    def run(self) -> None:
        """Run the sweep to its end."""
        flags: list[str] = []
        for moment in self.moments:
            command = harness("sweep", "sweep.yaml", "--name", "killed", *flags)
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.process.wait(timeout=moment)
                command.fail("ended before it was killed")
            self.survival.append(kill_driver(command.process))
            flags = ["--resume"] if Path("results/killed", RUN_FILE).exists() else []
        run_sweep("killed", *flags)


def kill_driver(driver: subprocess.Popen[bytes]) -> float:
    """Kill a driver; return the seconds until only Ray's idle agents are left of it."""
    children = psutil.Process(driver.pid).children(recursive=True)
    ours = [child for child in children if not _is_agent(child)]
    os.kill(driver.pid, signal.SIGKILL)
    start = time.monotonic()
    driver.wait()
    _, alive = psutil.wait_procs(ours, timeout=90)
    if alive:
        sys.exit(f"processes outlived the driver: {alive}")
    return time.monotonic() - start


def _is_agent(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).startswith(AGENTS)
    return False


def records(name: str) -> dict[str, pd.DataFrame]:
    """Return the records of every trained cell."""
    frame = read_records(Path("results", name)).drop(columns=VARIABLE)
    frame = frame[frame["learner"] != REFERENCE]
    return {str(cell): part.reset_index(drop=True) for cell, part in frame.groupby("cell")}


def num_equal(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> str:
    """Return how many cells have identical records."""
    same = sum(cell in right and part.equals(right[cell]) for cell, part in left.items())
    return f"{same} of {len(left)}"


def compare(given: argparse.Namespace) -> None:
    """Run the sweep both ways and print the ratio."""
    print(f"12 cells, {given.epochs} iterations each, {given.workers} workers a cell")
    whole = timed(lambda: run_sweep("whole"))
    whole.show("sweep, undisturbed", whole)
    killed = KilledSweep(given.kills, given.seed, whole.seconds)
    timed(killed.run).show(f"sweep, killed {given.kills} times, resumed", whole)
    print(f"killed after {', '.join(f'{s:.1f}' for s in killed.moments)} s; the last process of")
    print(f"each driver was gone after {', '.join(f'{s:.1f}' for s in killed.survival)} s")
    same = num_equal(records("whole"), records("killed"))
    print(f"cells identical to the undisturbed sweep's: {same}")


def main() -> None:
    """Measure and print."""
    args = parser(__doc__)
    args.add_argument("--epochs", type=int, default=60, help="outer iterations of a cell")
    args.add_argument("--workers", type=int, default=0, help="rollout actors of a cell")
    args.add_argument("--kills", type=int, default=3, help="times the driver is killed")
    args.add_argument("--seed", type=int, default=0, help="seed of the moments")
    given = args.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-faults-") as folder:
        os.chdir(folder)
        write_settings(given.epochs, given.workers)
        compare(given)


if __name__ == "__main__":
    main()
