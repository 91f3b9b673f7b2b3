"""Environments of the locomotion families: single on Gymnasium's robots, batched on the engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mujoco
import numpy as np

from task_distributions.base import BoolArray, EnvSpec, FloatArray, IndexArray, Task
from task_distributions.engine.mujoco_capi import QuietMujoco, has_exploded
from task_distributions.engine.physics import DataPool, Physics
from task_distributions.locomotion.rewards import Reward
from task_distributions.locomotion.robots import Robot, template
from task_distributions.task_env import BatchedTaskEnv, TaskEnv

__all__ = [
    "BatchedLocomotionEnv",
    "Family",
    "LocomotionEnv",
    "scale_gravity",
    "scale_gravity_log2",
    "scale_mass",
    "scale_sides",
]

Alteration = Callable[[mujoco.MjModel, mujoco.MjData, float], None]
"""Changes a model in place; the data is scratch space."""


def scale_gravity(model: mujoco.MjModel, data: mujoco.MjData, scale: float) -> None:
    """Multiply gravity by ``scale``, in place."""
    model.opt.gravity[:] *= scale


def scale_gravity_log2(model: mujoco.MjModel, data: mujoco.MjData, log2_scale: float) -> None:
    """Multiply gravity by 2^log2_scale, in place."""
    scale_gravity(model, data, 2.0**log2_scale)


def scale_mass(model: mujoco.MjModel, data: mujoco.MjData, scale: float) -> None:
    """Multiply every body's mass and inertia by ``scale``, in place."""
    model.body_mass[:] *= scale
    model.body_inertia[:] *= scale
    mujoco.mj_setConst(model, data)  # updates inverse weights and subtree masses


def scale_sides(model: mujoco.MjModel, data: mujoco.MjData, log2_scale: float) -> None:
    """Multiply mass and inertia of all bodies on the left by s = 2^log2_scale, on the right by 1/s.

    The left is where y > 0 in the rest pose, for a robot that faces along x; in place.
    """
    mujoco.mj_kinematics(model, data)
    side = np.sign(data.xipos[:, 1].round(6))  # 0 in the middle
    scale = np.exp2(log2_scale * side)
    model.body_mass[:] *= scale
    model.body_inertia[:] *= scale[:, np.newaxis]
    mujoco.mj_setConst(model, data)


@dataclass(frozen=True)
class Family:
    """Common parts of a distribution's tasks: the robot, the reward, the change of physics."""

    robot: Robot
    parameter: str
    """Name of the one number in which the tasks differ."""
    reward: Reward
    alter: Alteration | None = None
    """Applies that number to the physics; None if it only sets the goal."""
    action_limit: float = 1.0
    """Actions are clipped to this magnitude; the robot's motors clamp them to 1 in any case."""

    def goals(self, tasks: Sequence[Task]) -> FloatArray:
        """Return the goal of each task as the reward takes it [N, G]."""
        return np.array([self.reward.goal(task.param(self.parameter)) for task in tasks])

    def model(self, task: Task) -> mujoco.MjModel:
        """Return the model with the physics of ``task``; it is shared, so do not change it."""
        if self.alter is None:
            return template(self.robot).model
        return _altered_model(self.robot, self.alter, task.param(self.parameter))

    def pool(self, models: Sequence[mujoco.MjModel]) -> DataPool:
        """Return the pool that provides one simulation state for each of ``models``."""
        return template(self.robot).pool


@lru_cache(maxsize=128)  # a copy takes 1 to 2 ms and 0.5 MB
def _altered_model(robot: Robot, alter: Alteration, value: float) -> mujoco.MjModel:
    start = template(robot)
    model = copy.copy(start.model)
    alter(model, mujoco.MjData(start.model), value)
    return model


class LocomotionEnv(TaskEnv):
    """One locomotion task on Gymnasium's own robot environment, with the reward of its family."""

    def __init__(
        self, family: Family, spec: EnvSpec, task: Task, render_mode: str | None = None
    ) -> None:
        super().__init__(spec, task)
        self._robot: Any = family.robot.make_env(render_mode, family.model(task))
        self.metadata, self.render_mode = dict(self._robot.metadata), render_mode
        self.action_limit = family.action_limit
        self._reward, self._goal = family.reward, family.goals([task])

    @property
    def data(self) -> mujoco.MjData:
        """The simulation state, for tests and videos."""
        return self._robot.data

    @property
    def model(self) -> mujoco.MjModel:
        """The simulated model, with this task's physics."""
        return self._robot.model

    def _start(self) -> FloatArray:
        self._robot.np_random = self.np_random
        obs, _ = self._robot.reset()
        return np.asarray(obs)

    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool] | None:
        with QuietMujoco():
            obs, _, terminated, _, info = self._robot.step(controls)
        if has_exploded(self._robot.data):
            return None
        velocity = np.array([[info["x_velocity"], info.get("y_velocity", 0.0)]])
        reward = self._reward(velocity, controls[np.newaxis], self._goal)
        return obs, float(reward[0]), bool(terminated)

    def _simulation_state(self) -> mujoco.MjData:
        return copy.copy(self.data)

    def _restore_simulation(self, state: mujoco.MjData) -> None:
        self._robot.data = self._robot.mujoco_renderer.data = state

    def render(self) -> Any:
        """Return a frame from Gymnasium's environment of the robot."""
        return self._robot.render()

    def close(self) -> None:
        """Close the renderer."""
        self._robot.close()


class BatchedLocomotionEnv(BatchedTaskEnv):
    """Episodes of N locomotion tasks on the batched engine."""

    def __init__(
        self, family: Family, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int
    ) -> None:
        super().__init__(spec, tasks, episodes_per_task)
        start = template(family.robot)
        per_task = [family.model(task) for task in tasks]
        models = [model for model in per_task for _ in range(episodes_per_task)]
        self.physics = Physics(
            models,
            family.pool(models),
            frame_skip=start.frame_skip,
            tracked_body=family.robot.tracked_body,
        )
        self._robot, self._reward_function, self._dt = family.robot, family.reward, start.dt
        self.metadata, self.action_limit = start.metadata, family.action_limit
        self._rest = np.array([model.qpos0 for model in models])
        self._goals = np.repeat(family.goals(tasks), episodes_per_task, axis=0)

    def _start(self, rows: IndexArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        physics = self.physics
        physics.reset(*self._robot.reset_state(rngs, self._rest[rows]), rows)
        return self._robot.observe(physics.qpos[rows], physics.qvel[rows])

    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        physics = self.physics
        before = physics.tracked.copy()
        physics.step(controls, valid)
        valid &= ~physics.unstable
        np.copyto(obs, self._robot.observe(physics.qpos, physics.qvel), where=valid[:, np.newaxis])
        velocity = (physics.tracked - before) / self._dt
        reward[:] = self._reward_function(velocity, controls, self._goals)
        if self._robot.healthy is None:
            return np.zeros_like(valid)
        return ~self._robot.healthy(physics.qpos)

    def show(self, b: int, env: Any) -> None:
        """Bring ``env``, a single environment of the same task, into the state of environment b."""
        env.data.qpos[:], env.data.qvel[:] = self.physics.qpos[b], self.physics.qvel[b]
        mujoco.mj_forward(env.model, env.data)
