"""The benchmark's task distributions: MDPs only, without torch and without ray."""

from __future__ import annotations

import importlib
from typing import Any

from task_distributions.base import (
    SPLITS,
    BatchedEnv,
    EnvSpec,
    Split,
    StepBatch,
    Task,
    TaskDistribution,
)

__all__ = [
    "REGISTRY",
    "SPLITS",
    "BatchedEnv",
    "EnvSpec",
    "Split",
    "StepBatch",
    "Task",
    "TaskDistribution",
    "load",
    "names",
]

REGISTRY: dict[str, str] = {
    "halfcheetah-vel": "task_distributions.locomotion:halfcheetah_vel",
    "ant-vel": "task_distributions.locomotion:ant_vel",
    "walker2d-vel": "task_distributions.locomotion:walker2d_vel",
    "ant-dir": "task_distributions.locomotion:ant_dir",
    "halfcheetah-gravity": "task_distributions.locomotion:halfcheetah_gravity",
    "ant-mass": "task_distributions.locomotion:ant_mass",
    "point_goal": "task_distributions.point_goal:point_goal",
}
"""Name -> ``module:factory``. A factory takes ``horizon: int | None`` and returns the distribution."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order."""
    return tuple(REGISTRY)


def load(name: str, **options: Any) -> TaskDistribution:
    """Build the distribution ``name``; ``options`` (``horizon=...``) go to its factory.

    Raises:
        ValueError: the name is not registered.
    """
    if name not in REGISTRY:
        raise ValueError(
            f"unknown task_dist {name!r}; have: {', '.join(names())}. "
            "Register it in task_distributions/__init__.py"
        )
    module, _, attribute = REGISTRY[name].partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    distribution: TaskDistribution = factory(**options)
    return distribution
