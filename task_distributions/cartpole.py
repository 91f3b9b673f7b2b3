"""Balancing poles on carts of other lengths, masses and forces; some motors are reversed.

Equations, integration (explicit Euler, 20 ms), start and limits are those of Gymnasium's CartPole;
at its parameters the two agree to the last bit. Not one of the benchmark's ten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import gymnasium
import numpy as np
from numpy.typing import NDArray

from task_distributions.base import EnvSpec, Split, Task
from task_distributions.episodes import BatchedEpisodes, SingleEpisode, expand_per_env
from task_distributions.task_lists import check_horizon, check_own, check_split, draw_many

__all__ = ["CartPole", "CartPoleBatch", "CartPoleEnv", "cartpole"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

HORIZON = 200
"""CartPole-v0's: the returns that are compared with were measured on it."""
GRAVITY = 9.8
TIMESTEP = 0.02
POSITION_LIMIT = 2.4
ANGLE_LIMIT = 12 * 2 * math.pi / 360
START = 0.05
"""Every number of the state begins within this of 0."""

RANGES: dict[str, tuple[float, float]] = {
    "half_length": (0.05, 1.0),
    "pole_mass": (0.01, 1.0),
    "cart_mass": (0.5, 2.0),
    "force": (1.0, 20.0),
    "direction": (-1.0, 3.0),
}
"""What tasks differ in: metres, kilograms, newtons. Gymnasium has 0.5, 0.1, 1 and 10.

Length, pole mass and force as in arXiv 1810.12282, its extremes and all between; the cart's mass
besides. Were that all, nothing would be left to adapt: ``RULE`` alone scores above 195 of 200 on
such tasks. So the sign of ``direction`` goes to the force: in a quarter action 1 pushes left.
"""
PARAMETERS = ("half_length", "pole_mass", "cart_mass", "force")
"""What a task holds; a negative force is that of a reversed motor."""

RULE = (0.0, 0.08, 1.0, 0.23)
"""Take action 1 where this times the state is positive. Found by random search; it balances nearly
every task to the horizon if the motor is not reversed, and the opposite rule does if it is."""
RULE_EPISODES = 10
"""Per task, of the line of the rule."""


def _start(rng: np.random.Generator) -> FloatArray:
    return rng.uniform(-START, START, 4)


def _physics(tasks: Sequence[Task]) -> FloatArray:
    """Return half length, pole mass, cart mass and force [4, N]."""
    return np.array([[task.param(key) for task in tasks] for key in PARAMETERS])


def _move(state: FloatArray, controls: FloatArray, physics: FloatArray) -> FloatArray:
    """Return states [B, 4] one step on.

    Args:
        state: [B, 4] position, velocity, angle from upright, angular velocity.
        controls: [B, 2] one-hot: push left, push right; a negative force reverses them.
        physics: [4, B], as of ``_physics``.
    """
    position, velocity, angle, turning = state.T
    half_length, pole_mass, cart_mass, force = physics
    total_mass, moment = pole_mass + cart_mass, pole_mass * half_length
    cos, sin = np.cos(angle), np.sin(angle)
    push = (controls[:, 1] - controls[:, 0]) * force
    pushed = (push + moment * np.square(turning) * sin) / total_mass
    turning_rate = (GRAVITY * sin - cos * pushed) / (
        half_length * (4.0 / 3.0 - pole_mass * np.square(cos) / total_mass)
    )
    acceleration = pushed - moment * turning_rate * cos / total_mass
    moved: FloatArray = np.stack(
        [
            position + TIMESTEP * velocity,
            velocity + TIMESTEP * acceleration,
            angle + TIMESTEP * turning,
            turning + TIMESTEP * turning_rate,
        ],
        axis=1,
    )
    return moved


def _fallen(state: FloatArray) -> BoolArray:
    """Return where the pole fell or the cart left the track [B]."""
    out: BoolArray = (np.abs(state[:, 0]) > POSITION_LIMIT) | (np.abs(state[:, 2]) > ANGLE_LIMIT)
    return out


