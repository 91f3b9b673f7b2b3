"""finetune: multitask, then one plain gradient step per shot on the test task.

The control that tells whether meta-learning beats plain fine-tuning.
"""

from __future__ import annotations

from harness.meta.learners.ppo import PPOLearner
from harness.meta.problem import Problem


def build(problem: Problem) -> PPOLearner:
    """Build the learner that trains as multitask does and is scored with gradient steps."""
    config = problem.config
    return PPOLearner(
        problem=problem,
        name="finetune",
        adapter="gradient",
        episodes_in_sequence=1,
        episodes_per_task=config.train.episodes_per_task,
    )
