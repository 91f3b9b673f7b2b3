"""Scores on validation tasks while a cell trains: a few tasks and episodes, every number of shots.

They have a branch of the seed tree of their own and change no bit of the training. The episodes are
the same every time, so differences between two points of a curve are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.config.protocol import first_goals, has_classes
from harness.config.schema import EvalConfig, RunConfig
from harness.execution.scoring import support_episodes
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.types import EvalRecord
from task_distributions import TaskDistribution

AUTO_PARTS = 8
AUTO_LEAST = 20_000
AUTO_SHARE = 8
"""``auto`` scores after each eighth of the budget, but no more often than after these environment
steps, or this many times the steps of one scoring. In the published cells that took 0.1 to 7.0 % of
the time of training (median 2 %; ``seconds_validation`` of their curves), of finetune up to 10.9 %.
"""
SUPPORT_EPISODES = 4
"""Most support episodes of a shot."""


def interval(setup: CellSetup, config: RunConfig) -> int | None:
    """Return the environment steps from one scoring to the next; None without any."""
    every = config.execution.eval_every
    if every == "never" or not setup.dist.tasks("validation"):
        return None
    if isinstance(every, int):
        return every
    per_iteration = learners.build(setup).episodes_per_iteration * setup.dist.spec.horizon
    planned = setup.budget.iterations(per_iteration) * per_iteration
    return max(AUTO_LEAST, planned // AUTO_PARTS, AUTO_SHARE * scoring_steps(setup, config))


def scoring_steps(setup: CellSetup, config: RunConfig) -> int:
    """Return the environment steps of one scoring if no episode ends early."""
    evaluation = evaluation_of(config.evaluation)
    support = support_episodes(evaluation, setup.scoring_adapter()) * evaluation.shots[-1]
    tasks = tasks_of(setup.dist, config.execution.eval_tasks)
    return len(tasks) * (support + len(evaluation.shots)) * setup.dist.spec.horizon


def evaluation_of(evaluation: EvalConfig) -> EvalConfig:
    """Return how validation tasks are scored in a run that scores its tasks by ``evaluation``."""
    support = min(SUPPORT_EPISODES, evaluation.episodes_per_shot)
    return replace(evaluation, episodes_per_shot=support, query_episodes=1)


def tasks_of(dist: TaskDistribution, count: int) -> tuple[int, ...]:
    """Return the indices of ``count`` validation tasks, of as many classes as possible."""
    tasks = dist.tasks("validation")
    if not has_classes(dist):
        return tuple(range(min(count, len(tasks))))
    firsts = first_goals(tasks, range(len(tasks)), 1)
    chosen = np.linspace(0, len(firsts), min(count, len(firsts)), endpoint=False).astype(int)
    return tuple(firsts[place] for place in chosen)


def summary(records: Sequence[EvalRecord], *, success: bool) -> dict[str, float]:
    """Return ``return_K`` for every K, and ``success_K``: means over tasks; NaN where none."""
    found: dict[str, float] = {}
    for shots in sorted({record.shots for record in records}):
        valid = [r for r in records if r.shots == shots and not r.invalid]
        returns, successes = ([getattr(r, n) for r in valid] for n in ("return_", "success"))
        found[f"return_{shots}"] = float(np.mean(returns)) if valid else float("nan")
        if success:
            found[f"success_{shots}"] = float(np.mean(successes)) if valid else float("nan")
    return found
