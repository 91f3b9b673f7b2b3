"""oracle: multitask with the task as an input: what knowing the task from the start is worth."""

from __future__ import annotations

from harness.meta.learners.ppo import PPOLearner
from harness.meta.problem import Problem


def build(problem: Problem) -> PPOLearner:
    """Build the learner whose policy is told the task."""
    config = problem.config
    return PPOLearner(
        problem=problem,
        name="oracle",
        adapter="none",
        episodes_in_sequence=1,
        episodes_per_task=config.train.episodes_per_task,
    )
