"""Task distributions of the benchmark: MDPs only, without torch and without ray."""

from __future__ import annotations

from task_distributions.base import (
    SPLITS,
    BatchedEnv,
    EnvSpec,
    Split,
    StepBatch,
    Task,
    TaskDistribution,
)
from task_distributions.gymnasium_ids import env_spec
from task_distributions.gymnasium_ids import register_all as _register_ids
from task_distributions.registry import (
    REGISTRY,
    canonical,
    load,
    names,
    options,
    recipe,
    settings_class,
    stored,
    versions,
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
    "canonical",
    "env_spec",
    "load",
    "names",
    "options",
    "recipe",
    "settings_class",
    "stored",
    "versions",
]

_register_ids()
