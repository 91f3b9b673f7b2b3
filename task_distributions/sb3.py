"""Vector environments for Stable-Baselines3: ``PPO("MlpPolicy", SB3VecEnv(envs))``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

__all__ = ["SB3VecEnv"]

Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):  # type: ignore[misc]  # stable-baselines3 is an optional package
    """A Gymnasium vector environment with the interface of Stable-Baselines3.

    Wrap it in ``VecMonitor`` for the statistics of episodes. If the environments report
    ``success``, the last info of an episode holds it as ``is_success``, too.

    Args:
        envs: from ``gymnasium.make_vec(..., autoreset_mode="SameStep")``, which is the mode that
            Stable-Baselines3 expects.

    Raises:
        ValueError: the autoreset mode is another.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"Stable-Baselines3 needs autoreset_mode='SameStep', these environments have {mode}"
            )
        self.envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> NDArray[Any]:
        """Start an episode in every environment, with the seeds given to ``seed``."""
        options = next(iter(self._options), None)
        obs, infos = self.envs.reset(seed=list(self._seeds), options=options or None)
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return np.asarray(obs)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep ``actions`` for ``step_wait``."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], list[dict[str, Any]]]:
        """Take the step; return observations, rewards, ends of episodes and infos."""
        obs, reward, terminated, truncated, infos = self.envs.step(self._actions)
        over = terminated | truncated
        final_obs = infos.pop("final_obs", None)
        final = _rows(infos.pop("final_info", {}), self.num_envs)
        rows = _rows(infos, self.num_envs)
        for b, row in enumerate(rows):
            if over[b]:
                self.reset_infos[b] = row.copy()
                row.update(final[b], terminal_observation=final_obs[b])
                if "success" in row:
                    row["is_success"] = row["success"]
            row["TimeLimit.truncated"] = bool(truncated[b] and not terminated[b])
        return obs, reward, over, rows

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """Return an image of each environment."""
        images: Sequence[NDArray[Any] | None] = self.envs.render()
        return images

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of the vector environment, for each of ``indices``."""
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the vector environment.

        Raises:
            ValueError: only some of the environments were meant, which are not separate objects.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError("batched environments have no attributes of their own")
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment once; return its result for each index."""
        result = getattr(self.envs, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """Return False for each index: wrappers of single environments have no place here."""
        return [False for _ in self._get_indices(indices)]


def _rows(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return Gymnasium's batched infos as one dictionary per environment."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, values in infos.items():
        if key.startswith("_"):
            continue
        values = _rows(values, count) if isinstance(values, dict) else values
        if isinstance(values, np.ndarray) and values.ndim == 1:
            values = values.tolist()  # of Python's own numbers, as single environments have them
        present = infos.get(f"_{key}")
        for b, row in enumerate(rows):
            if present is None or present[b]:
                row[key] = values[b]
    return rows
