"""Observations with the previous action, the previous reward and the episode boundary.

From these a policy with memory can infer its task, as in RL² (arXiv 1611.02779).

Array letters: B environments, O observation, A action.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from task_distributions.base import BoolArray

__all__ = ["HistoryObservation"]


class HistoryObservation(gymnasium.vector.VectorWrapper):  # type: ignore[misc]  # gymnasium is untyped
    """Append to each observation [O] the previous action [A], the previous reward and a boundary.

    The boundary is 1 at the first observation of an episode, else 0. Like the policies of this
    project in ``rl2``, the history outlives an episode: its first observation carries the last
    action and reward of the one before. ``reset`` without a ``reset_mask`` forgets them (zeros).
    Actions are clipped to their space, and discrete ones are one-hot [A]. Rewards are as the
    environment gives them; scale them there if needed.

    Args:
        env: any vector environment with flat observations.

    Raises:
        TypeError: the spaces are not a flat ``Box``, and a flat ``Box`` or ``Discrete``.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv) -> None:
        super().__init__(env)
        observed, acted = env.single_observation_space, env.single_action_space
        if not (_is_flat(observed) and (_is_flat(acted) or _is_discrete(acted))):
            raise TypeError(f"cannot append the history to {observed} and {acted}")
        # Bounds of the action, which is 0 before the first step; then reward and boundary.
        if _is_flat(acted):
            self._choices = None
            low, high = np.minimum(acted.low, 0.0), np.maximum(acted.high, 0.0)
        else:
            self._choices = np.eye(int(acted.n))
            low, high = np.zeros(len(self._choices)), np.ones(len(self._choices))
        self.single_observation_space = gymnasium.spaces.Box(
            np.concatenate([observed.low, low, (-np.inf, 0.0)]).astype(observed.dtype),
            np.concatenate([observed.high, high, (np.inf, 1.0)]).astype(observed.dtype),
            dtype=observed.dtype,
        )
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._mode = env.metadata["autoreset_mode"]
        self._action = np.zeros((env.num_envs, len(low)))
        self._reward = np.zeros(env.num_envs)
        self._boundary: BoolArray = np.ones(env.num_envs, np.bool_)
        self._over: BoolArray = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start episodes; without ``options["reset_mask"]``, forget the history."""
        mask = (options or {}).get("reset_mask")
        obs, infos = self.env.reset(seed=seed, options=options)
        if mask is None:
            mask = np.ones(self.num_envs, np.bool_)
            self._action[:], self._reward[:] = 0.0, 0.0
        self._boundary[mask], self._over[mask] = True, False
        return self._append(obs, self._boundary), infos

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance all environments; see the class for what is observed."""
        obs, reward, terminated, truncated, infos = self.env.step(actions)
        # Where an environment has only started its next episode, it was given no action.
        acted = ~self._over if self._mode is AutoresetMode.NEXT_STEP else np.ones_like(self._over)
        self._action[acted] = self._encode(actions)[acted]
        self._reward[acted] = reward[acted]
        self._over = terminated | truncated
        self._boundary = ~acted
        if self._mode is AutoresetMode.SAME_STEP and self._over.any():
            final = infos["final_obs"].copy()
            for b in np.flatnonzero(self._over).tolist():
                row = self._action[b], (self._reward[b], 0.0)
                final[b] = np.concatenate([final[b], *row]).astype(final[b].dtype)
            infos, self._boundary = {**infos, "final_obs": final}, self._over.copy()
        return self._append(obs, self._boundary), reward, terminated, truncated, infos

    def _encode(self, actions: Any) -> NDArray[np.float64]:
        values = np.asarray(actions)
        if self._choices is not None:
            rows: NDArray[np.float64] = self._choices[values - self.env.single_action_space.start]
            return rows
        space = self.env.single_action_space
        clipped: NDArray[np.float64] = np.clip(values, space.low, space.high)
        return clipped

    def _append(self, obs: NDArray[Any], boundary: BoolArray) -> NDArray[Any]:
        past = (self._action, self._reward[:, np.newaxis], boundary[:, np.newaxis])
        return np.concatenate([obs, *past], axis=1, dtype=obs.dtype, casting="unsafe")


def _is_flat(space: gymnasium.Space) -> bool:
    return isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1


def _is_discrete(space: gymnasium.Space) -> bool:
    return isinstance(space, gymnasium.spaces.Discrete)
