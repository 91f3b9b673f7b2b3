"""One run on 1, 2 and 4 nodes of one machine: the cost of more nodes without more cores.

Every node is a raylet of its own (``ray.cluster_utils.Cluster``) with one rollout worker; driver
and learner are on a head without CPUs, so all data crosses between nodes. The nodes share this
machine's cores and its loopback: beyond its cores the figures show overhead, not speed-up. Runs
are interleaved; medians are over rounds and iterations, without the first iteration. Idle is the
share of the workers' time in which they compute nothing: transport, the learner, waiting.

    python benchmarks/nodes.py [--learner maml rl2] [--nodes 1 2 4] [--rounds 2]
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import yaml
from common import cluster, harness, parser

from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_curves

LEARNERS = {
    "maml": {"meta_batch_size": 20, "episodes_per_task": 4},
    "rl2": {"episodes_per_iteration": 160},
}
"""Learner -> its settings; both play 160 episodes an iteration."""
WORK = {
    "task_dist": "halfcheetah-vel",
    "policy": "gru",
    "learner": LEARNERS,
    "envs_per_job": 20,
    "test_tasks": [0],
    "evaluation": {"few_shot": [1], "episodes_per_shot": 1, "query_episodes": 1},
}


class Iteration(NamedTuple):
    """Cost of one iteration."""

    wall: float
    """Seconds."""
    idle: float
    """Share of the workers' time, 0 to 1."""


def run(name: str, learners: list[str], nodes: int, epochs: int) -> dict[str, list[Iteration]]:
    """Run on ``nodes`` nodes, or in one process for 0; return the iterations of each learner."""
    argv = ["--config", "run.yaml", "--learner", *learners, "--name", name, "--epochs", epochs]
    if nodes:
        with cluster(nodes) as started:
            harness("run", *argv, "--address", started.address, "--num-workers", nodes).check()
    else:
        harness("run", *argv, "--backend", "local").check()
    folder = Path("results", name)
    cells = Manifest.load(folder).cells
    iterations = {}
    for key, curve in read_curves(folder).items():
        pairs = [(one.seconds["wall"], one.seconds["idle"]) for one in curve[1:]]
        iterations[cells[key].learner] = [
            Iteration(wall, idle / wall / max(1, nodes)) for wall, idle in pairs
        ]
    return iterations


def main() -> None:
    """Measure and print the table."""
    args = parser(__doc__)
    args.add_argument("--learner", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    args.add_argument("--nodes", nargs="+", type=int, default=[1, 2, 4])
    args.add_argument("--rounds", type=int, default=2)
    args.add_argument("--epochs", type=int, default=5, help="iterations, at least 2")
    given = args.parse_args()
    iterations: dict[tuple[str, int], list[Iteration]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="nodes-") as folder:
        os.chdir(folder)
        Path("run.yaml").write_text(yaml.safe_dump(WORK))
        for turn in range(given.rounds):
            for nodes in (0, *given.nodes):
                measured = run(f"on-{nodes}-{turn}", given.learner, nodes, given.epochs)
                for learner, values in measured.items():
                    iterations[learner, nodes] += values
    print(f"{'learner':10} {'nodes':>9}  s an iteration  against one process   idle")
    wall = {key: statistics.median(one.wall for one in ones) for key, ones in iterations.items()}
    for (learner, nodes), ones in iterations.items():
        idle = statistics.median(one.idle for one in ones)
        ratio = wall[learner, nodes] / wall[learner, 0]
        label = nodes or "none"
        print(f"{learner:10} {label:>9}  {wall[learner, nodes]:14.2f}  {ratio:19.2f}  {idle:5.0%}")


if __name__ == "__main__":
    main()
