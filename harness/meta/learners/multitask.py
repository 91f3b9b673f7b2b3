"""multitask: the same outer loop without an inner step, on the same number of environment steps.

The control that tells whether meta-learning did anything.
"""

from __future__ import annotations

from harness.meta.learners.policy_gradient import PolicyGradientLearner
from harness.meta.problem import Problem


def build(problem: Problem) -> PolicyGradientLearner:
    """Build the learner that trains one policy for all tasks."""
    config = problem.config
    batches = 1 + config.adapt.adaptation_steps
    return PolicyGradientLearner(
        problem=problem,
        name="multitask",
        adapter="none",
        adaptation_steps=0,
        episodes_per_task=batches * config.train.episodes_per_task,
    )
