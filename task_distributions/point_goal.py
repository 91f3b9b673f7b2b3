"""A point in the plane that has to find a hidden goal on the unit circle; learned in seconds.

Made for tests and tutorials, not one of the ten benchmark distributions. The observation is the
position alone, so the goal has to be inferred from the rewards.

``point_goal-sparse`` follows PEARL's sparse point robot (arXiv 1903.08254): goals on a half circle,
and a reward only near the goal. One episode is too short to search the whole half circle, so a
policy has to remember where earlier episodes have been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from task_distributions.base import BoolArray, EnvSpec, FloatArray, Positive, Task
from task_distributions.numpy_dynamics import NumpyDynamics
from task_distributions.recipes import for_ppo
from task_distributions.task_lists import TaskLists, draw_tasks, resolve_horizon

__all__ = ["RECIPES", "PointGoal", "PointGoalSettings", "point_goal", "point_goal_sparse"]

HORIZON = 25
STEP_LENGTH = 0.1
"""Distance per control step at full action, along each axis."""
START_NOISE = 0.02
"""Standard deviation of the start around the origin."""
GOAL_RADIUS = 0.2
"""Distance within which a sparse goal gives a reward."""
LATTICE, LATTICE_SIZE = 0.01, 110
"""Spacing of the points on which a fixed path is searched, and their number to each side."""


@dataclass(frozen=True)
class PointGoal(NumpyDynamics):
    """A distribution of goals on the unit circle."""

    sparse: bool = False
    """The reward is 1 - distance within ``GOAL_RADIUS`` of the goal, else 0."""

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        reward = (
            f"1 - distance within {GOAL_RADIUS} of a hidden goal on half the"
            if self.sparse
            else "-distance to a hidden goal on the"
        )
        return (
            f"{self.name}@{self.version}: 2-D point, reward {reward} unit circle, "
            f"{self.spec.horizon} steps"
        )

    def parameters(self, tasks: Sequence[Task]) -> FloatArray:
        """Return the goals [B, 2]."""
        return np.array([(task.param("goal_x"), task.param("goal_y")) for task in tasks])

    def start(self, rng: np.random.Generator) -> FloatArray:
        """Return a position [2] near the origin."""
        return rng.normal(0.0, START_NOISE, 2)

    def step(
        self, obs: FloatArray, controls: FloatArray, parameters: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Move the points [B, 2] by ``controls`` [B, 2]; see the base class."""
        position = obs + STEP_LENGTH * controls
        return position, self._reward(position, parameters), np.zeros(len(obs), np.bool_)

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float:
        """Return the score of the best path that is the same for every task.

        It begins at the origin, without noise, and visits points of a lattice. By dynamic
        programming backwards in time: a point is worth the best within one step of it, of the mean
        reward there and what that point is worth.
        """
        from scipy import ndimage  # a third of a second, which workers need not wait

        axis = LATTICE * np.arange(-LATTICE_SIZE, LATTICE_SIZE + 1)
        points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
        reward = np.mean([self._reward(points, goal) for goal in self.parameters(tasks)], axis=0)
        value = np.zeros_like(reward)
        reach = 2 * round(STEP_LENGTH / LATTICE) + 1
        for _ in range(self.spec.horizon):
            value = ndimage.maximum_filter(reward + value, size=reach)
        return float(value[LATTICE_SIZE, LATTICE_SIZE])

    def _reward(self, position: FloatArray, goal: FloatArray) -> FloatArray:
        """Return the reward [...] at points [..., 2]."""
        dx, dy = (position - goal)[..., 0], (position - goal)[..., 1]
        distance: FloatArray = np.sqrt(dx * dx + dy * dy)
        if not self.sparse:
            return -distance
        return np.where(distance <= GOAL_RADIUS, 1.0 - distance, 0.0)


def _on_circle(task: Task) -> Task:
    angle = task.param("angle")
    return replace(task, params=(("goal_x", math.cos(angle)), ("goal_y", math.sin(angle))))


@dataclass(frozen=True)
class PointGoalSettings:
    """Settings of ``point_goal`` and ``point_goal-sparse``."""

    horizon: Positive | None = None
    """Control steps per episode; 25 if not given."""


def point_goal(settings: PointGoalSettings = PointGoalSettings()) -> PointGoal:
    """Move a point in the plane to a hidden goal on the unit circle.

    A step moves it by up to 0.1 along each axis. Made for tests and tutorials: it trains in
    minutes.
    """
    drawn = draw_tasks("point_goal", 1, {"angle": (0.0, 2.0 * math.pi)})
    return _build("point_goal", drawn, settings, sparse=False)


def point_goal_sparse(settings: PointGoalSettings = PointGoalSettings()) -> PointGoal:
    """Search half of the unit circle for a hidden goal, with a reward only near it.

    After PEARL's sparse point robot (arXiv 1903.08254), whose training sees a dense reward; here it
    is sparse there too. One episode is too short to search the whole half circle. Tasks out of
    distribution have their goals on the other half.
    """
    upper, lower = {"angle": (0.0, math.pi)}, {"angle": (math.pi, 2.0 * math.pi)}
    drawn = draw_tasks("point_goal-sparse", 1, upper, [lower])
    return _build("point_goal-sparse", drawn, settings, sparse=True)


def _build(name: str, drawn: TaskLists, settings: PointGoalSettings, *, sparse: bool) -> PointGoal:
    return PointGoal(
        name=name,
        version=1,
        spec=EnvSpec(2, 2, resolve_horizon(settings.horizon, HORIZON)),
        task_lists={split: tuple(map(_on_circle, tasks)) for split, tasks in drawn.items()},
        sparse=sparse,
    )


# Episodes are short: an iteration has more of them, and a budget fewer steps.
_MANY = {"episodes_per_iteration": 100, "tasks_per_iteration": 50, "minibatches": 8}
_PRESETS = {
    "smoke": {"train": {"env_steps": 8_000}},
    "quick": {"train": {"env_steps": 250_000}},
    "standard": {"train": {"env_steps": 6_000_000}},
    "paper": {"train": {"env_steps": 40_000_000}},
}
# Steps as wide as they may be, or random episodes never come near a goal.
_WIDE = {"init_std": 1.5, "gamma": 0.99}
# Few sequences find the goal: with a quarter as many in an iteration, little is learned.
_SEARCH = {
    "episodes_in_context": 5,
    "episodes_per_iteration": 400,
    "tasks_per_iteration": 80,
    "task_coef": 1.0,
}
RECIPES: dict[str, dict[str, Any]] = {
    "point_goal": {
        "components": for_ppo(**_MANY, init_std=0.6)
        | {"maml": {"action_scale": 0.1, "init_std": 1.0}},
        "presets": _PRESETS,
    },
    "point_goal-sparse": {
        "presets": _PRESETS,
        "components": for_ppo(**_MANY, **_WIDE)
        | {
            "rl2": {**_MANY, **_WIDE, **_SEARCH},
            "maml": {"action_scale": 0.3, "init_std": 3.0},
        },
    },
}
"""Settings that suit this distribution; see ``task_distributions.recipe``."""
