"""Parts of the recipes that distributions declare; see ``task_distributions.recipe``."""

from __future__ import annotations

from typing import Any

__all__ = ["for_ppo"]

PPO_LEARNERS = ("rl2", "multitask", "finetune", "scratch", "oracle")


def for_ppo(**settings: Any) -> dict[str, dict[str, Any]]:
    """Return the same settings for every built-in learner that PPO trains."""
    return {learner: settings for learner in PPO_LEARNERS}