class CartPoleEnv(SingleEpisode):
    """One cart and pole as an ordinary Gymnasium environment; action 1 pushes by the force."""

    def __init__(self, spec: EnvSpec, task: Task) -> None:
        super().__init__(spec, task)
        self._physics = _physics([task])

    def _start(self) -> FloatArray:
        return _start(self.np_random)

    def _advance(self, controls: FloatArray) -> tuple[FloatArray, float, bool]:
        state = _move(self._obs[np.newaxis], controls[np.newaxis], self._physics)
        return state[0], 1.0, bool(_fallen(state)[0])


class CartPoleBatch(BatchedEpisodes):
    """Episodes of N carts and poles at once."""

    def __init__(self, spec: EnvSpec, tasks: Sequence[Task], episodes_per_task: int) -> None:
        super().__init__(spec, tasks, episodes_per_task)
        self._physics = expand_per_env(_physics(tasks).T, episodes_per_task).T

    def _start(self, seeds: Sequence[int], obs: FloatArray) -> None:
        for b, seed in enumerate(seeds):
            obs[b] = _start(gymnasium.utils.seeding.np_random(seed)[0])

    def _advance(
        self, controls: FloatArray, valid: BoolArray, obs: FloatArray, reward: FloatArray
    ) -> BoolArray:
        np.copyto(obs, _move(obs, controls, self._physics), where=valid[:, np.newaxis])
        reward[:] = 1.0
        return _fallen(obs)


@dataclass(frozen=True)
class CartPole:
    """The distribution of carts and poles."""

    spec: EnvSpec
    _lists: dict[Split, tuple[Task, ...]] = field(repr=False)
    name: str = "cartpole"
    version: int = 1

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: Gymnasium's CartPole, other lengths, masses and forces, "
            f"reward 1 per step until it falls, {self.spec.horizon} steps"
        )

    def tasks(self, split: Split) -> tuple[Task, ...]:
        """Return the fixed list of tasks of one split."""
        check_split(split)
        return self._lists[split]

    def make_env(self, task: Task) -> CartPoleEnv:
        """Return the ordinary Gymnasium environment of one task."""
        check_own(self.name, self.version, [task])
        return CartPoleEnv(self.spec, task)

    def make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> CartPoleBatch:
        """Return the batched engine of the same MDPs."""
        check_own(self.name, self.version, tasks)
        return CartPoleBatch(self.spec, tasks, episodes_per_task)

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float:
        """Return the mean score of ``RULE``, played the one way or the other on all tasks."""
        return max(self._score(np.array(RULE), tasks), self._score(-np.array(RULE), tasks))

    def _score(self, rule: FloatArray, tasks: Sequence[Task]) -> float:
        env = self.make_batch(tasks, RULE_EPISODES)
        obs = env.reset(range(len(tasks) * RULE_EPISODES))
        total = np.zeros(len(obs))
        for _ in range(self.spec.horizon):
            lean = obs @ rule
            out = env.step(np.stack([-lean, lean], axis=1))
            total += out.reward
            obs = out.obs
        return float(total.mean())


def _wired(task: Task) -> Task:
    force = math.copysign(task.param("force"), task.param("direction"))
    values = {**dict(task.params), "force": force}
    params = tuple((key, values[key]) for key in PARAMETERS)
    return Task(task.dist, task.version, task.split, task.index, task.name, params)


def cartpole(horizon: int | None = None) -> CartPole:
    """Return the distribution; ``horizon`` control steps per episode, 200 if None."""
    spec = EnvSpec(4, 2, check_horizon(horizon, HORIZON), discrete=True)
    drawn = draw_many("cartpole", 1, RANGES)
    lists: dict[Split, tuple[Task, ...]] = {
        split: tuple(_wired(task) for task in tasks) for split, tasks in drawn.items()
    }
    return CartPole(spec, lists)
