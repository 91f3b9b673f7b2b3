"""maml: the reward objective through the inner update (arXiv 1703.03400, 1810.06784)."""

from __future__ import annotations

from harness.meta.cell_setup import CellSetup
from harness.meta.learners.policy_gradient import PolicyGradientLearner


def build(problem: CellSetup) -> PolicyGradientLearner:
    """Build the learner that trains for K gradient steps, one per shot."""
    config = problem.config
    return PolicyGradientLearner(
        problem=problem,
        name="maml",
        adapter="memory+gradient" if problem.inputs.context else "gradient",
        adaptation_steps=config.adapt.adaptation_steps,
        episodes_per_task=config.train.episodes_per_task,
    )
