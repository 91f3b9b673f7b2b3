"""Whole meta-training iterations as a share of raw ``mj_step``, and where their time goes.

One core: halfcheetah-vel, exact second-order MAML or PPO, interleaved with the raw physics loop.
Run: ``python benchmarks/iteration.py --policies ssm gru --learner maml rl2 --shares``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial

from contest import HEADER, RAW, Contender, Running, compare
from rollouts import random_controller, raw


def config_for(policy: str, learner: str, options: argparse.Namespace):  # noqa: ANN201 - see below
    """The measured iteration: 5 tasks x 20 episodes x 200 steps, support and query; PPO's own."""
    from harness.config.schema import RunConfig, TrainConfig

    train = TrainConfig(
        epochs=10**6,  # far from the end, where PPO's step size is 0
        meta_batch_size=5,
        episodes_per_task=20,
        outer_steps=options.outer_steps,
        first_order=options.first_order,
    )
    names = {"task_dist": "halfcheetah-vel", "policy": (policy,), "learner": (learner,)}
    return RunConfig(**names, least_jobs=1, train=train)


def iterations(policy: str, learner_name: str, options: argparse.Namespace) -> Running:
    """Meta-iterations in one process, without Ray."""
    from harness.execution.cell import CellRunner, cells
    from harness.execution.cell_setup import build_setup
    from harness.execution.local import LocalBackend

    config = config_for(policy, learner_name, options)
    cell = cells(config)[0]
    backend = LocalBackend(config)
    runner = CellRunner(build_setup(cell, config), config, backend)
    learner = backend.start_learner(cell, None)
    before = 0

    def advance() -> int:
        nonlocal before
        metrics = next(iter(runner.train(learner, 0, 0.0)))
        if options.shares and before:
            wall = metrics.seconds["wall"]
            parts = (f"{k} {v / wall:.0%}" for k, v in metrics.seconds.items() if k != "wall")
            print(f"  {learner_name} {policy}: {', '.join(parts)}", flush=True)
        steps, before = metrics.env_steps - before, metrics.env_steps
        return steps

    return Running(advance, warm_up=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", nargs="+", default=["ssm", "lstm", "gru", "transformer"])
    parser.add_argument("--learner", nargs="+", default=["maml"])
    parser.add_argument("--outer-steps", type=int, default=1, help="of maml")
    parser.add_argument(
        "--first-order", action="store_true", help="maml without second derivatives"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="raw physics per policy")
    parser.add_argument(
        "--shares", action="store_true", help="print where each iteration's time went"
    )
    options = parser.parse_args(argv)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    print(
        f"maml: outer steps {options.outer_steps}, "
        f"{'first' if options.first_order else 'second'} order; PPO: its defaults"
    )
    print(HEADER)
    for policy in options.policies:
        crowd = [Contender(RAW, partial(raw, "halfcheetah", random_controller), 1)]
        crowd += [
            Contender(f"{learner} {policy}", partial(iterations, policy, learner, options), 1)
            for learner in options.learner
        ]
        for line in compare(crowd, options.seconds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
