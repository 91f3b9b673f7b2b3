"""Gymnasium environments with a short interface: ``reset() -> obs``, ``step(a)`` -> four values.

Array letters: B environments, O observation.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.utils import RunningMeanStd
from numpy.typing import NDArray

import task_distributions

__all__ = ["Environment"]

CLIP = 10.0
"""Normalised observations are clipped to this many standard deviations."""


class Environment:
    """``batch_size`` copies of one environment; a single one has no batch axis.

    Args:
        name: a Gymnasium id (``CartPole-v1``, ``task_distributions:MetaRL/ant-dir-v1``) or the name
            of a task distribution (``ant-dir``).
        batch_size: environments stepped together.
        normalize: standardise observations by their running mean and standard deviation.
        options: for ``gymnasium.make``, e.g. ``max_episode_steps``; task distributions take
            ``split``, ``task`` and their settings.

    Raises:
        ValueError: the name is not known, or ``batch_size`` is below 1.
    """

    def __init__(
        self, name: str, batch_size: int = 1, *, normalize: bool = False, **options: Any
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.name, self.batch_size = name, batch_size
        # The user resets a single environment; several reset themselves one by one.
        mode = AutoresetMode.DISABLED if batch_size == 1 else AutoresetMode.SAME_STEP
        self._envs = gymnasium.make_vec(
            _spec(name),
            batch_size,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            **options,
        )
        self.observation_space = self._envs.single_observation_space
        self.action_space = self._envs.single_action_space
        self._moments = (
            RunningMeanStd(epsilon=0.0, shape=self.observation_space.shape) if normalize else None
        )

    def reset(self, seed: int | None = None) -> NDArray[Any]:
        """Start an episode in every environment, seeded with ``seed + b``.

        Returns:
            The observation [O], or [B, O] if there are several environments.
        """
        obs: NDArray[Any] = self._squeeze(self._update_and_scale(self._envs.reset(seed=seed)[0]))
        return obs

    def step(self, action: Any) -> tuple[NDArray[Any], Any, Any, dict[str, Any]]:
        """Advance by one step; return observation, reward, done and info.

        ``info`` holds ``terminated`` and ``truncated``. If there are several environments, those
        that are done reset themselves: the observation is the first of the new episode, and row b
        of ``info["final_obs"]`` the last of the old one. A single environment must be reset.
        """
        actions = np.asarray(action)
        actions = actions[np.newaxis] if self.batch_size == 1 else actions
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            actions = actions.reshape(self.batch_size)
        obs, reward, terminated, truncated, infos = self._envs.step(actions)
        info = dict(infos)
        if "final_obs" in info:
            info["final_obs"] = [None if o is None else self._scale(o) for o in info["final_obs"]]
        done = terminated | truncated
        info |= {"terminated": self._squeeze(terminated), "truncated": self._squeeze(truncated)}
        obs = self._squeeze(self._update_and_scale(obs))
        return obs, self._squeeze(reward), self._squeeze(done), info

    def close(self) -> None:
        """Release the environments' resources."""
        self._envs.close()

    def _update_and_scale(self, obs: NDArray[Any]) -> NDArray[Any]:
        if self._moments is not None:
            self._moments.update(obs)
        return self._scale(obs)

    def _scale(self, obs: NDArray[Any]) -> NDArray[Any]:
        if self._moments is None:
            return obs
        deviation = np.sqrt(self._moments.var) + 1e-8
        scaled: NDArray[Any] = np.clip((obs - self._moments.mean) / deviation, -CLIP, CLIP)
        return scaled

    def _squeeze(self, values: NDArray[Any]) -> Any:
        if self.batch_size > 1:
            return values
        value = values[0]
        return value.item() if np.ndim(value) == 0 else value


def _spec(name: str) -> str | EnvSpec:
    """Return the Gymnasium id of the environment ``name``, or its specification."""
    if name in task_distributions.names():
        return task_distributions.env_spec(name)
    try:
        module, _, plain = name.rpartition(":")
        if module:
            importlib.import_module(module)
        gymnasium.spec(plain)
        return name
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        choices = [*task_distributions.names(), *gymnasium.registry]
        matches = difflib.get_close_matches(name, choices, n=3)
        hint = f" Did you mean {' or '.join(map(repr, matches))}?" if matches else ""
        raise ValueError(
            f"unknown environment {name!r} ({error}).{hint} Have: "
            f"{', '.join(task_distributions.names())}, and Gymnasium's {len(gymnasium.registry)} "
            "ids (gymnasium.registry)"
        ) from error
