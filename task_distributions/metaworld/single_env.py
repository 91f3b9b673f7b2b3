"""Metaworld's own environments: their start for a task, and as Gymnasium environments."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.types import Task as MetaworldTask

from task_distributions.base import EnvSpec, FloatArray, Task
from task_distributions.engine.mujoco_capi import QuietMujoco, has_exploded
from task_distributions.task_env import TaskEnv

__all__ = ["NOT_STATE", "MetaWorldEnv", "OriginalEnv", "View"]

NOT_STATE = ("model", "data", "mujoco_renderer")
_LIVE = ("init_left_pad", "init_right_pad")
"""Attributes that are views of the simulation state after construction, and must remain so."""
_VIEWED = ("xpos", "site_xpos", "xquat", "geom_xpos", "qpos")


@dataclass(frozen=True)
class View:
    """A slice of a field of the simulation state, aliased by an attribute of metaworld's object."""

    field: str
    start: int
    stop: int

    @staticmethod
    def of(value: Any, data: mujoco.MjData) -> View | None:
        """Return the slice that ``value`` is a view of; None if it owns its data."""
        for field in _VIEWED:
            whole = getattr(data, field)
            if isinstance(value, np.ndarray) and np.shares_memory(value, whole):
                start = (value.ctypes.data - whole.ctypes.data) // 8
                return View(field, start, start + value.size)
        return None

    def on(self, data: mujoco.MjData) -> FloatArray:
        """Return the slice of ``data``, as a view."""
        whole: FloatArray = getattr(data, self.field)
        return whole.reshape(-1)[self.start : self.stop]


@dataclass(frozen=True)
class _Initial:
    """Everything a reset alters, as the constructor left it."""

    attributes: dict[str, Any]
    body_pos: FloatArray
    site_pos: FloatArray


class _PhysicsOnly:
    """Put before one of metaworld's classes: its model without what only a renderer needs.

    The physics is the same bit for bit. A model is 3 MB instead of 20, and a step takes less time,
    since most geoms of the arm are not placed.
    """

    fullpath: str

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        spec = mujoco.MjSpec.from_file(self.fullpath)
        for geom in spec.geoms:
            if geom.name and not (geom.contype or geom.conaffinity):
                # Metaworld looks up where it is, and the compiler keeps what a sensor refers to.
                spec.add_sensor(
                    type=mujoco.mjtSensor.mjSENS_FRAMEPOS,
                    objtype=mujoco.mjtObj.mjOBJ_GEOM,
                    objname=geom.name,
                )
        spec.compiler.discardvisual = True
        model = spec.compile()
        return model, mujoco.MjData(model)


class OriginalEnv:
    """One of metaworld's environments, started every time as if newly constructed.

    Metaworld's own ``reset`` starts from whatever the previous episode has left in the model, whose
    bodies it moves, and in the attributes of the object.
    """

    def __init__(
        self,
        name: str,
        reward_version: str,
        render_mode: str | None = None,
        physics_only: bool = False,
    ) -> None:
        env_class = ALL_V3_ENVIRONMENTS[name]
        if physics_only:
            env_class = type(env_class.__name__, (_PhysicsOnly, env_class), {})
        self.env: Any = env_class(reward_function_version=reward_version, render_mode=render_mode)
        self._name, model = name, self.env.model
        attributes = _copy_attributes(self._attributes())
        self._initial = _Initial(attributes, model.body_pos.copy(), model.site_pos.copy())

    def _attributes(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self.env).items() if key not in NOT_STATE}

    def start(self, task: Task) -> FloatArray:
        """Start an episode of ``task`` as a new environment would; return obs [39]."""
        env, initial = self.env, self._initial
        for key in self._attributes():
            del vars(env)[key]
        vars(env).update(_copy_attributes(initial.attributes))
        env.model.body_pos[:], env.model.site_pos[:] = initial.body_pos, initial.site_pos
        mujoco.mj_resetData(env.model, env.data)
        mujoco.mj_forward(env.model, env.data)
        vector = np.array([value for _, value in task.params])
        env_class = ALL_V3_ENVIRONMENTS[self._name]
        content = {"rand_vec": vector, "partially_observable": True, "env_cls": env_class}
        env.set_task(MetaworldTask(self._name, pickle.dumps(content)))
        obs, _ = env.reset()
        return np.asarray(obs, np.float64)

    def save(self) -> dict[str, Any]:
        """Return a picklable copy of the state in the middle of an episode."""
        env, model = self.env, self.env.model
        attributes = self._attributes()
        views = {k: view for k, v in attributes.items() if (view := View.of(v, env.data))}
        return {
            "attributes": {k: copy.deepcopy(v) for k, v in attributes.items() if k not in views},
            "views": views,
            "body_pos": model.body_pos.copy(),
            "site_pos": model.site_pos.copy(),
            "data": copy.copy(env.data),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a result of ``save``."""
        env = self.env
        for key in self._attributes():
            del vars(env)[key]
        env.model.body_pos[:], env.model.site_pos[:] = state["body_pos"], state["site_pos"]
        env.data = env.mujoco_renderer.data = state["data"]
        views = {key: view.on(env.data) for key, view in state["views"].items()}
        vars(env).update(state["attributes"] | views)


def _copy_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a deep copy that keeps the live views."""
    live = {id(attributes[key]): attributes[key] for key in _LIVE}
    return copy.deepcopy(attributes, live)


class MetaWorldEnv(TaskEnv):
    """One Meta-World task on metaworld's own environment and its own ``step``."""

    def __init__(
        self, spec: EnvSpec, task: Task, reward_version: str, render_mode: str | None = None
    ) -> None:
        super().__init__(spec, task)
        self._original = OriginalEnv(task.class_name, reward_version, render_mode)
        self.metadata, self.render_mode = dict(self._original.env.metadata), render_mode

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
        if has_exploded(env.data):
            return None
        self._success |= bool(info["success"])
        return obs, float(reward), False

    def _simulation_state(self) -> dict[str, Any]:
        return self._original.save()

    def _restore_simulation(self, state: dict[str, Any]) -> None:
        self._original.load(state)

    def render(self) -> Any:
        """Return a frame from metaworld's environment."""
        return self._original.env.render()

    def close(self) -> None:
        """Close the renderer."""
        self._original.env.close()
