"""Poles to balance on carts with varying lengths, masses and forces; some motors are reversed.

Equations, integration (explicit Euler, 20 ms), start and limits are those of Gymnasium's CartPole;
at its parameters the two agree up to rounding. Not one of the ten benchmark distributions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from task_distributions.base import BoolArray, EnvSpec, FloatArray, Positive, Task
from task_distributions.numpy_dynamics import NumpyDynamics
from task_distributions.task_lists import draw_tasks, resolve_horizon

__all__ = ["CartPole", "CartPoleSettings", "cartpole"]

HORIZON = 200
"""Horizon of CartPole-v0, on which the published returns were measured."""
GRAVITY = 9.8
TIMESTEP = 0.02
POSITION_LIMIT = 2.4
ANGLE_LIMIT = 12 * 2 * math.pi / 360
START = 0.05
"""Every state variable starts within this distance of 0."""

RANGES: dict[str, tuple[float, float]] = {
    "half_length": (0.05, 1.0),
    "pole_mass": (0.01, 1.0),
    "cart_mass": (0.5, 2.0),
    "force": (1.0, 20.0),
    "direction": (-1.0, 3.0),
}
"""Ranges of the task parameters, in metres, kilograms, newtons. Gymnasium has 0.5, 0.1, 1 and 10.

Length, pole mass and force cover the range between the extremes of arXiv 1810.12282; the mass of
the cart is added. These alone leave nothing to adapt: ``RULE`` scores above 195 of 200 on such
tasks. The force therefore gets the sign of ``direction``: in a quarter of the tasks action 1 pushes
left.
"""
OUTSIDE: dict[str, tuple[float, float]] = {
    "half_length": (1.0, 1.5),
    "pole_mass": (1.0, 1.5),
    "cart_mass": (2.0, 3.0),
    "force": (20.0, 30.0),
    "direction": (-1.0, 3.0),
}
"""Ranges of the ``ood`` tasks: everything longer, heavier and stronger."""
PARAMETERS = ("half_length", "pole_mass", "cart_mass", "force")
"""Parameters of a task; a negative force means a reversed motor."""

RULE = (0.0, 0.08, 1.0, 0.23)
"""Take action 1 where the product of these weights with the state is positive. Found by random
search; it balances nearly every task to the horizon, its opposite those with a reversed motor."""
RULE_EPISODES = 10
"""Episodes per task in the score of the rule."""


@dataclass(frozen=True)
class CartPole(NumpyDynamics):
    """The distribution of carts and poles."""

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: Gymnasium's CartPole, other lengths, masses and forces, "
            f"reward 1 per step until it falls, {self.spec.horizon} steps"
        )

    def parameters(self, tasks: Sequence[Task]) -> FloatArray:
        """Return half length, pole mass, cart mass and force [B, 4]."""
        return np.array([[task.param(key) for key in PARAMETERS] for task in tasks])

    def start(self, rng: np.random.Generator) -> FloatArray:
        """Return position, velocity, angle from upright and angular velocity [4]."""
        return rng.uniform(-START, START, 4)

    def step(
        self, obs: FloatArray, controls: FloatArray, parameters: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Push carts left or right, ``controls`` [B, 2] being one-hot; see the base class."""
        position, velocity, angle, angular_velocity = obs.T
        half_length, pole_mass, cart_mass, force = parameters.T
        total_mass, moment = pole_mass + cart_mass, pole_mass * half_length
        cos, sin = np.cos(angle), np.sin(angle)
        push = (controls[:, 1] - controls[:, 0]) * force
        pushed = (push + moment * np.square(angular_velocity) * sin) / total_mass
        angular_acceleration = (GRAVITY * sin - cos * pushed) / (
            half_length * (4.0 / 3.0 - pole_mass * np.square(cos) / total_mass)
        )
        acceleration = pushed - moment * angular_acceleration * cos / total_mass
        state = np.stack(
            [
                position + TIMESTEP * velocity,
                velocity + TIMESTEP * acceleration,
                angle + TIMESTEP * angular_velocity,
                angular_velocity + TIMESTEP * angular_acceleration,
            ],
            axis=1,
        )
        fallen = (np.abs(state[:, 0]) > POSITION_LIMIT) | (np.abs(state[:, 2]) > ANGLE_LIMIT)
        return state, np.ones(len(state)), fallen

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float:
        """Return the better mean score of ``RULE`` and of its opposite over all tasks."""
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


def _with_signed_force(task: Task) -> Task:
    force = math.copysign(task.param("force"), task.param("direction"))
    values = {**dict(task.params), "force": force}
    return replace(task, params=tuple((key, values[key]) for key in PARAMETERS))


@dataclass(frozen=True)
class CartPoleSettings:
    """Settings of ``cartpole``."""

    horizon: Positive | None = None
    """Control steps per episode; 200 if not given."""


def cartpole(settings: CartPoleSettings = CartPoleSettings()) -> CartPole:
    """Balance a pole on a cart whose length, masses and force differ from task to task.

    Equations, integration, start and limits are those of Gymnasium's CartPole, which has a half
    length of 0.5 m, a pole of 0.1 kg, a cart of 1 kg and a force of 10 N; at its parameters the two
    agree up to rounding. A control step is 20 ms. The ranges of length, pole mass and force are
    those of Packer et al. (arXiv 1810.12282). A negative force means a reversed motor, as in a
    quarter of the tasks.

    Without reversed motors there is nothing to adapt to: one fixed rule (push right where
    0.08 x' + t + 0.23 t' > 0, x being the position and t the angle) scores above 195 of 200. Its
    score on the test tasks is the ``non-adaptive`` line.
    """
    drawn = draw_tasks("cartpole", 1, RANGES, [OUTSIDE])
    return CartPole(
        name="cartpole",
        version=1,
        spec=EnvSpec(4, 2, resolve_horizon(settings.horizon, HORIZON), discrete=True),
        task_lists={split: tuple(map(_with_signed_force, tasks)) for split, tasks in drawn.items()},
    )
