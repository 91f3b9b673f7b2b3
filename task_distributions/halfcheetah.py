"""Gymnasium's HalfCheetah-v5, unchanged: a single task for plain training, not one of the ten.

Every split holds the same MDP, so scores measure the policy and not its generalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from task_distributions.base import SPLITS, EnvSpec, Positive, Split, Task
from task_distributions.locomotion.distributions import Locomotion
from task_distributions.locomotion.envs import Family
from task_distributions.locomotion.rewards import forward
from task_distributions.locomotion.robots import HALFCHEETAH
from task_distributions.recipes import for_ppo
from task_distributions.task_lists import resolve_horizon

__all__ = ["RECIPES", "HalfCheetahSettings", "halfcheetah"]

HORIZON = 1000
"""Gymnasium's own limit."""


@dataclass(frozen=True)
class HalfCheetahSettings:
    """Settings of ``halfcheetah``."""

    horizon: Positive | None = None
    """Control steps per episode; 1000 if not given."""


@dataclass(frozen=True)
class OneTask(Locomotion):
    """A locomotion distribution with the same task in every split."""

    shared_tasks: ClassVar[bool] = True


def halfcheetah(settings: HalfCheetahSettings = HalfCheetahSettings()) -> OneTask:
    """Run as fast as possible: Gymnasium's HalfCheetah-v5 for plain reinforcement learning.

    Every split holds the same task, so scores measure the policy and not its generalisation. An
    action beyond [-1, 1] costs its whole square. Episodes never terminate.
    """
    params = (("gravity_scale", 1.0),)  # no change, the same in all lists
    lists: dict[Split, tuple[Task, ...]] = {
        split: (Task("halfcheetah", 1, split, 0, f"{split}/0", params),)
        for split in SPLITS
        if split != "ood"
    }
    # As in HalfCheetah-v5, an action beyond [-1, 1] costs its whole square.
    reward = forward(control_cost=0.1)
    family = Family(HALFCHEETAH, "gravity_scale", reward, action_limit=math.inf)
    horizon = resolve_horizon(settings.horizon, HORIZON)
    spec = EnvSpec(HALFCHEETAH.obs_dim, HALFCHEETAH.action_dim, horizon)
    return OneTask("halfcheetah", 1, spec, lists, family, "reward v - 0.1|a|^2, one task", None)


def _budget(env_steps: int, meta_batch_size: int, query_episodes: int) -> dict[str, Any]:
    return {
        "train": {"env_steps": env_steps},
        "components": {"maml": {"meta_batch_size": meta_batch_size, "episodes_per_task": 4}},
        "evaluation": {"query_episodes": query_episodes},
    }


# One task and long episodes: PPO's usual discount, and few episodes per iteration.
_SIZE = {"episodes_per_iteration": 16, "tasks_per_iteration": 16, "minibatches": 8}
RECIPES: dict[str, dict[str, Any]] = {
    "halfcheetah": {
        "components": {
            "maml": {"action_scale": 1.0, "init_std": 1.0},
            **for_ppo(**_SIZE, gamma=0.99, bptt_steps=100),
        },
        "evaluation": {"zero_shot": True, "query_episodes": 10},
        "min_jobs": 2,
        "presets": {
            "smoke": _budget(64_000, 2, 2),
            "quick": _budget(2_000_000, 10, 10),
            "standard": _budget(5_000_000, 10, 10),
            "paper": _budget(10_000_000, 10, 10),
        },
    }
}
"""Settings that suit this distribution; see ``task_distributions.recipe``."""
