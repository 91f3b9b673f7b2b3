"""rl2: PPO over meta-episodes with memory (arXiv 1611.02779); what memory makes of them adapts."""

from __future__ import annotations

from harness.meta.cell_setup import CellSetup
from harness.meta.learners.ppo import PPOLearner


def build(problem: CellSetup) -> PPOLearner:
    """Build the learner whose policy is fed its past and remembers it across episodes."""
    config = problem.config
    return PPOLearner(
        problem=problem,
        name="rl2",
        adapter="memory",
        episodes_in_sequence=config.ppo.episodes_in_context,
        episodes_per_task=config.train.episodes_per_task,
    )
