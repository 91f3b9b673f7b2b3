"""The batched Meta-World engine: compiled physics and observations, metaworld's own rewards.

All simulations of a class in a process share one model. Metaworld computes the start of a task,
after the 50 control steps with which it moves the hand at every reset, once; later episodes restore
it.

Over all 50 classes and both rewards, observations, rewards and successes equal those of metaworld's
``step`` up to rounding: a norm that metaworld takes from the BLAS may differ in the last place,
depending on the processor. Intended differences:

- An episode starts as in a new environment; metaworld's second ``reset`` keeps attributes of the
  previous episode.
- Actions are float64, whatever their dtype; metaworld rounds the moves of float32 actions.
- An episode whose physics explodes is ``invalid``; metaworld continues from the state to which
  MuJoCo has reset the simulation.
"""

from __future__ import annotations

import functools
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from task_distributions.base import BoolArray, EnvSpec, FloatArray, IndexArray, Task
from task_distributions.engine.mujoco_capi import QuietMujoco
from task_distributions.metaworld.observations import OBJECTS
from task_distributions.metaworld.rewards import DataView, ModelView, evaluator
from task_distributions.metaworld.single_env import NOT_STATE, OriginalEnv, View
from task_distributions.metaworld.stepping import addresses, advance, parameters
from task_distributions.task_env import BatchedTaskEnv

__all__ = ["BatchedMetaWorldEnv"]

MAX_STARTS = 100
"""Cached starts per class, 10 kB each: the 50 goals of two benchmarks."""
MAX_FREE = 10
"""Simulations of a class kept for reuse: 0.7 MB each, and 0.6 ms to create."""
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@dataclass(frozen=True)
class _Start:
    """Initial state of every episode of a task."""

    state: FloatArray
    obs: FloatArray
    """[39]"""
    previous: FloatArray
    """[18]"""
    body_pos: FloatArray
    site_pos: FloatArray
    attributes: dict[str, Any]
    views: dict[str, View]


class _ManipulationClass:
    """Shared by the simulations of one class: the model, the cached starts, the pool."""

    def __init__(self, name: str, reward_version: str) -> None:
        self._original = OriginalEnv(name, reward_version, physics_only=True)
        env = self._original.env
        self.model: mujoco.MjModel = env.model
        self.objects, self.evaluator = OBJECTS[name], evaluator(env.__class__)
        self.parameters = parameters(env, self.objects)
        space = env.sawyer_observation_space
        self.bounds: FloatArray = np.array([space.low, space.high])
        """[2, 39]"""
        self.pool: list[_Simulation] = []
        self._starts: OrderedDict[tuple, _Start] = OrderedDict()

    def start(self, task: Task) -> _Start:
        """Return the start of ``task``, computed on first use."""
        if task.params not in self._starts:
            self._starts[task.params] = self._compute(task)
            if len(self._starts) > MAX_STARTS:
                self._starts.popitem(last=False)
        self._starts.move_to_end(task.params)
        return self._starts[task.params]

    def _compute(self, task: Task) -> _Start:
        obs, env = self._original.start(task), self._original.env
        model, data = env.model, env.data
        state = np.zeros(mujoco.mj_stateSize(model, _STATE))
        mujoco.mj_getState(model, data, state, _STATE)
        attributes = {k: v for k, v in vars(env).items() if k not in NOT_STATE}
        views = {k: view for k, v in attributes.items() if (view := View.of(v, data))}
        return _Start(
            state,
            obs,
            obs[:18].copy(),
            model.body_pos.copy(),
            model.site_pos.copy(),
            {k: _frozen(v) for k, v in attributes.items() if k not in views},
            views,
        )


