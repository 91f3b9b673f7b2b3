"""The benchmark's task distributions: MDPs only, without torch and without ray."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium

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
    "options",
]

REGISTRY: dict[str, str] = {
    "halfcheetah-vel": "task_distributions.locomotion:halfcheetah_vel",
    "ant-vel": "task_distributions.locomotion:ant_vel",
    "walker2d-vel": "task_distributions.locomotion:walker2d_vel",
    "ant-dir": "task_distributions.locomotion:ant_dir",
    "halfcheetah-gravity": "task_distributions.locomotion:halfcheetah_gravity",
    "ant-mass": "task_distributions.locomotion:ant_mass",
    "imujoco-halfcheetah": "task_distributions.imujoco:imujoco_halfcheetah",
    "imujoco-ant": "task_distributions.imujoco:imujoco_ant",
    "metaworld-ml10": "task_distributions.metaworld:metaworld_ml10",
    "metaworld-ml45": "task_distributions.metaworld:metaworld_ml45",
    "halfcheetah": "task_distributions.halfcheetah:halfcheetah",
    "point_goal": "task_distributions.point_goal:point_goal",
    "cartpole": "task_distributions.cartpole:cartpole",
}
"""Name -> ``module:factory``. A factory takes ``horizon: int | None``; see ``options``."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order."""
    return tuple(REGISTRY)


def load(name: str, **options: Any) -> TaskDistribution:
    """Build the distribution ``name``; ``options`` (``horizon=...``) go to its factory.

    Raises:
        ValueError: the name is not registered.
    """
    distribution: TaskDistribution = _factory(name)(**options)
    return distribution


def options(name: str) -> tuple[str, ...]:
    """Return the keywords that ``load(name, ...)`` takes.

    Raises:
        ValueError: the name is not registered.
    """
    return tuple(inspect.signature(_factory(name)).parameters)


def _factory(name: str) -> Callable[..., TaskDistribution]:
    if name not in REGISTRY:
        raise ValueError(
            f"unknown task_dist {name!r}; have: {', '.join(names())}. "
            "Register it in task_distributions/__init__.py"
        )
    module, _, attribute = REGISTRY[name].partition(":")
    factory: Callable[..., TaskDistribution] = getattr(importlib.import_module(module), attribute)
    return factory


def _make(dist: str, *, split: Split = "test", task: int = 0, **options: Any) -> gymnasium.Env:
    """Build one task's environment for ``gymnasium.make``, from the task's position in its list."""
    render = {"render_mode": options.pop("render_mode")} if "render_mode" in options else {}
    distribution = load(dist, **options)
    tasks = distribution.tasks(split)
    if not 0 <= task < len(tasks):
        raise ValueError(f"{dist} has no {split} task {task!r}; have: 0 to {len(tasks) - 1}")
    return distribution.make_env(tasks[task], **render)


def _register(name: str, version: int, **options: Any) -> None:
    """Make a distribution known to gymnasium, e.g. ``task_distributions:MetaRL/ant-dir-v1``."""
    options["dist"] = name
    gymnasium.register(f"MetaRL/{name}-v{version}", "task_distributions:_make", kwargs=options)


for _name in REGISTRY:
    if _name.startswith("metaworld-"):  # its version is that of its reward
        _register(_name, 1, reward_version="v1")
        _register(_name, 2, reward_version="v2")
    else:
        _register(_name, 1)
