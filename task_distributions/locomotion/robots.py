"""The three robots: Gymnasium's v5 MuJoCo models and their rules for a batch.

`make_env` returns Gymnasium's own environment, whose physics, observation and health check the
single environments use; the other methods do the same for B simulations at once. A conformance
test compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from task_distributions.base import BoolArray, FloatArray
from task_distributions.engine.physics import DataPool

__all__ = ["ANT", "HALFCHEETAH", "WALKER2D", "Robot", "Template", "template"]


@dataclass(frozen=True)
class Template:
    """Common start of all simulations of a robot, built once per process."""

    model: Any
    """The compiled mujoco.MjModel; never changed: tasks with other physics copy it."""
    pool: DataPool
    init_qpos: FloatArray
    """[Q] rest pose to which the reset noise is added."""
    init_qvel: FloatArray
    """[V]"""
    frame_skip: int
    dt: float
    """Seconds of one control step."""
    path: str
    """XML file of ``model``."""
    metadata: Mapping[str, Any]
    """Gymnasium's render modes and frames per second."""


@dataclass(frozen=True, eq=False)  # one object per robot, a cache key by identity
class Robot:
    """One robot: its Gymnasium environment and that environment's rules for a batch."""

    name: str
    """Gymnasium's id, e.g. ``HalfCheetah-v5``."""
    env_class: Callable[..., Any]
    obs_dim: int
    action_dim: int
    hidden_positions: int
    """Number of leading position coordinates (x, or x and y) left out of the observation."""
    noise_scale: float
    """Half-width of the uniform noise on the rest pose, in metres and radians."""
    gaussian_velocity: bool
    """Initial velocities are drawn from a normal, not a uniform, distribution of that scale."""
    healthy: Callable[[FloatArray], BoolArray] | None = None
    """Positions [B, Q] -> healthy [B]; None if episodes never end early."""
    max_observed_velocity: float = np.inf
    """Observed velocities are clipped to this."""
    tracked_body: int | None = None
    """Body whose x and y give the velocity; the root's x coordinate if None."""
    env_options: dict[str, Any] = field(default_factory=dict)

    def make_env(self, render_mode: str | None = None, model: Any = None) -> gymnasium.Env:
        """Return Gymnasium's environment of this robot, on a copy of ``model`` if one is given."""
        env_class = self.env_class if model is None else _on_model(self.env_class, model)
        return env_class(render_mode=render_mode, **self.env_options)

    def reset_state(
        self, rngs: Sequence[np.random.Generator], rest: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return initial positions [B, Q] and velocities [B, V], drawn with ``rngs``.

        The noise is added to the rest poses ``rest`` [B, Q], or to the robot's own if None.
        """
        start, scale = template(self), self.noise_scale
        qpos = np.tile(start.init_qpos, (len(rngs), 1)) if rest is None else rest.copy()
        qvel = np.tile(start.init_qvel, (len(rngs), 1))
        for b, rng in enumerate(rngs):
            qpos[b] += rng.uniform(low=-scale, high=scale, size=qpos.shape[1])
            if self.gaussian_velocity:
                qvel[b] += scale * rng.standard_normal(qvel.shape[1])
            else:
                qvel[b] += rng.uniform(low=-scale, high=scale, size=qvel.shape[1])
        return qpos, qvel

    def observe(self, qpos: FloatArray, qvel: FloatArray) -> FloatArray:
        """Return observations [B, O] for positions [B, Q] and velocities [B, V]."""
        if np.isfinite(self.max_observed_velocity):
            qvel = np.clip(qvel, -self.max_observed_velocity, self.max_observed_velocity)
        return np.concatenate((qpos[:, self.hidden_positions :], qvel), axis=1)


def _on_model(env_class: Callable[..., Any], model: mujoco.MjModel) -> Callable[..., Any]:
    """Return ``env_class`` on a copy of ``model`` instead of its XML file."""

    def _initialize_simulation(env: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
        own = copy.copy(model)
        own.vis.global_.offwidth, own.vis.global_.offheight = env.width, env.height
        return own, mujoco.MjData(own)

    hook = {"_initialize_simulation": _initialize_simulation}
    altered: Callable[..., Any] = type("Altered", (env_class,), hook)  # type: ignore[arg-type]
    return altered


@cache
def template(robot: Robot) -> Template:
    """Return the process-wide template of ``robot``."""
    env = robot.env_class()
    result = Template(
        model=env.model,
        pool=DataPool(env.model),
        init_qpos=env.init_qpos,
        init_qvel=env.init_qvel,
        frame_skip=env.frame_skip,
        dt=float(env.dt),
        path=env.fullpath,
        metadata=env.metadata,
    )
    env.close()
    return result


def _ant_healthy(qpos: FloatArray) -> BoolArray:
    height = qpos[:, 2]
    return (height >= 0.2) & (height <= 1.0)


def _walker_healthy(qpos: FloatArray) -> BoolArray:
    height, angle = qpos[:, 1], qpos[:, 2]
    return (height > 0.8) & (height < 2.0) & (np.abs(angle) < 1.0)


HALFCHEETAH = Robot(
    name="HalfCheetah-v5",
    env_class=HalfCheetahEnv,
    obs_dim=17,
    action_dim=6,
    hidden_positions=1,
    noise_scale=0.1,
    gaussian_velocity=True,
)
ANT = Robot(
    name="Ant-v5",
    env_class=AntEnv,
    obs_dim=27,
    action_dim=8,
    hidden_positions=2,
    noise_scale=0.1,
    gaussian_velocity=True,
    healthy=_ant_healthy,
    tracked_body=1,
    env_options={"include_cfrc_ext_in_observation": False},  # 27 observations, as in PEARL
)
WALKER2D = Robot(
    name="Walker2d-v5",
    env_class=Walker2dEnv,
    obs_dim=17,
    action_dim=6,
    hidden_positions=1,
    noise_scale=5e-3,
    gaussian_velocity=False,
    healthy=_walker_healthy,
    max_observed_velocity=10.0,
)
