"""Rewards of the locomotion families, shared by the single and the batched environments.

Shapes: velocity [B, D] in m/s with D = 1 (x) or 2 (x, y); actions [B, A] clipped; goals [B, G].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from task_distributions.base import FloatArray

__all__ = ["Reward", "forward", "heading", "sparse_tracking", "tracking"]


@dataclass(frozen=True)
class Reward:
    """bonus + progress(velocity, goal) − control_cost · ‖action‖², per control step."""

    progress: Callable[[FloatArray, FloatArray], FloatArray]
    """(velocity [B, D], goals [B, G]) -> [B]"""
    goal: Callable[[float], tuple[float, ...]]
    """Task parameter -> the G numbers that ``progress`` takes."""
    control_cost: float
    bonus: float = 0.0
    """Healthy bonus per step."""

    def __call__(self, velocity: FloatArray, actions: FloatArray, goals: FloatArray) -> FloatArray:
        """Return the rewards [B]."""
        cost = self.control_cost * np.square(actions).sum(axis=1)
        reward: FloatArray = self.progress(velocity, goals) + self.bonus - cost
        return reward


def _speed_error(velocity: FloatArray, goals: FloatArray) -> FloatArray:
    return -np.abs(velocity[:, 0] - goals[:, 0])


SPARSE_RADIUS = 0.3
"""Distance from the target speed in m/s within which ``sparse_tracking`` gives a reward."""


def _near_speed(velocity: FloatArray, goals: FloatArray) -> FloatArray:
    error = np.abs(velocity[:, 0] - goals[:, 0])
    return np.where(error <= SPARSE_RADIUS, 1.0 - error, 0.0)


def _speed_along(velocity: FloatArray, goals: FloatArray) -> FloatArray:
    along: FloatArray = velocity[:, 0] * goals[:, 0]
    for d in range(1, goals.shape[1]):  # in fixed order: a sum over an axis may round differently
        along = along + velocity[:, d] * goals[:, d]
    return along


def tracking(*, control_cost: float, bonus: float = 0.0) -> Reward:
    """Run at a given speed: −|v_x − v*|, where v* is the task parameter in m/s."""
    return Reward(_speed_error, lambda target: (target,), control_cost, bonus)


def sparse_tracking() -> Reward:
    """Run at a given speed: 1 − |v_x − v*| within ``SPARSE_RADIUS`` of it, else 0, at no cost.

    It is the rule of PEARL's sparse point robot (arXiv 1903.08254) applied to the speed.
    """
    return Reward(_near_speed, lambda target: (target,), control_cost=0.0)


def heading(*, control_cost: float, bonus: float = 0.0) -> Reward:
    """Run in a given direction: v · (cos θ, sin θ), where θ is the task parameter in radians."""
    return Reward(
        _speed_along, lambda angle: (math.cos(angle), math.sin(angle)), control_cost, bonus
    )


def forward(*, control_cost: float, bonus: float = 0.0) -> Reward:
    """Run along x whatever the task parameter: v_x."""
    return Reward(_speed_along, lambda _: (1.0,), control_cost, bonus)
