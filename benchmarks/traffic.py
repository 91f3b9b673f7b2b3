"""What crosses between actors in one iteration: bytes as Ray pickles them, by direction.

One real iteration on halfcheetah-vel in this process; every message that Ray would carry is
pickled as Ray does it (cloudpickle, protocol 5, buffers out of band) and its bytes are counted.
Ray's own envelope of a few hundred bytes a call is not in it. The length of an episode changes no
message, so short ones do. Run:
``python benchmarks/traffic.py --policy ssm gru --learner maml rl2``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ray.cloudpickle

from harness.cli import parser
from harness.config.schema import RunConfig
from harness.execution.backend import Handle, Work
from harness.execution.cell import CellRunner, cells
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.execution.ray import backend, serialization
from harness.execution.worker import Receipt
from harness.meta.learners.base import RequestKind
from harness.meta.learners.sums import FAN_IN, add, groups

HEADER = (
    "learner      policy        jobs  requests  parameters B  gradient B  report B  job B  "
    "receipt B   out MB    in MB  in, summed MB"
)


def size(value: Any) -> int:
    """Return the bytes of ``value`` as an argument or result of a Ray call."""
    buffers: list[Any] = []
    inside = ray.cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return len(inside) + sum(buffer.raw().nbytes for buffer in buffers)


class Scale(LocalBackend):
    """Weighs every message instead of sending it."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.one: dict[str, int] = {}
        """Bytes of one message of each kind, the largest seen."""
        self.total: Counter[str] = Counter()
        self.requests = self.jobs = 0

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Do the jobs here; weigh what would have gone to the workers and come back."""
        receipts, results = super().run(work, on_done)
        self.requests, self.jobs = self.requests + 1, len(work.jobs)
        answer = "report" if work.request.kind is RequestKind.COLLECT else "gradient"
        for job, receipt, result in zip(work.jobs, receipts, results, strict=True):
            self._weigh("payload", work.request.payload, "out")
            self._weigh("job", job, "out")
            self._weigh("receipt", receipt, "in")
            self._weigh(answer, result, "in")
        summed = list(results)
        while work.request.summable and len(summed) > FAN_IN:
            summed = [add(*group) for group in groups(summed)]
        self.total["summed"] += sum(map(size, (*summed, *receipts)))
        return receipts, results

    def _weigh(self, what: str, value: Any, way: str) -> None:
        weight = size(value)
        self.one[what] = max(weight, self.one.get(what, 0))
        self.total[way] += weight


def weighed(learner: str, policy: str, more: Sequence[str]) -> Scale:
    """Play one iteration and return the scale."""
    argv = [
        "--task-dist",
        "halfcheetah-vel",
        "--horizon",
        "10",
        "--learner",
        learner,
        "--policy",
        policy,
        *more,
    ]
    config = parser.load_config(argv)
    backend = Scale(config)
    (cell,) = cells(config)
    runner = CellRunner(build_setup(cell, config), config, backend)
    next(iter(runner.train(backend.start_learner(cell, None), 0, 0.0)))
    return backend


def main(argv: Sequence[str] | None = None) -> None:
    """Weigh and print the table; flags it does not know go to harness.run's configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", nargs="+", default=["ssm"])
    parser.add_argument("--learner", nargs="+", default=["maml", "rl2"])
    options, more = parser.parse_known_args(argv)
    backend.connect(None)
    serialization.tensors_as_arrays()
    print(HEADER)
    for learner in options.learner:
        for policy in options.policy:
            scale = weighed(learner, policy, more)
            one, total = scale.one, scale.total
            print(
                f"{learner:12} {policy:12} {scale.jobs:5} {scale.requests:9} {one['payload']:13} "
                f"{one['gradient']:11} {one['report']:9} {one['job']:6} {one['receipt']:10} "
                f"{total['out'] / 1e6:8.2f} {total['in'] / 1e6:8.2f} {total['summed'] / 1e6:14.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
