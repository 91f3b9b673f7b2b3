"""Actors and nodes that die while a sweep is played, and how long one cell takes to recover.

Two nodes with one CPU each beside a head without (``ray.cluster_utils.Cluster``, Ray's own
settings), so driver and learners are on another node than the workers. A sweep of twelve tiny
cells is played undisturbed and again with rollout actors, a learner, a cell's process and a node
killed at random moments (a fresh node joins at once). Then one cell by itself: the longest time
between two checkpoints around a death, with a checkpoint after every iteration.

    python benchmarks/deaths.py [--epochs 40] [--seed 0] [--skip-sweep]
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pandas as pd
import psutil
from nodes import add_node, cluster, environment
from ray.cluster_utils import Cluster
from sweep_faults import SETTINGS, equal, records, show, sweep_command, timed, write_cells

DEATHS = ("rollout actor", "learner", "rollout actor", "cell's process", "node")
TITLES = {
    "rollout actor": "ray::Worker",
    "learner": "ray::LearnerHost",
    "cell's process": "ray::ImplicitFunc",
}
"""How Ray names the processes of those that may be killed."""
PATIENCE = 300.0


def kill(what: str, made: Cluster, rng: random.Random) -> None:
    """Kill one of ``what``, as soon as there is one; for a lost node a fresh one joins at once."""
    if what == "node":
        lost = rng.choice(sorted(made.worker_nodes, key=lambda node: node.unique_id))
        made.remove_node(lost, allow_graceful=False)
        add_node(made)
        return
    deadline = time.monotonic() + PATIENCE
    while not (found := _named(TITLES[what])):
        if time.monotonic() > deadline:
            sys.exit(f"no {what} to kill in {PATIENCE:g} s")
        time.sleep(0.1)
    rng.choice(found).kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40, help="outer iterations of a cell")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--skip-sweep", action="store_true", help="the single cell alone")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="deaths-") as folder:
        os.chdir(folder)
        if not given.skip_sweep:
            write_cells(given.epochs, workers=1)
            sweep(rng)
        for what in ("rollout actor", "learner", "node", "driver"):
            seconds, usual = recovery(what, rng)
            print(f"{what:14} dead: {seconds:5.1f} s between checkpoints, usually {usual:.1f} s")


def sweep(rng: random.Random) -> None:
    """Play the sweep undisturbed and disturbed; print what it took and whether it is the same."""
    print("12 cells, 1 worker a cell, 2 nodes")
    with cluster(nodes=2) as made:
        whole = timed(lambda: playing("whole", made).check())
        show("sweep, undisturbed", whole, whole)
    with cluster(nodes=2) as made:
        hurt = timed(lambda: disturbed(made, rng))
        show(f"the same with {len(DEATHS)} deaths", hurt, whole)
    print(f"killed: {', '.join(DEATHS)}")
    print("cells equal to the undisturbed sweep's, bit for bit: ", end="")
    print(equal(records("whole"), records("hurt")))
    logs = Path("results/hurt").rglob("events.jsonl")
    told = Counter(kind for log in logs for kind in pd.read_json(log, lines=True)["kind"])
    print("told in events.jsonl:", ", ".join(f"{kind} {n}" for kind, n in sorted(told.items())))


def disturbed(made: Cluster, rng: random.Random) -> None:
    """Play the sweep and kill on the way: somebody after every second cell that is done."""
    play = playing("hurt", made)
    for number, what in enumerate(DEATHS, 1):
        while _cells_done("hurt") < 2 * number - 1:
            time.sleep(0.1)
            if play.process.poll() is not None:
                play.check()
                sys.exit(f"it ended before a {what} was killed")
        time.sleep(rng.uniform(0, 5))
        kill(what, made, rng)
    play.check()


def _cells_done(name: str) -> int:
    found = Path("results", name, "cells").glob("*/state.json")
    cells = (path for path in found if ".reference." not in path.parent.name)
    return sum('"status": "ok"' in path.read_text() for path in cells)


def recovery(what: str, rng: random.Random) -> tuple[float, float]:
    """Return the longest time between checkpoints around a death, and the usual one."""
    name = what.replace(" ", "-")
    argv = [*SETTINGS, "--policy", "gru", "--learner", "maml", "--epochs", "10000", "--name", name]
    argv += ["--checkpoint-every", "1", "--num-workers", "2"]
    with cluster(nodes=2) as made:
        argv += ["--address", made.address]
        play = Play(argv)
        moments = [play.next_checkpoint(name) for _ in range(8)]
        usual = statistics.median(b - a for a, b in pairwise(moments[2:]))
        if what == "driver":
            play.kill()
            play = Play([*argv, "--resume"])
        else:
            kill(what, made, rng)
        moments = moments[-1:] + [play.next_checkpoint(name) for _ in range(6)]
        play.kill()
    return max(b - a for a, b in pairwise(moments)), usual


class Play:
    """A command that plays; what it said is shown where it failed."""

    def __init__(self, argv: list[str]) -> None:
        self._argv, self._log = argv, Path(f"{time.monotonic_ns()}.log")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment())
        atexit.register(self.kill)  # where the benchmark gives up

    def check(self) -> None:
        """Wait for its end."""
        if self.process.wait():
            sys.exit(f"{' '.join(self._argv)}\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def next_checkpoint(self, name: str) -> float:
        """Wait for the next checkpoint of the run ``name``; return the moment."""
        seen, deadline = _newest(name), time.monotonic() + PATIENCE
        while _newest(name) == seen:
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"no checkpoint came\n{self._log.read_text()[-3000:]}")
            time.sleep(0.01)
        return time.monotonic()


def playing(name: str, made: Cluster) -> Play:
    """Start the sweep on the nodes."""
    return Play(sweep_command(name, "--address", made.address))


def _named(title: str) -> list[psutil.Process]:
    """Return the processes below this one that Ray has named so."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith(title) or " ".join(process.cmdline()).startswith(title):
                found.append(process)
    return found


def _newest(name: str) -> str:
    return max(
        (path.name for path in Path("results", name).glob("cells/*/checkpoints/*.json")), default=""
    )


if __name__ == "__main__":
    main()
