"""Gymnasium's HalfCheetah-v5 as it is: one task, not one of the ten; for plain training.

Train and test hold the same MDP: what is measured is the policy, not how it generalises.
"""

from __future__ import annotations

from task_distributions.base import SPLITS, EnvSpec, Split, Task
from task_distributions.locomotion import Locomotion
from task_distributions.locomotion_envs import Family
from task_distributions.locomotion_rewards import forward
from task_distributions.robots import HALFCHEETAH
from task_distributions.task_lists import check_horizon

__all__ = ["halfcheetah"]

HORIZON = 1000
"""Gymnasium's own limit."""


def halfcheetah(horizon: int | None = None) -> Locomotion:
    """Run as fast as possible; ``horizon`` control steps per episode, 1000 if None."""
    # The one number that tells tasks apart is the same in both: gravity as it is.
    params = (("gravity_scale", 1.0),)
    lists: dict[Split, tuple[Task, ...]] = {
        split: (Task("halfcheetah", 1, split, 0, f"{split}/0", params),) for split in SPLITS
    }
    return Locomotion(
        name="halfcheetah",
        version=1,
        family=Family(HALFCHEETAH, "gravity_scale", forward(control_cost=0.1)),
        formula="reward v - 0.1|a|^2, one task",
        bounds=None,
        spec=EnvSpec(HALFCHEETAH.obs_dim, HALFCHEETAH.action_dim, check_horizon(horizon, HORIZON)),
        _lists=lists,
    )
