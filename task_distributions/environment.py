"""Gymnasium environments in the short spelling: ``reset() -> obs``, ``step(a)`` -> four values.

Array letters: B environments, O observation.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import task_distributions

__all__ = ["Environment"]

CLIP = 10.0
"""Normalised observations lie within this many standard deviations."""


class Environment:
    """``batch_size`` copies of one environment; one alone speaks without the batch axis.

    Args:
        name: an id of Gymnasium (``CartPole-v1``, ``task_distributions:MetaRL/ant-dir-v1``) or a
            distribution of ours (``ant-dir``).
        batch_size: environments stepped together.
        normalize: scale observations by the running mean and spread of all that were seen.
        options: for ``gymnasium.make``; ours take ``split``, ``task`` and ``horizon``.

    Raises:
        ValueError: the name is not known, or ``batch_size`` is below 1.
    """

    def __init__(
        self, name: str, batch_size: int = 1, *, normalize: bool = False, **options: Any
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.name, self.batch_size = name, batch_size
        # One alone is reset by its user; of several, those that are over start again by themselves.
        mode = AutoresetMode.DISABLED if batch_size == 1 else AutoresetMode.SAME_STEP
        self._envs = gymnasium.make_vec(
            _known(name),
            batch_size,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            **options,
        )
        self.observation_space = self._envs.single_observation_space
        self.action_space = self._envs.single_action_space
        self._seen = _Seen(self.observation_space.shape) if normalize else None

    def reset(self, seed: int | None = None) -> NDArray[Any]:
        """Start an episode everywhere; return the observation [O], of several [B, O].

        Environment b is seeded with ``seed + b``.
        """
        obs: NDArray[Any] = self._out(self._scaled(self._envs.reset(seed=seed)[0]))
        return obs

    def step(self, action: Any) -> tuple[NDArray[Any], Any, Any, dict[str, Any]]:
        """Advance by one step; return observation, reward, done and info.

        ``info`` tells ``terminated`` from ``truncated``. Of several environments, those that are
        done start again: the observation is that of the new episode, and row b of
        ``info["final_obs"]`` the last one of the old. One alone must be reset.
        """
        actions = np.asarray(action)
        actions = actions[np.newaxis] if self.batch_size == 1 else actions
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            actions = actions.reshape(self.batch_size)
        obs, reward, terminated, truncated, told = self._envs.step(actions)
        info = dict(told)
        if "final_obs" in info:
            info["final_obs"] = [None if o is None else self._same(o) for o in info["final_obs"]]
        done = terminated | truncated
        flags = {"terminated": self._out(terminated), "truncated": self._out(truncated)}
        return self._out(self._scaled(obs)), self._out(reward), self._out(done), info | flags

    def close(self) -> None:
        """Free what the environments hold."""
        self._envs.close()

    def _scaled(self, obs: NDArray[Any]) -> NDArray[Any]:
        if self._seen is None:
            return obs
        self._seen.add(obs)
        return self._seen.scaled(obs)

    def _same(self, obs: NDArray[Any]) -> NDArray[Any]:
        return obs if self._seen is None else self._seen.scaled(obs)

    def _out(self, values: NDArray[Any]) -> Any:
        if self.batch_size > 1:
            return values
        alone = values[0]
        return alone.item() if np.ndim(alone) == 0 else alone


class _Seen:
    """Running mean and variance of observations (Chan's update of a batch)."""

    def __init__(self, shape: Any) -> None:
        self._count = 0
        self._mean, self._square = np.zeros(shape), np.zeros(shape)

    def add(self, obs: NDArray[Any]) -> None:
        """Count the rows of ``obs`` [B, O]."""
        rows = len(obs)
        total, mean = self._count + rows, obs.mean(axis=0)
        apart = mean - self._mean
        self._square += np.square(obs - mean).sum(axis=0)
        self._square += np.square(apart) * self._count * rows / total
        self._mean += apart * rows / total
        self._count = total

    def scaled(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return ``obs`` in standard deviations from the mean."""
        spread = np.sqrt(self._square / max(self._count, 1)) + 1e-8
        scaled: NDArray[Any] = np.clip((obs - self._mean) / spread, -CLIP, CLIP)
        return scaled


def _known(name: str) -> str:
    """Return the id that Gymnasium makes ``name`` from."""
    if name in task_distributions.names():
        version = task_distributions.load(name).version
        return f"task_distributions:MetaRL/{name}-v{version}"
    try:
        module, _, plain = name.rpartition(":")
        if module:
            importlib.import_module(module)
        gymnasium.spec(plain)
        return name
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        every = [*task_distributions.names(), *gymnasium.registry]
        near = difflib.get_close_matches(name, every, n=3)
        meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"unknown environment {name!r} ({error}).{meant} Have: "
            f"{', '.join(task_distributions.names())}, and Gymnasium's {len(gymnasium.registry)} "
            "ids (gymnasium.registry)"
        ) from error
