"""Meta-World's own environments: made, brought to a task's start, one at a time by Gymnasium."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.types import Task as MetaworldTask
from numpy.typing import NDArray

from task_distributions.base import EnvSpec, Task
from task_distributions.episodes import SingleEpisode
from task_distributions.native import MAX_STATE, QuietMujoco

__all__ = ["NOT_STATE", "MetaworldEnv", "Original"]

FloatArray = NDArray[np.float64]
NOT_STATE = ("model", "data", "mujoco_renderer")
_LIVE = ("init_left_pad", "init_right_pad")
"""Attributes that the constructor leaves as views of the simulation state; they must stay so."""


@dataclass(frozen=True)
class _Fresh:
    """What a reset alters, as the constructor left it."""

    attributes: dict[str, Any]
    body_pos: FloatArray
    site_pos: FloatArray


class Original:
    """One environment of metaworld, whose every start is that of a newly made one.

    A plain ``reset`` of metaworld's starts from whatever the episode before has left in the model
    (it moves bodies there) and in the object's attributes.
    """

    def __init__(self, name: str, reward_version: str, render_mode: str | None = None) -> None:
        env_class = ALL_V3_ENVIRONMENTS[name]
        self.env: Any = env_class(reward_function_version=reward_version, render_mode=render_mode)
        self._name, model = name, self.env.model
        attributes = _copied(self._attributes())
        self._fresh = _Fresh(attributes, model.body_pos.copy(), model.site_pos.copy())

    def _attributes(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self.env).items() if key not in NOT_STATE}

    def start(self, task: Task) -> FloatArray:
        """Begin an episode of ``task`` as a new environment would; return obs [39]."""
        env, fresh = self.env, self._fresh
        for key in self._attributes():
            del vars(env)[key]
        vars(env).update(_copied(fresh.attributes))
        env.model.body_pos[:], env.model.site_pos[:] = fresh.body_pos, fresh.site_pos
        mujoco.mj_resetData(env.model, env.data)
        mujoco.mj_forward(env.model, env.data)
        vector = np.array([value for _, value in task.params])
        content = {"rand_vec": vector, "partially_observable": True, "env_cls": type(env)}
        env.set_task(MetaworldTask(self._name, pickle.dumps(content)))
        obs, _ = env.reset()
        return np.asarray(obs, np.float64)


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a deep copy, but of the live views themselves."""
    live = {id(attributes[key]): attributes[key] for key in _LIVE}
    return copy.deepcopy(attributes, live)


class MetaworldEnv(SingleEpisode):
    """One Meta-World task on metaworld's own environment and its own ``step``."""

    def __init__(
        self, spec: EnvSpec, task: Task, reward_version: str, render_mode: str | None = None
    ) -> None:
        super().__init__(spec, task)
        self._original = Original(task.class_name, reward_version, render_mode)
        self.metadata, self.render_mode = self._original.env.metadata, render_mode

    @property
    def original(self) -> Any:
        """Metaworld's environment, for tests and videos."""
        return self._original.env

    def _start(self) -> FloatArray:
        obs = self._original.start(self.task)
        self._original.env.max_path_length = self._horizon
        return obs

    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool] | None:
        env = self._original.env
        with QuietMujoco():
            obs, reward, _, _, info = env.step(controls)
        first_bad = int(mujoco.mjtWarning.mjWARN_BADQPOS)
        state = np.concatenate([env.data.qpos, env.data.qvel])
        if env.data.warning.number[first_bad:].any() or not (np.abs(state) <= MAX_STATE).all():
            return None
        self._success |= bool(info["success"])
        return obs, float(reward), False

    def render(self) -> Any:
        """Return a frame, as metaworld's environment does."""
        return self._original.env.render()

    def close(self) -> None:
        """Close the renderer."""
        self._original.env.close()