def _frozen(value: Any) -> Any:
    """Return a read-only copy of an array; any other value unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    copy = value.astype(value.dtype.type)  # an unpickled array has a dtype object of its own
    copy.flags.writeable = False
    return copy


@functools.cache
def _manipulation_class(name: str, reward_version: str) -> _ManipulationClass:
    return _ManipulationClass(name, reward_version)


class _Simulation:
    """One simulation of a class: its state and the object whose methods are metaworld's rewards."""

    def __init__(self, shared: _ManipulationClass) -> None:
        model = shared.model
        self.shared, self.data = shared, mujoco.MjData(model)
        self.body_pos: FloatArray = model.body_pos.copy()
        self.site_pos: FloatArray = model.site_pos.copy()
        row = addresses(model, self.data, self.body_pos, self.site_pos, shared.objects)
        self.row = np.array(row, np.uintp)
        self._data_view = DataView(self.data)
        self._model_view = ModelView(model, self.body_pos, self.site_pos)
        self.env = object.__new__(shared.evaluator)

    def restore(self, start: _Start, tips: FloatArray) -> None:
        """Restore ``start``; the engine will write the finger tips' midpoint into ``tips`` [3]."""
        mujoco.mj_setState(self.shared.model, self.data, start.state, _STATE)
        self.data.warning.number[:] = 0
        self.body_pos[:], self.site_pos[:] = start.body_pos, start.site_pos
        attributes = vars(self.env)
        attributes.clear()
        attributes.update(start.attributes)
        for name, view in start.views.items():
            attributes[name] = view.on(self.data)
        attributes.update(data=self._data_view, model=self._model_view, tips=tips)


def _acquire(shared: _ManipulationClass) -> _Simulation:
    return shared.pool.pop() if shared.pool else _Simulation(shared)


def _release(simulations: list[_Simulation]) -> None:
    for simulation in simulations:
        if len(simulation.shared.pool) < MAX_FREE:
            simulation.shared.pool.append(simulation)


class BatchedMetaWorldEnv(BatchedTaskEnv):
    """Episodes of N Meta-World tasks, of any classes, on the batched engine."""

    def __init__(
        self, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int, reward_version: str
    ) -> None:
        super().__init__(spec, tasks, episodes_per_task)
        self.metadata = SawyerXYZEnv.metadata
        classes = [_manipulation_class(task.class_name, reward_version) for task in tasks]
        simulations = [_acquire(each) for each in classes for _ in range(episodes_per_task)]
        weakref.finalize(self, _release, simulations)
        count = len(simulations)
        self.simulations = simulations
        self._table = np.array([each.row for each in simulations])
        self._params = np.array([each.shared.parameters for each in simulations])
        names = [task.class_name for task in tasks for _ in range(episodes_per_task)]
        self._order: NDArray[np.int64] = np.argsort(names, kind="stable").astype(np.int64)
        self._bounds = classes[0].bounds
        assert all(np.array_equal(each.bounds, self._bounds) for each in classes)
        self._unstable: BoolArray = np.zeros(count, np.bool_)
        self._previous: FloatArray = np.zeros((count, 18))
        self._tips: FloatArray = np.zeros((count, 3))
        self._obs_view, self._tips_view = self._obs[:], self._tips[:]
        self._obs_view.flags.writeable = self._tips_view.flags.writeable = False

    def goals(self) -> FloatArray:
        """Return the hidden goals [B, 3] as they are now, as metaworld would show them."""
        return np.array([each.env._get_pos_goal() for each in self.simulations])

    def _start(self, rows: IndexArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        starts = []
        for b in rows.tolist():
            simulation = self.simulations[b]
            start = simulation.shared.start(self._task_of(b))
            simulation.restore(start, self._tips_view[b])
            self._previous[b] = start.previous
            starts.append(start.obs)
        self._unstable[rows] = False
        return np.array(starts)

    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        assert obs is self._obs
        scratch = (self._bounds, self._unstable, self._previous, self._tips, obs)
        with QuietMujoco():
            advance(self._table, self._params, self._order, valid, controls, *scratch)
        valid &= ~self._unstable
        for b in np.flatnonzero(valid).tolist():
            env = self.simulations[b].env
            try:
                reward[b], info = env.evaluate_state(self._obs_view[b], controls[b])
            except (AssertionError, ValueError) as error:
                error.add_note(f"in metaworld's reward of {self._task_of(b).name}")
                raise
            if info["success"]:
                self._success[b] = True
        return np.zeros_like(valid)

    def show(self, b: int, env: Any) -> None:
        """Bring ``env``, a single environment of the same task, into the state of environment b."""
        simulation, model, data = self.simulations[b], env.original.model, env.original.data
        model.body_pos[:], model.site_pos[:] = simulation.body_pos, simulation.site_pos
        data.qpos[:], data.qvel[:] = simulation.data.qpos, simulation.data.qvel
        data.mocap_pos[:] = simulation.data.mocap_pos
        data.mocap_quat[:] = simulation.data.mocap_quat
        mujoco.mj_forward(model, data)

    def _task_of(self, b: int) -> Task:
        return self.tasks[b // self.episodes_per_task]
