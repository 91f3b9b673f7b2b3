"""Task distributions of the benchmark: MDPs only, without torch and without ray."""

from __future__ import annotations

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
from task_distributions.registry import (
    REGISTRY,
    load,
    names,
    options,
    recipe,
    settings_class,
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
    "recipe",
    "settings_class",
]


def _make(dist: str, *, split: Split = "test", task: int = 0, **options: Any) -> gymnasium.Env:
    """Build one task's environment for ``gymnasium.make``; ``task`` is an index into the split."""
    render = {"render_mode": options.pop("render_mode")} if "render_mode" in options else {}
    distribution = load(dist, **options)
    tasks = distribution.tasks(split)
    if not 0 <= task < len(tasks):
        raise ValueError(f"{dist} has no {split} task {task!r}; have: 0 to {len(tasks) - 1}")
    return distribution.make_env(tasks[task], **render)


def _register(name: str, version: int, **options: Any) -> None:
    """Register a distribution with Gymnasium: ``task_distributions:MetaRL/<name>-v<version>``."""
    options["dist"] = name
    gymnasium.register(f"MetaRL/{name}-v{version}", "task_distributions:_make", kwargs=options)


for _name in REGISTRY:
    if _name.startswith("metaworld-"):  # the version follows the reward
        _register(_name, 1, reward_version="v1")
        _register(_name, 2, reward_version="v2")
    else:
        _register(_name, 1)
