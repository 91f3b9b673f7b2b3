"""scratch: random weights, then one plain gradient step per shot on the test task."""

from __future__ import annotations

from harness.meta.learners.ppo import PPOLearner
from harness.meta.problem import Problem


def build(problem: Problem) -> PPOLearner:
    """Build the learner without an outer loop."""
    config = problem.config
    return PPOLearner(
        problem=problem,
        name="scratch",
        adapter="gradient",
        episodes_in_sequence=1,
        episodes_per_task=config.train.episodes_per_task,
    )
