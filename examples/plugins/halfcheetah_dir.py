"""HalfCheetah that has to run forward or backward (ProMP, arXiv 1810.06784): two tasks.

The robot, its physics and the reward formula are the harness's; this file adds a family of tasks.
"""

from dataclasses import dataclass
from typing import ClassVar

from task_distributions.base import SPLITS, EnvSpec, FloatArray, Positive, Split, Task
from task_distributions.locomotion.distributions import Locomotion
from task_distributions.locomotion.envs import Family
from task_distributions.locomotion.rewards import Reward
from task_distributions.locomotion.robots import HALFCHEETAH
from task_distributions.task_lists import resolve_horizon

NAME = "halfcheetah-dir"
DIRECTIONS = (1.0, -1.0)
"""The parameter of the two tasks; the reward is the velocity times it."""


def _speed_along(velocity: FloatArray, goals: FloatArray) -> FloatArray:
    """Return the rewards [B] of velocities [B, 1] and goals [B, 1]."""
    return velocity[:, 0] * goals[:, 0]


@dataclass(frozen=True)
class HalfCheetahDir(Locomotion):
    """The same two tasks in every split."""

    shared_tasks: ClassVar[bool] = True


@dataclass(frozen=True)
class HalfCheetahDirSettings:
    """Settings of ``halfcheetah-dir``."""

    horizon: Positive | None = None
    """Control steps per episode; 200 if not given."""
    control_cost: float = 0.1
    """Weight of the squared actions in the reward."""


def halfcheetah_dir(settings: HalfCheetahDirSettings = HalfCheetahDirSettings()) -> HalfCheetahDir:
    """Return the distribution."""
    reward = Reward(_speed_along, lambda direction: (direction,), settings.control_cost)
    horizon = resolve_horizon(settings.horizon, 200)
    return HalfCheetahDir(
        name=NAME,
        version=1,
        spec=EnvSpec(HALFCHEETAH.obs_dim, HALFCHEETAH.action_dim, horizon),
        task_lists={split: _tasks(split) for split in SPLITS if split != "ood"},
        family=Family(HALFCHEETAH, "direction", reward),
        formula=f"reward +-v - {settings.control_cost:g}|a|^2, forward or backward",
        bounds=None,
    )


def _tasks(split: Split) -> tuple[Task, ...]:
    return tuple(
        Task(NAME, 1, split, index, f"{split}/{index}", (("direction", direction),))
        for index, direction in enumerate(DIRECTIONS)
    )


RECIPES = {"halfcheetah_dir": {"components": {"maml": {"meta_batch_size": 10}}}}
"""What suits the distribution better than the defaults, by the name it is called by."""
