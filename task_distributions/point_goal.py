"""A point in the plane that must find a hidden goal on the unit circle: seconds to learn.

The workhorse of tests and tutorials, not one of the benchmark's ten. The observation is the
position alone, so the goal must be found out from the rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import gymnasium
import numpy as np
from numpy.typing import NDArray

from task_distributions.base import EnvSpec, Split, Task
from task_distributions.episodes import BatchedEpisodes, SingleEpisode, expand_per_env
from task_distributions.task_lists import check_horizon, check_own, check_split, draw_tasks

__all__ = ["PointGoal", "PointGoalBatch", "PointGoalEnv", "point_goal"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

HORIZON = 25
STEP_LENGTH = 0.1
"""Distance per control step at full action, along each axis."""
START_NOISE = 0.02
"""Standard deviation of the start around the origin."""


def _start(rng: np.random.Generator) -> FloatArray:
    return rng.normal(0.0, START_NOISE, 2)


def _move(position: FloatArray, controls: FloatArray) -> FloatArray:
    """Return where the points [..., 2] are after ``controls`` [..., 2]."""
    return position + STEP_LENGTH * controls


def _reward(position: FloatArray, goal: FloatArray) -> FloatArray:
    """Return −|position − goal| [...] of points [..., 2]."""
    dx, dy = (position - goal)[..., 0], (position - goal)[..., 1]
    return np.asarray(-np.sqrt(dx * dx + dy * dy))


class PointGoalEnv(SingleEpisode):
    """One goal as an ordinary Gymnasium environment."""

    def __init__(self, spec: EnvSpec, task: Task) -> None:
        super().__init__(spec, task)
        self._goal = _goals([task])[0]

    def _start(self) -> FloatArray:
        return _start(self.np_random)

    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool]:
        position = _move(self._obs, controls)
        return position, float(_reward(position, self._goal)), False


class PointGoalBatch(BatchedEpisodes):
    """Episodes of N goals at once."""

    def __init__(self, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int) -> None:
        super().__init__(spec, tasks, episodes_per_task)
        self._goal = expand_per_env(_goals(tasks), episodes_per_task)

    def _start(self, seeds: Sequence[int], obs: FloatArray) -> None:
        for b, seed in enumerate(seeds):
            obs[b] = _start(gymnasium.utils.seeding.np_random(seed)[0])

    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        np.copyto(obs, _move(obs, controls), where=valid[:, np.newaxis])
        reward[:] = _reward(obs, self._goal)
        return np.zeros_like(valid)


@dataclass(frozen=True)
class PointGoal:
    """The distribution of goals on the unit circle."""

    spec: EnvSpec
    _lists: dict[Split, tuple[Task, ...]] = field(repr=False)
    name: str = "point_goal"
    version: int = 1

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: 2-D point, reward -distance to a hidden goal on the "
            f"unit circle, {self.spec.horizon} steps"
        )

    def tasks(self, split: Split) -> tuple[Task, ...]:
        """Return the fixed list of tasks of one split."""
        check_split(split)
        return self._lists[split]

    def make_env(self, task: Task) -> PointGoalEnv:
        """Return the ordinary Gymnasium environment of one task."""
        check_own(self.name, self.version, [task])
        return PointGoalEnv(self.spec, task)

    def make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> PointGoalBatch:
        """Return the batched engine of the same MDPs."""
        check_own(self.name, self.version, tasks)
        return PointGoalBatch(self.spec, tasks, episodes_per_task)

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float:
        """Return the score of going straight to the point of least mean distance, and staying."""
        goals = _goals(tasks)
        best = _geometric_median(goals)
        steps_away = np.abs(best).max() / STEP_LENGTH
        steps = np.arange(1, self.spec.horizon + 1)
        path = best * np.minimum(1.0, steps / max(steps_away, 1e-9))[:, np.newaxis]
        return float(_reward(path[:, np.newaxis], goals).mean(axis=1).sum())


def _goals(tasks: Sequence[Task]) -> FloatArray:
    """Return the goals [N, 2]."""
    return np.array([(task.param("goal_x"), task.param("goal_y")) for task in tasks])


def _geometric_median(points: FloatArray, iterations: int = 1000) -> FloatArray:
    """Return the point [2] of least mean distance to ``points`` [N, 2] (Weiszfeld's iteration)."""
    median: FloatArray = points.mean(axis=0)
    for _ in range(iterations):
        weights = 1.0 / np.maximum(-_reward(points, median), 1e-12)
        median = (weights[:, np.newaxis] * points).sum(axis=0) / weights.sum()
    return median


def _on_circle(task: Task) -> Task:
    angle = task.param("angle")
    params = (("goal_x", math.cos(angle)), ("goal_y", math.sin(angle)))
    return Task(task.dist, task.version, task.split, task.index, task.name, params)


def point_goal(horizon: int | None = None) -> PointGoal:
    """Return the distribution; ``horizon`` control steps per episode, 25 if None."""
    drawn = draw_tasks("point_goal", 1, "angle", 0.0, 2.0 * math.pi)
    lists: dict[Split, tuple[Task, ...]] = {
        split: tuple(_on_circle(task) for task in tasks) for split, tasks in drawn.items()
    }
    return PointGoal(EnvSpec(2, 2, check_horizon(horizon, HORIZON)), lists)
