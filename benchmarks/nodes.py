"""One run on 1, 2 and 4 nodes of one machine: what more nodes cost without more cores.

Every node is a raylet of its own (``ray.cluster_utils.Cluster``) with one rollout worker; driver
and learner sit on a head without CPUs, so all data crosses between nodes. The nodes share this
machine's cores and its loopback: figures beyond its cores are overhead, not speed-up. Runs
interleave; an iteration's time is the median over rounds and iterations, the first left out. Idle
is the share of the workers' time in which they had nothing to do: transport, the learner, waiting.

    python benchmarks/nodes.py [--learner maml rl2] [--nodes 1 2 4] [--rounds 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from ray.cluster_utils import Cluster

ROOT = Path(__file__).parents[1]
STORE = 80 * 1024**2
"""Bytes of shared memory of a node."""
WORK = [
    *("--task-dist", "halfcheetah-vel", "--policy", "gru", "--few-shot", "1"),
    *("--epochs", "5", "--meta-batch-size", "20", "--episodes-per-task", "4"),
    *("--envs-per-job", "20", "--episodes-per-shot", "1", "--query-episodes", "1"),
    *("--test-tasks", "0"),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--learner", nargs="+", default=["maml", "rl2"])
    parser.add_argument("--nodes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    seconds: dict[tuple[str, int], list[Iteration]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="nodes-") as folder:
        os.chdir(folder)
        for number in range(given.rounds):
            for nodes in (0, *given.nodes):
                found = iterations(f"on-{nodes}-{number}", given.learner, nodes)
                for learner, times in found.items():
                    seconds[learner, nodes] += times
                told = ", ".join(f"{k} {median(v):.2f} s" for k, v in found.items())
                print(f"round {number}, {nodes or 'no'} nodes: {told}", flush=True)
    print(f"{'learner':10} {'nodes':>9}  s an iteration  against one process   idle")
    for (learner, nodes), times in seconds.items():
        wall, alone = median(times), median(seconds[learner, 0])
        idle = statistics.median(one.idle for one in times)
        label = str(nodes) if nodes else "none"
        print(f"{learner:10} {label:>9}  {wall:14.2f}  {wall / alone:19.2f}  {idle:5.0%}")


class Iteration(NamedTuple):
    """What one took: seconds, and the share of the workers' time in which they were idle."""

    wall: float
    idle: float


def median(times: list[Iteration]) -> float:
    """Return the median seconds."""
    return statistics.median(one.wall for one in times)


def iterations(name: str, learners: list[str], nodes: int) -> dict[str, list[Iteration]]:
    """Play one run on so many nodes, 0 for one process; return what each iteration took."""
    argv = [sys.executable, "-m", "harness.run", *WORK, "--learner", *learners, "--name", name]
    if not nodes:
        played([*argv, "--backend", "local"])
    else:
        with cluster(nodes) as made:
            played([*argv, "--address", made.address, "--num-workers", str(nodes)])
    found = {}
    for learner in learners:
        (curve,) = Path("results", name, "curves").glob(f"*.{learner}.*.parquet")
        table = pd.read_parquet(curve)[1:]
        pairs = zip(table["seconds_wall"], table["seconds_idle"], strict=True)
        found[learner] = [Iteration(wall, idle / wall / max(1, nodes)) for wall, idle in pairs]
    return found


def played(argv: list[str]) -> None:
    """Run a command; what it said is shown where it failed."""
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")


def environment() -> dict[str, str]:
    """Return the environment of a command that finds the harness from another folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def add_node(made: Cluster) -> None:
    """Let a node of one CPU join."""
    made.add_node(num_cpus=1, object_store_memory=STORE)


@contextmanager
def cluster(nodes: int) -> Iterator[Cluster]:
    """Start a head without CPUs and ``nodes`` of one CPU; end them whatever happens."""
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            add_node(made)
        yield made
    finally:
        for node in list(made.worker_nodes):  # at once: each would drain for half a minute
            made.remove_node(node, allow_graceful=False)
        made.shutdown()


if __name__ == "__main__":
    main()
