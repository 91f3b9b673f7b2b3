"""The six locomotion distributions, on the MuJoCo robots of Gymnasium v5.

The velocity families follow ProMP (arXiv 1810.06784) and PEARL (arXiv 1903.08254): targets from
U[0, 3], horizon 200, 100 training and 30 test tasks. Tasks outside the training range (``ood``)
have targets from 3 to 4 m/s, or factors beyond both ends; directions have none. The healthy bonus
of the robots that can fall equals the largest target of training, so that to stand never scores
below falling; out of distribution, where targets are larger, it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from task_distributions.base import EnvSpec, Positive, Task
from task_distributions.locomotion.envs import (
    BatchedLocomotionEnv,
    Family,
    LocomotionEnv,
    scale_gravity,
    scale_gravity_log2,
    scale_mass,
    scale_sides,
)
from task_distributions.locomotion.rewards import (
    SPARSE_RADIUS,
    forward,
    heading,
    sparse_tracking,
    tracking,
)
from task_distributions.locomotion.robots import ANT, HALFCHEETAH, WALKER2D
from task_distributions.recipes import for_ppo
from task_distributions.task_lists import ListedTasks, TaskLists, draw_tasks, resolve_horizon

__all__ = [
    "ANT_RECIPE",
    "HORIZON",
    "RECIPES",
    "Locomotion",
    "LocomotionSettings",
    "ant_dir",
    "ant_mass",
    "ant_mass_1",
    "ant_vel",
    "halfcheetah_gravity",
    "halfcheetah_gravity_1",
    "halfcheetah_vel",
    "halfcheetah_vel_sparse",
    "locomotion",
    "walker2d_vel",
]

HORIZON = 200
"""Control steps per episode, unless the settings override it."""


@dataclass(frozen=True)
class LocomotionSettings:
    """Settings of a locomotion distribution."""

    horizon: Positive | None = None
    """Control steps per episode; 200 if not given."""


@dataclass(frozen=True)
class Locomotion(ListedTasks):
    """One locomotion distribution: a family of tasks on one robot."""

    family: Family
    formula: str
    """The reward per step and the varying parameter, for captions."""
    bounds: tuple[float, float] | None
    """Bounds of U[low, high), the distribution of the task parameter; None for listed tasks."""

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: {self.family.robot.name}, MuJoCo {mujoco.__version__}, "
            f"{self.formula}, {self.spec.horizon} steps"
        )

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float | None:
        """Return the score of running at the best fixed speed at no cost; None without targets.

        No fixed speed reaches it: acceleration from rest and the control cost are left out.
        """
        if self.family.parameter != "velocity":
            return None
        reward, goals = self.family.reward, self.family.goals(tasks)
        near = SPARSE_RADIUS * (1 - 1e-9)  # rounding must not put the best speed out of range
        fixed = np.concatenate([goals, goals - near, goals + near])
        best = max(reward.progress(np.broadcast_to(v, goals.shape), goals).mean() for v in fixed)
        return float(self.spec.horizon * (reward.bonus + best))

    def _make_env(self, task: Task, render_mode: str | None = None) -> LocomotionEnv:
        return LocomotionEnv(self.family, self.spec, task, render_mode)

    def _make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedLocomotionEnv:
        return BatchedLocomotionEnv(self.family, self.spec, tasks, episodes_per_task)


def locomotion(
    name: str,
    version: int,
    family: Family,
    formula: str,
    task_lists: TaskLists,
    horizon: int,
    bounds: tuple[float, float] | None = None,
) -> Locomotion:
    """Return the distribution of the tasks in ``task_lists``, as members of ``family``."""
    spec = EnvSpec(family.robot.obs_dim, family.robot.action_dim, horizon)
    return Locomotion(name, version, spec, task_lists, family, formula, bounds)


Bounds = tuple[float, float]
VELOCITY: Bounds = (0.0, 3.0)
FASTER: tuple[Bounds, ...] = ((3.0, 4.0),)
"""Target velocities in m/s, and those of the ``ood`` tasks."""
SCALE: Bounds = (0.5, 1.5)
BEYOND: tuple[Bounds, ...] = ((0.25, 0.5), (1.5, 2.0))
"""Factors of gravity or mass, and those of the ``ood`` tasks."""


def _draw(
    name: str,
    family: Family,
    formula: str,
    bounds: Bounds,
    settings: LocomotionSettings,
    outside: Sequence[Bounds] = (),
    version: int = 1,
) -> Locomotion:
    ood = [{family.parameter: each} for each in outside]
    lists = draw_tasks(name, version, {family.parameter: bounds}, ood)
    horizon = resolve_horizon(settings.horizon, HORIZON)
    return locomotion(name, version, family, formula, lists, horizon, bounds)


def halfcheetah_vel(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run at a target speed, which differs from task to task.

    Targets, control cost and horizon are those of ProMP, PEARL, VariBAD and AMAGO (Finn et al. 2017
    used U[0, 2]). v is the velocity along x over a control step and a the clipped action. Episodes
    never terminate. One reward reveals the target, so a policy with memory adapts within its first
    episode.
    """
    family = Family(HALFCHEETAH, "velocity", tracking(control_cost=0.05))
    formula = "reward -|v - v*| - 0.05|a|^2, v* ~ U[0, 3] m/s"
    return _draw("halfcheetah-vel", family, formula, VELOCITY, settings, FASTER)


