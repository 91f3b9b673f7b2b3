"""Distributions whose dynamics are written once, in numpy, for single and batched environments.

Array letters: B environments, O observation, A action, P parameters of a task.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from task_distributions.base import BoolArray, FloatArray, IndexArray, Task
from task_distributions.task_env import BatchedTaskEnv, TaskEnv
from task_distributions.task_lists import ListedTasks

__all__ = ["NumpyDynamics"]


@dataclass(frozen=True)
class NumpyDynamics(ListedTasks):
    """A distribution of MDPs whose observation is their whole state."""

    @abstractmethod
    def parameters(self, tasks: Sequence[Task]) -> FloatArray:
        """Return the parameters [B, P] of ``tasks``, as ``step`` takes them."""

    @abstractmethod
    def start(self, rng: np.random.Generator) -> FloatArray:
        """Return an initial observation [O]."""

    @abstractmethod
    def step(
        self, obs: FloatArray, controls: FloatArray, parameters: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return next observations [B, O], rewards [B] and where the MDP ended [B].

        Args:
            obs: [B, O]
            controls: [B, A] in [-1, 1]; one-hot rows if actions are discrete.
            parameters: [B, P]
        """

    def _make_env(self, task: Task) -> TaskEnv:
        return _Env(self, task)

    def _make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedTaskEnv:
        return _BatchedEnv(self, tasks, episodes_per_task)


class _Env(TaskEnv):
    def __init__(self, dynamics: NumpyDynamics, task: Task) -> None:
        super().__init__(dynamics.spec, task)
        self._dynamics, self._parameters = dynamics, dynamics.parameters([task])

    def _start(self) -> FloatArray:
        return self._dynamics.start(self.np_random)

    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool]:
        batch_of_one = self._obs[np.newaxis], controls[np.newaxis], self._parameters
        obs, reward, ended = self._dynamics.step(*batch_of_one)
        return obs[0], float(reward[0]), bool(ended[0])


class _BatchedEnv(BatchedTaskEnv):
    def __init__(
        self, dynamics: NumpyDynamics, tasks: Sequence[Task], episodes_per_task: int
    ) -> None:
        super().__init__(dynamics.spec, tasks, episodes_per_task)
        self._dynamics = dynamics
        self._parameters = np.repeat(dynamics.parameters(tasks), episodes_per_task, axis=0)

    def _start(self, rows: IndexArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        return np.array([self._dynamics.start(rng) for rng in rngs])

    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        next_obs, reward[:], ended = self._dynamics.step(obs, controls, self._parameters)
        np.copyto(obs, next_obs, where=valid[:, np.newaxis])
        return ended
