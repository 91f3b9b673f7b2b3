"""multitask: PPO on all training tasks at once, without adaptation, on the same number of steps.

The control that tells whether meta-learning did anything.
"""

from __future__ import annotations

from harness.meta.learners.ppo import PPOLearner
from harness.meta.problem import Problem


def build(problem: Problem) -> PPOLearner:
    """Build the learner that trains one policy for all tasks."""
    config = problem.config
    return PPOLearner(
        problem=problem,
        name="multitask",
        adapter="none",
        episodes_in_sequence=1,
        episodes_per_task=config.train.episodes_per_task,
    )
