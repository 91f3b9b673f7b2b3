"""Bytes sent between actors in one iteration, per worker, as Ray pickles them.

One real iteration on halfcheetah-vel in this process. Every message that Ray would send is pickled
as Ray does it (cloudpickle, protocol 5, buffers out of band) and its bytes are counted, without
Ray's own few hundred bytes per call. Episodes are short: their length changes no message. The bytes
per worker are those of one job, since no more workers than jobs are of use.

    python benchmarks/traffic.py [--policy ssm gru] [--learner maml rl2] [flags of harness.run]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ray.cloudpickle
from common import parser
from tabulate import tabulate

from harness.cli.parser import load_config
from harness.config.schema import RunConfig
from harness.execution.backend import Handle, Work
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.execution.ray import backend, serialization
from harness.execution.worker import Receipt
from harness.meta.learners.base import RequestKind

KINDS = ("parameters", "gradient", "report", "job", "receipt")


def size(value: Any) -> int:
    """Return the bytes of ``value`` as an argument or result of a Ray call."""
    buffers: list[Any] = []
    message = ray.cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return len(message) + sum(buffer.raw().nbytes for buffer in buffers)


class CountingBackend(LocalBackend):
    """Counts the bytes of every message instead of sending it."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.largest: Counter[str] = Counter()
        """Bytes of the largest message of each kind."""
        self.total: Counter[str] = Counter()
        """Bytes ``out`` to the workers and ``in`` from them."""
        self.requests = self.jobs = 0

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Run the jobs here and count what would have been sent."""
        receipts, results = super().run(work, on_done)
        self.requests, self.jobs = self.requests + 1, len(work.jobs)
        answer = "report" if work.request.kind is RequestKind.COLLECT else "gradient"
        for job, receipt, result in zip(work.jobs, receipts, results, strict=True):
            self._count("parameters", work.request.payload, "out")
            self._count("job", job, "out")
            self._count("receipt", receipt, "in")
            self._count(answer, result, "in")
        return receipts, results

    def _count(self, kind: str, value: Any, direction: str) -> None:
        count = size(value)
        self.largest[kind] = max(count, self.largest[kind])
        self.total[direction] += count


def measure(learner: str, policy: str, flags: Sequence[str]) -> CountingBackend:
    """Run one iteration and return the backend with its counts."""
    names = ["--task-dist", "halfcheetah-vel", "--learner", learner, "--policy", policy]
    config = load_config([*names, "--horizon", "10", *flags])
    counting = CountingBackend(config)
    (cell,) = config.cells
    runner = CellRunner(build_setup(cell, config), config, counting)
    next(iter(runner.train(counting.start_learner(cell, None), 0, 0.0)))
    return counting


def main() -> None:
    """Count and print the table; unknown flags go to harness.run's configuration."""
    args = parser(__doc__)
    args.add_argument("--policy", nargs="+", default=["ssm"])
    args.add_argument("--learner", nargs="+", default=["maml", "rl2"])
    options, flags = args.parse_known_args()
    backend.connect(None)
    serialization.install_tensor_serializer()
    rows = []
    for learner in options.learner:
        for policy in options.policy:
            one = measure(learner, policy, flags)
            sizes = [one.largest[kind] for kind in KINDS]
            totals = [one.total[way] for way in ("out", "in")]
            per_job = [f"{count / one.jobs / 1e6:.2f}" for count in totals]
            totals = [f"{count / 1e6:.2f}" for count in totals]
            rows.append([learner, policy, one.jobs, one.requests, *sizes, *totals, *per_job])
    headers = ["learner", "policy", "jobs", "requests", *(f"{kind} B" for kind in KINDS)]
    headers += ["out MB", "in MB", "out MB /\nworker", "in MB /\nworker"]
    print(tabulate(rows, headers))


if __name__ == "__main__":
    main()
