"""Cost of actors and nodes that die during a sweep, and how long one cell takes to recover.

Two nodes with one CPU each beside a head without (``ray.cluster_utils.Cluster``, Ray's own
settings): driver and learners are on another node than the workers. A sweep of twelve tiny cells is
run undisturbed, and again with rollout actors, a learner, a cell's process and a node killed at
random moments; a new node joins at once. Then one cell on its own, with a checkpoint after every
iteration: the longest time between two checkpoints around a death.

    python benchmarks/deaths.py [--epochs 40] [--seed 0] [--skip-sweep]
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pandas as pd
import psutil
from common import Command, add_node, cluster, harness, parser
from ray.cluster_utils import Cluster
from sweep_faults import num_equal, records, run_sweep, timed, write_settings

from harness.reporting.store.manifest import RUN_FILE, Manifest

DEATHS = ("rollout actor", "learner", "rollout actor", "cell's process", "node")
TITLES = {
    "rollout actor": "ray::Worker",
    "learner": "ray::LearnerHost",
    "cell's process": "ray::ImplicitFunc",
}
"""Ray's names for the processes that are killed."""
PATIENCE_SECONDS = 300.0


def kill(victim: str, nodes: Cluster, rng: random.Random) -> None:
    """Kill one ``victim`` as soon as there is one; a lost node is replaced at once."""
    if victim == "node":
        lost = rng.choice(sorted(nodes.worker_nodes, key=lambda node: node.unique_id))
        nodes.remove_node(lost, allow_graceful=False)
        add_node(nodes)
        return
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (processes := _named(TITLES[victim])):
        if time.monotonic() > deadline:
            sys.exit(f"no {victim} to kill in {PATIENCE_SECONDS:g} s")
        time.sleep(0.1)
    rng.choice(processes).kill()


def _named(title: str) -> list[psutil.Process]:
    """Return the descendants of this process that Ray has given this title."""
    processes = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith(title) or " ".join(process.cmdline()).startswith(title):
                processes.append(process)
    return processes


def compare_sweeps(rng: random.Random) -> None:
    """Run the sweep undisturbed and disturbed; print the cost and whether the records agree."""
    print("12 cells, 1 worker a cell, 2 nodes")
    with cluster(nodes=2) as nodes:
        whole = timed(lambda: run_sweep("whole", "--address", nodes.address))
    whole.show("sweep, undisturbed", whole)
    with cluster(nodes=2) as nodes:
        hurt = timed(lambda: run_disturbed(nodes, rng))
    hurt.show(f"sweep with {len(DEATHS)} deaths", whole)
    same = num_equal(records("whole"), records("hurt"))
    print(f"killed: {', '.join(DEATHS)}\ncells identical to the undisturbed sweep's: {same}")
    kinds = Counter(pd.read_json("results/hurt/events.jsonl", lines=True)["kind"])
    print("events:", ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))


def run_disturbed(nodes: Cluster, rng: random.Random) -> None:
    """Run the sweep and kill something after every second finished cell."""
    sweep = harness("sweep", "sweep.yaml", "--name", "hurt", "--address", nodes.address)
    for number, victim in enumerate(DEATHS, 1):
        while _cells_done("hurt") < 2 * number - 1:
            time.sleep(0.1)
            if sweep.process.poll() is not None:
                sweep.fail(f"ended before a {victim} was killed")
        time.sleep(rng.uniform(0, 5))
        kill(victim, nodes, rng)
    sweep.check()


def _cells_done(name: str) -> int:
    folder = Path("results", name)
    return len(Manifest.load(folder).ids("ok")) if (folder / RUN_FILE).exists() else 0


def recovery(victim: str, rng: random.Random) -> tuple[float, float]:
    """Return the longest time between checkpoints around a death, and the usual time."""
    name = victim.replace(" ", "-")
    argv = ["--config", "run.yaml", "--policy", "gru", "--learner", "maml", "--seed", 0]
    argv += ["--epochs", 10_000, "--name", name, "--checkpoint-every", 1, "--num-workers", 2]
    with cluster(nodes=2) as nodes:
        argv += ["--address", nodes.address]
        run = harness("run", *argv)
        moments = [next_checkpoint(name, run) for _ in range(8)]
        usual = statistics.median(b - a for a, b in pairwise(moments[2:]))
        if victim == "driver":
            run.kill()
            run = harness("run", "--resume", name)
        else:
            kill(victim, nodes, rng)
        moments = moments[-1:] + [next_checkpoint(name, run) for _ in range(6)]
        run.kill()
    return max(b - a for a, b in pairwise(moments)), usual


def next_checkpoint(name: str, run: Command) -> float:
    """Wait for the next checkpoint of ``name``; return the moment."""
    before, deadline = _newest(name), time.monotonic() + PATIENCE_SECONDS
    while _newest(name) == before:
        if run.process.poll() is not None or time.monotonic() > deadline:
            run.fail("no checkpoint was written")
        time.sleep(0.01)
    return time.monotonic()


def _newest(name: str) -> str:
    checkpoints = Path("results", name).glob("cells/*/checkpoints/*.safetensors")
    return max((path.name for path in checkpoints), default="")


def main() -> None:
    """Measure and print."""
    args = parser(__doc__)
    args.add_argument("--epochs", type=int, default=40, help="outer iterations of a cell")
    args.add_argument("--seed", type=int, default=0, help="seed of the moments and the victims")
    args.add_argument("--skip-sweep", action="store_true", help="recovery of a single cell only")
    args.add_argument(
        "--victims", nargs="*", default=["rollout actor", "learner", "node", "driver"]
    )
    given = args.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="deaths-") as folder:
        os.chdir(folder)
        write_settings(given.epochs, workers=1)
        if not given.skip_sweep:
            compare_sweeps(rng)
        for victim in given.victims:
            longest, usual = recovery(victim, rng)
            print(f"{victim:14} dead: {longest:5.1f} s between checkpoints, usually {usual:.1f} s")


if __name__ == "__main__":
    main()
