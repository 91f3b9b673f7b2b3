"""A point in the plane that has to find a hidden goal on the unit circle; learned in seconds.

Made for tests and tutorials, not one of the ten benchmark distributions. The observation is the
position alone, so the goal has to be inferred from the rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from task_distributions.base import BoolArray, EnvSpec, FloatArray, Positive, Task
from task_distributions.numpy_dynamics import NumpyDynamics
from task_distributions.task_lists import draw_tasks, resolve_horizon

__all__ = ["RECIPES", "PointGoal", "PointGoalSettings", "point_goal"]

HORIZON = 25
STEP_LENGTH = 0.1
"""Distance per control step at full action, along each axis."""
START_NOISE = 0.02
"""Standard deviation of the start around the origin."""


@dataclass(frozen=True)
class PointGoal(NumpyDynamics):
    """The distribution of goals on the unit circle."""

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: 2-D point, reward -distance to a hidden goal on the "
            f"unit circle, {self.spec.horizon} steps"
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
        return position, _reward(position, parameters), np.zeros(len(obs), np.bool_)

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float:
        """Return the score of moving straight to the point of least mean distance and staying."""
        goals = self.parameters(tasks)
        best = _geometric_median(goals)
        steps_away = np.abs(best).max() / STEP_LENGTH
        steps = np.arange(1, self.spec.horizon + 1)
        path = best * np.minimum(1.0, steps / max(steps_away, 1e-9))[:, np.newaxis]
        return float(_reward(path[:, np.newaxis], goals).mean(axis=1).sum())


def _reward(position: FloatArray, goal: FloatArray) -> FloatArray:
    """Return −|position − goal| [...] of points [..., 2]."""
    dx, dy = (position - goal)[..., 0], (position - goal)[..., 1]
    return np.asarray(-np.sqrt(dx * dx + dy * dy))


def _geometric_median(points: FloatArray, iterations: int = 1000) -> FloatArray:
    """Return the point [2] of least mean distance to ``points`` [N, 2] (Weiszfeld's iteration)."""
    median: FloatArray = points.mean(axis=0)
    for _ in range(iterations):
        weights = 1.0 / np.maximum(-_reward(points, median), 1e-12)
        median = (weights[:, np.newaxis] * points).sum(axis=0) / weights.sum()
    return median


def _on_circle(task: Task) -> Task:
    angle = task.param("angle")
    return replace(task, params=(("goal_x", math.cos(angle)), ("goal_y", math.sin(angle))))


@dataclass(frozen=True)
class PointGoalSettings:
    """Settings of ``point_goal``."""

    horizon: Positive | None = None
    """Control steps per episode; 25 if not given."""


def point_goal(settings: PointGoalSettings = PointGoalSettings()) -> PointGoal:
    """Return the distribution of goals on the unit circle."""
    drawn = draw_tasks("point_goal", 1, {"angle": (0.0, 2.0 * math.pi)})
    return PointGoal(
        name="point_goal",
        version=1,
        spec=EnvSpec(2, 2, resolve_horizon(settings.horizon, HORIZON)),
        task_lists={split: tuple(map(_on_circle, tasks)) for split, tasks in drawn.items()},
    )


RECIPES: dict[str, dict[str, Any]] = {
    # Episodes are short: as many of them as elsewhere take an eighth of the steps.
    "point_goal": {
        "presets": {
            "smoke": {"train": {"env_steps": 8_000}},
            "quick": {"train": {"env_steps": 250_000}},
            "standard": {"train": {"env_steps": 6_000_000}},
            "paper": {"train": {"env_steps": 40_000_000}},
        }
    }
}
"""Settings that suit this distribution; see ``task_distributions.recipe``."""
