"""Environments by the name of their distribution, and names for components from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import gymnasium

import task_distributions
from harness.config.plugins import REGISTRIES
from harness.errors import UsageError
from metarl_plugins import LABEL
from task_distributions import Split

Family = Literal["task_dist", "policy", "learner", "adapter", "agent"]


def make(name: str, *, split: Split = "test", task: int = 0, **options: Any) -> gymnasium.Env:
    """Return the Gymnasium environment of one task.

    Args:
        name: of a task distribution, as everywhere.
        split: ``train``, ``validation``, ``test`` or ``ood``.
        task: index into the split.
        options: for ``gymnasium.make``, such as ``render_mode``, and settings of the distribution.

    Raises:
        ValueError: there is no such distribution, task or option.
    """
    return gymnasium.make(_spec(name, options), split=split, task=task, **options)


def make_vec(
    name: str, num_envs: int, *, split: Split = "test", **options: Any
) -> gymnasium.vector.VectorEnv:
    """Return ``num_envs`` environments on the batched engine as a Gymnasium vector environment.

    Args:
        name: of a task distribution, as everywhere.
        num_envs: number of environments.
        split: ``train``, ``validation``, ``test`` or ``ood``.
        options: ``tasks`` or ``task``, ``vector_kwargs`` and the others of ``gymnasium.make_vec``,
            and settings of the distribution.

    Raises:
        ValueError: there is no such distribution, task or option.
    """
    return gymnasium.make_vec(_spec(name, options), num_envs, split=split, **options)


def _spec(name: str, options: dict[str, Any]) -> str | gymnasium.envs.registration.EnvSpec:
    known = set(task_distributions.options(name)) - {"horizon"}
    settings = {key: value for key, value in options.items() if key in known}
    spec = task_distributions.env_spec(name, **settings)
    registered = task_distributions.REGISTRY.is_built_in(name) and spec.id in gymnasium.registry
    return f"task_distributions:{spec.id}" if registered else spec


def register(family: Family, name: str, target: str | Callable[..., Any]) -> None:
    """Give a component from outside a name of its own, in this process and those it starts.

    Without it, ``module:factory`` and ``path/file.py:factory`` are names too.

    Args:
        family: what it is.
        name: what to call it.
        target: ``module:factory``, ``path/file.py:factory``, or the factory, if other processes
            can import it.

    Raises:
        UsageError: there is no such family, or the name is taken by a component of this project.
        PluginError: the factory cannot be imported.
    """
    if family not in REGISTRIES:
        raise UsageError(f"there is no family {family!r}; choose from: {', '.join(REGISTRIES)}")
    registry = REGISTRIES[family]
    if not LABEL.fullmatch(name):
        raise UsageError(f"{name!r} is no name: letters, digits, '_', '-' and '+' are allowed")
    if registry.is_built_in(name):
        raise UsageError(f"{name!r} is a {family} of this project: choose another name")
    if not isinstance(target, str):
        if target.__module__ == "__main__" or "<" in target.__qualname__:
            raise UsageError(
                f"{target.__qualname__} cannot be imported by other processes: put it into a file "
                "and give path/file.py:factory"
            )
        target = f"{target.__module__}:{target.__qualname__}"
    before = registry.get(name)
    registry[name] = target
    try:
        registry.load(name)
    except Exception:
        del registry[name]
        if before is not None:
            registry[name] = before
        raise
