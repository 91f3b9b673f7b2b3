"""``halfcheetah-vel-switch``: the target speed changes in the middle of every episode.

The step at which it changes is drawn with the start of the episode and is not observed, so a policy
has to notice, from the reward, that what it knows of the task no longer holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from task_distributions.base import BoolArray, EnvSpec, FloatArray, IndexArray, Task
from task_distributions.locomotion.distributions import (
    HORIZON,
    VELOCITY,
    Locomotion,
    LocomotionSettings,
)
from task_distributions.locomotion.envs import BatchedLocomotionEnv, Family, LocomotionEnv
from task_distributions.locomotion.rewards import tracking
from task_distributions.locomotion.robots import HALFCHEETAH
from task_distributions.task_lists import draw_tasks, resolve_horizon

__all__ = ["halfcheetah_vel_switch"]

NAME = "halfcheetah-vel-switch"
FIRST, LAST = 50, 150
"""Control steps between which the target changes."""
OUTSIDE = (3.0, 4.0)
"""Both targets of the ``ood`` tasks, in m/s."""


def _switch_step(rng: np.random.Generator) -> int:
    """Return the number of control steps with the first target."""
    return int(rng.integers(FIRST, LAST, endpoint=True))


@dataclass(frozen=True)
class SwitchFamily(Family):
    """Tasks with a second target."""

    def goals_after(self, tasks: Sequence[Task]) -> FloatArray:
        """Return the second goal of each task as the reward takes it [N, G]."""
        return np.array([self.reward.goal(task.param(f"{self.parameter}_after")) for task in tasks])


class SwitchEnv(LocomotionEnv):
    """One task as an ordinary environment."""

    _KEPT: ClassVar[tuple[str, ...]] = (*LocomotionEnv._KEPT, "_steps_taken", "_switch_at")

    def __init__(self, family: SwitchFamily, spec: EnvSpec, task: Task, *options: Any) -> None:
        super().__init__(family, spec, task, *options)
        self._before, self._after = family.goals([task]), family.goals_after([task])
        self._steps_taken = self._switch_at = 0

    def _start(self) -> FloatArray:
        obs = super()._start()
        self._steps_taken, self._switch_at = 0, _switch_step(self.np_random)
        return obs

    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool] | None:
        self._goal = self._before if self._steps_taken < self._switch_at else self._after
        self._steps_taken += 1
        return super()._advance(controls)


class BatchedSwitchEnv(BatchedLocomotionEnv):
    """Episodes of N tasks on the batched engine."""

    def __init__(
        self, family: SwitchFamily, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int
    ) -> None:
        super().__init__(family, spec, tasks, episodes_per_task)
        self._before = self._goals
        self._after = np.repeat(family.goals_after(tasks), episodes_per_task, axis=0)
        self._taken, self._switch_at = (np.zeros(len(self._goals), np.int64) for _ in range(2))

    def _start(self, rows: IndexArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        obs = super()._start(rows, rngs)
        self._taken[rows] = 0
        self._switch_at[rows] = [_switch_step(rng) for rng in rngs]
        return obs

    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        switched = self._taken >= self._switch_at
        self._goals = np.where(switched[:, np.newaxis], self._after, self._before)
        self._taken[valid] += 1
        return super()._advance(controls, valid, obs, reward)


@dataclass(frozen=True)
class SwitchingLocomotion(Locomotion):
    """A locomotion distribution whose tasks change during an episode."""

    family: SwitchFamily

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float:
        """Return the score of running, at each step, at the best speed for all tasks at no cost.

        That speed depends on how many of the tasks have probably changed by then.
        """
        before, after = self.family.goals(tasks)[:, 0], self.family.goals_after(tasks)[:, 0]
        changed = np.clip((np.arange(self.spec.horizon) - FIRST + 1) / (LAST - FIRST + 1), 0, 1)
        speeds = np.concatenate([before, after])[:, np.newaxis]
        errors = [np.abs(speeds - targets).mean(axis=1) for targets in (before, after)]
        distance = np.outer(errors[0], 1 - changed) + np.outer(errors[1], changed)
        return float(self.spec.horizon * self.family.reward.bonus - distance.min(axis=0).sum())

    def _make_env(self, task: Task, render_mode: str | None = None) -> SwitchEnv:
        return SwitchEnv(self.family, self.spec, task, render_mode)

    def _make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedSwitchEnv:
        return BatchedSwitchEnv(self.family, self.spec, tasks, episodes_per_task)


_DEFAULTS = LocomotionSettings()


def halfcheetah_vel_switch(settings: LocomotionSettings = _DEFAULTS) -> SwitchingLocomotion:
    """Run at a target speed that changes during the episode, unannounced.

    The second target replaces the first at a step that every episode draws. Episodes never
    terminate.
    """
    family = SwitchFamily(HALFCHEETAH, "velocity", tracking(control_cost=0.05))
    inside, outside = (
        {"velocity": bounds, "velocity_after": bounds} for bounds in (VELOCITY, OUTSIDE)
    )
    horizon = resolve_horizon(settings.horizon, HORIZON)
    return SwitchingLocomotion(
        name=NAME,
        version=1,
        spec=EnvSpec(HALFCHEETAH.obs_dim, HALFCHEETAH.action_dim, horizon),
        task_lists=draw_tasks(NAME, 1, inside, [outside]),
        family=family,
        formula=(
            "reward -|v - v*| - 0.05|a|^2, v* ~ U[0, 3] m/s, drawn again at a step from "
            f"U{{{FIRST}..{LAST}}}"
        ),
        bounds=VELOCITY,
    )
