"""Whole meta-training iterations as a share of raw ``mj_step``, and where their time goes.

One core, halfcheetah-vel, exact second-order MAML or PPO; rounds alternate with the raw loop.

    python benchmarks/iteration.py [--policies ssm gru] [--learner maml rl2] [--shares]
"""

from __future__ import annotations

import argparse
from functools import partial

from common import RAW, Contender, Running, parser, print_contest
from rollouts import raw


def iterations(policy: str, learner_name: str, options: argparse.Namespace) -> Running:
    """Meta-iterations in one process.

    maml plays 5 tasks x 20 episodes x 200 steps, support and query; the others 50 episodes.
    """
    from harness.config.precedence import resolve
    from harness.execution.cell import CellRunner
    from harness.execution.cell_setup import build_setup
    from harness.execution.local import LocalBackend

    maml = {
        "meta_batch_size": 5,
        "episodes_per_task": 20,
        "outer_updates": options.outer_updates,
        "first_order": options.first_order,
    }
    config = resolve(
        {
            "task_dist": "halfcheetah-vel",
            "policy": [policy],
            "learner": {learner_name: maml if learner_name == "maml" else {}},
            "min_jobs": 1,
            "train": {"meta_iterations": 10**6},  # far from the end, where PPO's step size is 0
        }
    )
    (cell,) = config.cells
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


def main() -> None:
    """Measure and print the table."""
    args = parser(__doc__)
    args.add_argument("--policies", nargs="+", default=["ssm", "lstm", "gru", "transformer"])
    args.add_argument("--learner", nargs="+", default=["maml"])
    args.add_argument("--outer-updates", type=int, default=1, help="maml's, per iteration")
    args.add_argument("--first-order", action="store_true", help="maml without second derivatives")
    args.add_argument("--seconds", type=float, default=4.0, help="raw physics per policy")
    args.add_argument("--shares", action="store_true", help="print where an iteration's time went")
    options = args.parse_args()
    groups = {
        policy: [
            Contender(RAW, partial(raw, "halfcheetah"), 1),
            *(
                Contender(f"{learner} {policy}", partial(iterations, policy, learner, options), 1)
                for learner in options.learner
            ),
        ]
        for policy in options.policies
    }
    print_contest(groups, options.seconds)


if __name__ == "__main__":
    main()
