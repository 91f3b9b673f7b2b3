"""Rules of an episode, shared by the single and the batched environments.

- `terminated`: the MDP ended.
- `truncated`: the episode is over although the MDP did not end: the horizon was reached, or the
  episode is `invalid`.
- `invalid`: the action was not finite or the physics exploded. Such a step repeats the previous
  observation, has reward 0, and leaves `success` and `terminated` as they were, so everything
  returned is always finite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from task_distributions.base import BoolArray, EnvSpec, FloatArray, StepBatch, Task

__all__ = ["BatchedTaskEnv", "TaskEnv"]


class BatchedTaskEnv(ABC):
    """B = N·E environments in lockstep; finished ones stand still. Subclasses supply the MDP."""

    def __init__(self, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int) -> None:
        if episodes_per_task < 1:
            raise ValueError(f"episodes_per_task must be at least 1, got {episodes_per_task}")
        self.spec = spec
        self.tasks = tuple(tasks)
        self.episodes_per_task = episodes_per_task
        count = len(tasks) * episodes_per_task
        self._controls: FloatArray = np.zeros((count, spec.action_dim))
        self._obs: FloatArray = np.zeros((count, spec.obs_dim))
        self._reward: FloatArray = np.zeros(count)
        self._active, self._terminated, self._truncated, self._success, self._invalid = (
            np.zeros(count, np.bool_) for _ in range(5)
        )
        self._steps_taken: int | None = None

    def reset(self, seeds: Sequence[int]) -> FloatArray:
        """Start one episode per environment, seeded with ``seeds`` [B]; return obs [B, O].

        Raises:
            ValueError: the number of seeds is not B.
        """
        if len(seeds) != len(self._active):
            raise ValueError(
                f"got {len(seeds)} seeds for {len(self._active)} environments "
                f"({len(self.tasks)} tasks x {self.episodes_per_task} episodes); pass one for each"
            )
        self._start(seeds, self._obs)
        self._reward[:] = 0.0
        self._active[:] = True
        for flags in (self._terminated, self._truncated, self._success, self._invalid):
            flags[:] = False
        self._steps_taken = 0
        return self._obs

    def step(self, actions: NDArray[np.floating]) -> StepBatch:
        """Advance every unfinished episode by one control step with ``actions`` [B, A].

        The returned arrays belong to this object and are valid until the next call.

        Raises:
            ValueError: the actions have another shape.
            RuntimeError: ``reset`` has not been called.
        """
        if actions.shape != self._controls.shape:
            raise ValueError(f"actions are {actions.shape}, expected {self._controls.shape}")
        if self._steps_taken is None:
            raise RuntimeError("step() before the first reset(seeds)")
        self._steps_taken += 1
        valid = self._set_controls(actions) & self._active
        ended = self._advance(self._controls, valid, self._obs, self._reward)
        self._reward[~valid] = 0.0
        self._invalid |= self._active & ~valid
        self._terminated |= ended & valid
        at_horizon = self._steps_taken >= self.spec.horizon
        self._truncated |= self._active & (self._invalid | (at_horizon & ~self._terminated))
        self._active &= ~(self._terminated | self._truncated)
        return StepBatch(
            obs=self._obs,
            reward=self._reward,
            terminated=self._terminated,
            truncated=self._truncated,
            success=self._success,
            invalid=self._invalid,
        )

    def _set_controls(self, actions: NDArray[np.floating]) -> BoolArray:
        """Write ``actions``, clipped or one-hot, into the controls; return [B] where finite."""
        finite: BoolArray = np.isfinite(actions).all(axis=1)
        if self.spec.discrete:
            self._controls[:] = _one_hot(actions.argmax(axis=1), self.spec.action_dim)
        else:
            np.clip(actions, -1.0, 1.0, out=self._controls, casting="unsafe")
        self._controls[~finite] = 0.0
        return finite

    @abstractmethod
    def _start(self, seeds: Sequence[int], obs: FloatArray) -> None:
        """Start every episode and write its first observation into ``obs`` [B, O]."""

    @abstractmethod
    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        """Step the environments where ``valid`` [B]; return where the MDP ended [B].

        Implementations clear ``valid`` where the physics exploded, write ``obs`` [B, O] only where
        it is still set, and may write any entry of ``reward`` [B].
        """


class TaskEnv(gymnasium.Env, ABC):  # type: ignore[misc]  # gymnasium is untyped here
    """One task as an ordinary Gymnasium environment. Subclasses supply the MDP."""

    def __init__(self, spec: EnvSpec, task: Task) -> None:
        self.task = task
        self._horizon, self._reports_success = spec.horizon, spec.has_success
        self._num_actions = spec.action_dim if spec.discrete else None
        self._success = False
        """Subclasses set it when the goal is reached; every reset clears it."""
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (spec.obs_dim,), np.float64)
        self.action_space: gymnasium.Space = (
            gymnasium.spaces.Discrete(spec.action_dim)
            if spec.discrete
            else gymnasium.spaces.Box(-1.0, 1.0, (spec.action_dim,), np.float32)
        )
        self._obs: FloatArray = np.zeros(spec.obs_dim)
        self._steps_left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start an episode, the batched engine's for the same ``seed``."""
        super().reset(seed=seed)
        self._steps_left = self._horizon
        self._success = False
        self._obs = self._start()
        return self._obs.copy(), self._info(invalid=False)

    def step(
        self, action: NDArray[np.floating] | int
    ) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Advance by one control step; ``info`` holds ``invalid`` and, if reported, ``success``.

        Raises:
            RuntimeError: the episode is over, or none was started.
            ValueError: there is no such discrete action.
        """
        if self._steps_left == 0:
            raise RuntimeError("this episode is over; call reset() first")
        controls = self._controls(action)
        self._steps_left -= 1
        outcome = self._advance(controls) if np.isfinite(controls).all() else None
        if outcome is None:
            reward, terminated, truncated = 0.0, False, True
        else:
            self._obs, reward, terminated = outcome
            truncated = self._steps_left == 0 and not terminated
        if terminated or truncated:
            self._steps_left = 0
        info = self._info(invalid=outcome is None)
        return self._obs.copy(), reward, terminated, truncated, info

    def _controls(self, action: NDArray[np.floating] | int) -> FloatArray:
        """Return ``action`` clipped, or as a one-hot row if it is discrete."""
        if self._num_actions is None:
            return np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        if not self.action_space.contains(action):
            raise ValueError(
                f"action {action!r} is not one of the integers 0 to {self._num_actions - 1}"
            )
        return _one_hot(np.asarray(action), self._num_actions)

    def _info(self, *, invalid: bool) -> dict[str, Any]:
        return {"invalid": invalid} | ({"success": self._success} if self._reports_success else {})

    @abstractmethod
    def _start(self) -> FloatArray:
        """Start an episode with ``self.np_random``; return its first observation [O]."""

    @abstractmethod
    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool] | None:
        """Return observation, reward, terminated; None if the physics exploded."""


def _one_hot(choice: NDArray[np.integer], count: int) -> FloatArray:
    """Return one-hot rows [..., count] for the indices ``choice`` [...]."""
    rows: FloatArray = np.eye(count)[choice]
    return rows
