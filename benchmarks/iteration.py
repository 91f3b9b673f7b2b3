"""Whole meta-training iterations as a share of raw ``mj_step``, and where their time goes.

One core: halfcheetah-vel, exact second-order MAML, in interleaved rounds with the raw physics loop.
Run: ``python benchmarks/iteration.py --policies ssm gru --outer-steps 1``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial

from contest import HEADER, RAW, Contender, Running, compare
from rollouts import random_controller, raw


def config_for(policy: str, outer_steps: int, first_order: bool):  # noqa: ANN201 - see the import
    """The measured iteration: 5 tasks x 20 episodes x 200 steps, support and query."""
    from harness.config import RunConfig, TrainConfig

    train = TrainConfig(
        epochs=1,
        meta_batch_size=5,
        episodes_per_task=20,
        outer_steps=outer_steps,
        first_order=first_order,
    )
    return RunConfig(task_dist="halfcheetah-vel", policy=(policy,), train=train)


def iterations(policy: str, outer_steps: int, first_order: bool, shares: bool) -> Running:
    """Meta-iterations in one process, without Ray."""
    from harness.execution.cell import CellRunner, cells
    from harness.execution.local import LocalBackend
    from harness.meta.problem import Problem

    config = config_for(policy, outer_steps, first_order)
    cell = cells(config)[0]
    backend = LocalBackend(config)
    runner = CellRunner(Problem.build(cell, config), backend)
    learner = backend.start_learner(cell, None)
    before = 0

    def advance() -> int:
        nonlocal before
        metrics = next(iter(runner.train(learner, 0, 0.0)))
        if shares and before:
            wall = metrics.seconds["wall"]
            parts = (f"{k} {v / wall:.0%}" for k, v in metrics.seconds.items() if k != "wall")
            print(f"  {policy}: {', '.join(parts)}", flush=True)
        steps, before = metrics.env_steps - before, metrics.env_steps
        return steps

    return Running(advance, warm_up=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", nargs="+", default=["ssm", "lstm", "gru", "transformer"])
    parser.add_argument("--outer-steps", type=int, default=1)
    parser.add_argument("--first-order", action="store_true")
    parser.add_argument("--seconds", type=float, default=4.0, help="raw physics per policy")
    parser.add_argument(
        "--shares", action="store_true", help="print where each iteration's time went"
    )
    options = parser.parse_args(argv)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    print(
        f"outer steps {options.outer_steps}, {'first' if options.first_order else 'second'} order"
    )
    print(HEADER)
    for policy in options.policies:
        start = partial(
            iterations, policy, options.outer_steps, options.first_order, options.shares
        )
        crowd = [
            Contender(RAW, partial(raw, "halfcheetah", random_controller), 1),
            Contender(f"maml {policy}", start, 1),
        ]
        for line in compare(crowd, options.seconds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