def halfcheetah_vel_sparse(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run at a target speed that is rewarded only when it is nearly reached.

    The speed has to be searched for. Episodes never terminate.
    """
    family = Family(HALFCHEETAH, "velocity", sparse_tracking())
    formula = f"reward 1 - |v - v*| within {SPARSE_RADIUS} m/s of v*, else 0, v* ~ U[0, 3] m/s"
    return _draw("halfcheetah-vel-sparse", family, formula, VELOCITY, settings, FASTER)


def ant_vel(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run along x at a target speed without falling; the speed differs from task to task.

    The Ant is observed without contact forces (27 numbers), as in PEARL, and has no contact cost.
    Episodes terminate when the torso leaves heights from 0.2 to 1 m. The bonus of 3 equals the
    largest target of training, so that to stand never scores below falling; out of distribution,
    where targets are larger, it does.
    """
    family = Family(ANT, "velocity", tracking(control_cost=0.005, bonus=3.0))
    formula = "reward -|v_x - v*| + 3 - 0.005|a|^2, v* ~ U[0, 3] m/s"
    return _draw("ant-vel", family, formula, VELOCITY, settings, FASTER)


def walker2d_vel(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Walk at a target speed without falling; the speed differs from task to task.

    Episodes terminate when the torso leaves heights from 0.8 to 2 m or leans by more than 1 rad.
    The bonus of 3 equals the largest target of training, so that to stand never scores below
    falling; out of distribution, where targets are larger, it does.
    """
    family = Family(WALKER2D, "velocity", tracking(control_cost=0.001, bonus=3.0))
    formula = "reward -|v - v*| + 3 - 0.001|a|^2, v* ~ U[0, 3] m/s"
    return _draw("walker2d-vel", family, formula, VELOCITY, settings, FASTER)


def ant_dir(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run as fast as possible in a direction of the plane that differs from task to task.

    The Ant is observed without contact forces (27 numbers), as in PEARL, and has no contact cost.
    Episodes terminate when the torso leaves heights from 0.2 to 1 m. The range is a full circle, so
    nothing is out of distribution.
    """
    family = Family(ANT, "angle", heading(control_cost=0.5, bonus=1.0))
    formula = "reward v.(cos t, sin t) + 1 - 0.5|a|^2, t ~ U[0, 2 pi)"
    return _draw("ant-dir", family, formula, (0.0, 2.0 * math.pi), settings)


def halfcheetah_gravity(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run as fast as possible under a gravity that differs from task to task.

    Gravity is from an eighth of the Earth's, less than the Moon's, to 2.8 times as strong, more
    than Jupiter's. Episodes never terminate.
    """
    family = Family(HALFCHEETAH, "log2_scale", forward(control_cost=0.1), scale_gravity_log2)
    formula = "reward v - 0.1|a|^2, gravity x s, log2 s ~ U[-3, 1.5]"
    beyond = ((-4.0, -3.0), (1.5, 2.5))
    return _draw("halfcheetah-gravity", family, formula, (-3.0, 1.5), settings, beyond, version=2)


def halfcheetah_gravity_1(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run as fast as possible under slightly different gravities.

    What knowing the task is worth cannot be told from zero with three seeds of 3 M steps: oracle
    minus multitask is 138 [-187, 463].
    """
    family = Family(HALFCHEETAH, "gravity_scale", forward(control_cost=0.1), scale_gravity)
    formula = "reward v - 0.1|a|^2, gravity x U[0.5, 1.5]"
    return _draw("halfcheetah-gravity", family, formula, SCALE, settings, BEYOND)


def ant_mass(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run along x as fast as possible with legs of one side heavier than those of the other.

    After CaDM (arXiv 2005.06800), where the mass of two legs is multiplied and that of the others
    divided. The Ant is observed without contact forces (27 numbers). Episodes terminate when the
    torso leaves heights from 0.2 to 1 m.
    """
    family = Family(ANT, "log2_scale", forward(control_cost=0.5, bonus=1.0), scale_sides)
    formula = (
        "reward v_x + 1 - 0.5|a|^2, mass and inertia of the left legs x s, of the right legs "
        "x 1/s, log2 s ~ U[-2, 2]"
    )
    beyond = ((-3.0, -2.0), (2.0, 3.0))
    return _draw("ant-mass", family, formula, (-2.0, 2.0), settings, beyond, version=2)


def ant_mass_1(settings: LocomotionSettings = LocomotionSettings()) -> Locomotion:
    """Run along x as fast as possible with heavier or lighter bodies.

    Scaling all masses alike is much like changing the strength of the motors: knowing the task was
    worth nothing (-80 [-522, 363] after 3 M steps, three seeds).
    """
    family = Family(ANT, "mass_scale", forward(control_cost=0.5, bonus=1.0), scale_mass)
    formula = "reward v_x + 1 - 0.5|a|^2, mass and inertia x U[0.5, 1.5]"
    return _draw("ant-mass", family, formula, SCALE, settings, BEYOND)


ANT_RECIPE: dict[str, Any] = {"components": for_ppo(init_std=0.2)}
ANT_TARGET_RECIPE: dict[str, Any] = {
    "components": for_ppo(init_std=0.2) | {"rl2": {"init_std": 0.2, "task_coef": 1.0}}
}

RECIPES: dict[str, dict[str, Any]] = {
    "ant-mass": ANT_RECIPE,
    **dict.fromkeys(("ant-vel", "ant-dir"), ANT_TARGET_RECIPE),
    "walker2d-vel": {"components": for_ppo(init_std=0.4, gamma=0.99)},
}
"""Settings that suit these distributions; see ``task_distributions.recipe``."""
