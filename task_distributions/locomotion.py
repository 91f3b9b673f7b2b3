"""The six locomotion distributions, as MuJoCo engine and Gymnasium v5 robots define them.

The velocity families follow ProMP (arXiv 1810.06784) and PEARL (arXiv 1903.08254): targets from
U[0, 3], horizon 200, 100 training and 30 test tasks. The healthy bonus of their falling robots is
the largest target, so that living never scores below dying.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np

from task_distributions.base import EnvSpec, Split, Task
from task_distributions.locomotion_envs import (
    Family,
    LocomotionBatch,
    LocomotionEnv,
    scale_gravity,
    scale_mass,
)
from task_distributions.locomotion_rewards import forward, heading, tracking
from task_distributions.robots import ANT, HALFCHEETAH, WALKER2D
from task_distributions.task_lists import check_horizon, check_own, check_split, draw_tasks

__all__ = [
    "Locomotion",
    "ant_dir",
    "ant_mass",
    "ant_vel",
    "halfcheetah_gravity",
    "halfcheetah_vel",
    "walker2d_vel",
]

HORIZON = 200
"""Control steps per episode, unless the caller overrides it."""


@dataclass(frozen=True)
class Locomotion:
    """One locomotion distribution: a family of tasks on one robot."""

    name: str
    version: int
    family: Family
    formula: str
    """The reward per step and what varies, for captions."""
    bounds: tuple[float, float] | None
    """The task parameter is drawn from U[low, high); None where the tasks are enumerated."""
    spec: EnvSpec
    _lists: dict[Split, tuple[Task, ...]] = field(repr=False)

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: {self.family.robot.name}, MuJoCo {mujoco.__version__}, "
            f"{self.formula}, {self.spec.horizon} steps"
        )

    def tasks(self, split: Split) -> tuple[Task, ...]:
        """Return the fixed list of tasks of one split."""
        check_split(split)
        return self._lists[split]

    def make_env(self, task: Task, *, render_mode: str | None = None) -> LocomotionEnv:
        """Return the ordinary Gymnasium environment of one task."""
        check_own(self.name, self.version, [task])
        return LocomotionEnv(self.family, self.spec, task, render_mode)

    def make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> LocomotionBatch:
        """Return the batched engine of the same MDPs."""
        check_own(self.name, self.version, tasks)
        return LocomotionBatch(self.family, self.spec, tasks, episodes_per_task)

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float | None:
        """Return what running at the median target for free would score; None without targets.

        The start from rest and the control cost are left out: no fixed speed reaches it.
        """
        if self.family.parameter != "velocity":
            return None
        targets = np.array([task.param("velocity") for task in tasks])
        distance = np.abs(targets - np.median(targets)).mean()
        return float(self.spec.horizon * (self.family.reward.bonus - distance))


def _build(
    name: str,
    family: Family,
    formula: str,
    bounds: tuple[float, float],
    horizon: int | None,
    version: int = 1,
) -> Locomotion:
    robot = family.robot
    return Locomotion(
        name=name,
        version=version,
        family=family,
        formula=formula,
        bounds=bounds,
        spec=EnvSpec(robot.obs_dim, robot.action_dim, check_horizon(horizon, HORIZON)),
        _lists=draw_tasks(name, version, family.parameter, *bounds),
    )


def halfcheetah_vel(horizon: int | None = None) -> Locomotion:
    """Run at a target speed; the field's standard (ProMP, PEARL, VariBAD)."""
    family = Family(HALFCHEETAH, "velocity", tracking(control_cost=0.05))
    formula = "reward -|v - v*| - 0.05|a|^2, v* ~ U[0, 3] m/s"
    return _build("halfcheetah-vel", family, formula, (0.0, 3.0), horizon)


def ant_vel(horizon: int | None = None) -> Locomotion:
    """Run along x at a target speed without falling."""
    family = Family(ANT, "velocity", tracking(control_cost=0.005, bonus=3.0))
    formula = "reward -|v_x - v*| + 3 - 0.005|a|^2, v* ~ U[0, 3] m/s"
    return _build("ant-vel", family, formula, (0.0, 3.0), horizon)


def walker2d_vel(horizon: int | None = None) -> Locomotion:
    """Walk at a target speed without falling."""
    family = Family(WALKER2D, "velocity", tracking(control_cost=0.001, bonus=3.0))
    formula = "reward -|v - v*| + 3 - 0.001|a|^2, v* ~ U[0, 3] m/s"
    return _build("walker2d-vel", family, formula, (0.0, 3.0), horizon)


def ant_dir(horizon: int | None = None) -> Locomotion:
    """Run as fast as possible in a given direction of the plane."""
    family = Family(ANT, "angle", heading(control_cost=0.5, bonus=1.0))
    formula = "reward v.(cos t, sin t) + 1 - 0.5|a|^2, t ~ U[0, 2 pi)"
    return _build("ant-dir", family, formula, (0.0, 2.0 * math.pi), horizon)


def halfcheetah_gravity(horizon: int | None = None) -> Locomotion:
    """Run as fast as possible under another gravity."""
    family = Family(HALFCHEETAH, "gravity_scale", forward(control_cost=0.1), scale_gravity)
    formula = "reward v - 0.1|a|^2, gravity x U[0.5, 1.5]"
    return _build("halfcheetah-gravity", family, formula, (0.5, 1.5), horizon)


def ant_mass(horizon: int | None = None) -> Locomotion:
    """Run along x as fast as possible with heavier or lighter bodies."""
    family = Family(ANT, "mass_scale", forward(control_cost=0.5, bonus=1.0), scale_mass)
    formula = "reward v_x + 1 - 0.5|a|^2, mass and inertia x U[0.5, 1.5]"
    return _build("ant-mass", family, formula, (0.5, 1.5), horizon)
