"""The batched Meta-World engine: compiled physics and observations, metaworld's own rewards.

One model per class and process, shared by all its simulations. The start of a task, behind the 50
control steps with which metaworld moves the hand at every reset, is computed once by metaworld
itself and restored from then on.

Compared with metaworld's ``step`` over all 50 classes and both rewards, observations and successes
were bit-equal, rewards too but for 3e-17 in coffee-pull; the BLAS of another processor may round
a norm otherwise, by 1 ulp. Different on purpose:

- An episode starts as in a newly made environment; metaworld's own second ``reset`` keeps what the
  episode before left in the object.
- Actions are float64, whatever their type before; metaworld rounds the moves of float32 actions.
- Exploded physics is ``invalid``; metaworld goes on from the state that MuJoCo has reset.
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
from numpy.typing import NDArray

from task_distributions.base import EnvSpec, Task
from task_distributions.episodes import BatchedEpisodes
from task_distributions.metaworld_env import NOT_STATE, Original
from task_distributions.metaworld_observations import OBJECTS
from task_distributions.metaworld_rewards import DataView, ModelView, evaluator
from task_distributions.metaworld_sim import addresses, advance, parameters
from task_distributions.native import QuietMujoco

__all__ = ["MetaworldBatch"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MAX_STARTS = 100
"""Starts kept per class, 10 kB each: the 50 goals of two benchmarks."""
MAX_FREE = 10
"""Simulations of a class kept for reuse: 0.7 MB each, and 0.6 ms to make."""
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_VIEWED = ("xpos", "site_xpos", "xquat", "geom_xpos", "qpos")


@dataclass(frozen=True)
class _View:
    """A part of a field of the simulation state, which an attribute of metaworld's aliases."""

    field: str
    start: int
    stop: int

    @staticmethod
    def of(value: Any, data: mujoco.MjData) -> _View | None:
        """Return what ``value`` is a view of; None if it is an array of its own."""
        for field in _VIEWED:
            whole = getattr(data, field)
            if isinstance(value, np.ndarray) and np.shares_memory(value, whole):
                start = (value.ctypes.data - whole.ctypes.data) // 8
                return _View(field, start, start + value.size)
        return None


@dataclass(frozen=True)
class _Start:
    """A task's first moment, from which every episode of it begins."""

    state: FloatArray
    obs: FloatArray
    """[39]"""
    previous: FloatArray
    """[18]"""
    body_pos: FloatArray
    site_pos: FloatArray
    attributes: dict[str, Any]
    views: dict[str, _View]


class _Class:
    """All that the simulations of one class share: the model, the starts, the pool."""

    def __init__(self, name: str, reward_version: str) -> None:
        self._original = Original(name, reward_version)
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
        """Return the start of ``task``, computed the first time it is asked for."""
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
        views = {k: view for k, v in attributes.items() if (view := _View.of(v, data))}
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
    """Return a copy that refuses to be written to, of an array; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    copy = value.astype(value.dtype.type)  # an unpickled array has a dtype object of its own
    copy.flags.writeable = False
    return copy


@functools.cache
def _class(name: str, reward_version: str) -> _Class:
    return _Class(name, reward_version)


class _Simulation:
    """One simulation of a class: its state and the object that metaworld's rewards run on."""

    def __init__(self, of: _Class) -> None:
        self.of, self.data = of, mujoco.MjData(of.model)
        self.body_pos: FloatArray = of.model.body_pos.copy()
        self.site_pos: FloatArray = of.model.site_pos.copy()
        row = addresses(of.model, self.data, self.body_pos, self.site_pos, of.objects)
        self.row = np.array(row, np.uintp)
        self._by_name = DataView(self.data)
        self._model = ModelView(of.model, self.body_pos, self.site_pos)
        self.env = object.__new__(of.evaluator)

    def restore(self, start: _Start, tips: FloatArray) -> None:
        """Go back to ``start``; ``tips`` [3] is where the finger tips' centre will be reported."""
        mujoco.mj_setState(self.of.model, self.data, start.state, _STATE)
        self.data.warning.number[:] = 0
        self.body_pos[:], self.site_pos[:] = start.body_pos, start.site_pos
        own = vars(self.env)
        own.clear()
        own.update(start.attributes)
        for name, view in start.views.items():
            own[name] = getattr(self.data, view.field).reshape(-1)[view.start : view.stop]
        own.update(data=self._by_name, model=self._model, tips=tips)


def _take(of: _Class) -> _Simulation:
    return of.pool.pop() if of.pool else _Simulation(of)


def _give_back(simulations: list[_Simulation]) -> None:
    for simulation in simulations:
        if len(simulation.of.pool) < MAX_FREE:
            simulation.of.pool.append(simulation)


class MetaworldBatch(BatchedEpisodes):
    """Episodes of N Meta-World tasks, of whatever classes, on the batched engine."""

    def __init__(
        self, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int, reward_version: str
    ) -> None:
        super().__init__(spec, tasks, episodes_per_task)
        classes = [_class(task.class_name, reward_version) for task in tasks]
        simulations = [_take(one) for one in classes for _ in range(episodes_per_task)]
        weakref.finalize(self, _give_back, simulations)
        count = len(simulations)
        self.simulations = simulations
        self._table = np.array([one.row for one in simulations])
        self._params = np.array([one.of.parameters for one in simulations])
        names = [task.class_name for task in tasks for _ in range(episodes_per_task)]
        self._order: NDArray[np.int64] = np.argsort(names, kind="stable").astype(np.int64)
        self._bounds = classes[0].bounds
        assert all(np.array_equal(one.bounds, self._bounds) for one in classes)
        self._unstable: BoolArray = np.zeros(count, np.bool_)
        self._previous: FloatArray = np.zeros((count, 18))
        self._tips: FloatArray = np.zeros((count, 3))
        self._obs_view, self._tips_view = self._obs[:], self._tips[:]
        self._obs_view.flags.writeable = self._tips_view.flags.writeable = False

    def _start(self, seeds: Sequence[int], obs: FloatArray) -> None:
        for b, simulation in enumerate(self.simulations):
            start = simulation.of.start(self._task_of(b))
            simulation.restore(start, self._tips_view[b])
            obs[b], self._previous[b] = start.obs, start.previous
        self._unstable[:] = False

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

    def _task_of(self, b: int) -> Task:
        return self.tasks[b // self.episodes_per_task]
