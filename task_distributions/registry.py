"""Registry of the task distributions: their names, their settings, and how to build them."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from metarl_plugins import PluginError, Registry, blamed, label_of, settings_of, split
from task_distributions.base import TaskDistribution

__all__ = [
    "REGISTRY",
    "canonical",
    "load",
    "names",
    "options",
    "recipe",
    "settings_class",
    "stored",
    "versions",
]

_LOCOMOTION = "task_distributions.locomotion.distributions"
REGISTRY = Registry(
    "task_dist",
    "metarl_harness.task_distributions",
    {
        "halfcheetah-vel": f"{_LOCOMOTION}:halfcheetah_vel",
        "ant-vel": f"{_LOCOMOTION}:ant_vel",
        "walker2d-vel": f"{_LOCOMOTION}:walker2d_vel",
        "ant-dir": f"{_LOCOMOTION}:ant_dir",
        "halfcheetah-gravity": f"{_LOCOMOTION}:halfcheetah_gravity",
        "halfcheetah-gravity@1": f"{_LOCOMOTION}:halfcheetah_gravity_1",
        "halfcheetah-gravity@2": f"{_LOCOMOTION}:halfcheetah_gravity",
        "ant-mass": f"{_LOCOMOTION}:ant_mass",
        "ant-mass@1": f"{_LOCOMOTION}:ant_mass_1",
        "ant-mass@2": f"{_LOCOMOTION}:ant_mass",
        "imujoco-halfcheetah": "task_distributions.imujoco.distributions:imujoco_halfcheetah",
        "imujoco-ant": "task_distributions.imujoco.distributions:imujoco_ant",
        "metaworld-ml10": "task_distributions.metaworld.distributions:metaworld_ml10",
        "metaworld-ml45": "task_distributions.metaworld.distributions:metaworld_ml45",
        "halfcheetah": "task_distributions.halfcheetah:halfcheetah",
        "halfcheetah-vel-sparse": f"{_LOCOMOTION}:halfcheetah_vel_sparse",
        "halfcheetah-vel-switch": "task_distributions.locomotion.switch:halfcheetah_vel_switch",
        "point_goal-sparse": "task_distributions.point_goal:point_goal_sparse",
        "point_goal": "task_distributions.point_goal:point_goal",
        "cartpole": "task_distributions.cartpole:cartpole",
    },
)
"""Name -> ``module:factory``. A distribution with several definitions has each as ``name@version``,
and the newest as ``name`` too.

A factory takes one argument, ``settings``, annotated with a frozen dataclass whose fields all have
defaults; one of them is ``horizon``.
"""

MEMBERS = (
    *("name", "version", "spec", "protocol"),
    *("tasks", "make_env", "make_batch", "non_adaptive_return"),
)
"""What a ``TaskDistribution`` must have."""


def names() -> tuple[str, ...]:
    """Return the registered names without versions, then those of installed packages."""
    return tuple(name for name in REGISTRY.names() if "@" not in name)


def versions(name: str) -> tuple[str, ...]:
    """Return the definitions of ``name`` as ``name@version``, oldest first; () if it has one."""
    known = (key for key in REGISTRY if key.startswith(f"{name}@"))
    return tuple(sorted(known, key=lambda key: int(key.rpartition("@")[2])))


def canonical(name: str) -> str:
    """Return the one name for a definition, by which runs store it.

    It carries the version if the distribution has several definitions: ``ant-mass`` is
    ``ant-mass@2`` while that is the newest. Otherwise it does not: ``ant-dir@1`` is ``ant-dir``.

    Raises:
        ValueError: there is no such version.
    """
    base, at, number = name.partition("@")
    if name in REGISTRY:
        return (versions(name) or (name,))[-1]
    if not at or base not in REGISTRY:
        return name
    known = versions(base) or (f"{base}@{load(base).version}",)
    if name in known:
        return base
    raise ValueError(f"{base} has no version {number}; choose from: {', '.join(known)}")


def stored(name: str) -> str:
    """Return the canonical name for ``name`` as a run stored it: without a version it is the first.

    A name is stored without its version only while there is one definition.
    """
    return (versions(name) or (name,))[0]


def settings_class(name: str) -> type[Any]:
    """Return the dataclass of settings that the factory of ``name`` takes.

    Raises:
        ValueError: the name is not registered.
        PluginError: it stands for something that is no factory of distributions.
    """
    return settings_of(name, _factory(name))


def options(name: str) -> tuple[str, ...]:
    """Return the names of the settings of the distribution ``name``.

    Raises:
        ValueError: the name is not registered.
    """
    return tuple(field.name for field in dataclasses.fields(settings_class(name)))


def load(name: str, settings: Any = None, /, **changes: Any) -> TaskDistribution:
    """Build the distribution ``name``.

    Args:
        name: a registered name, that of an entry point, ``module:factory`` or ``file.py:factory``.
        settings: an instance of ``settings_class(name)``; its defaults if None.
        changes: single settings that replace those of ``settings``, e.g. ``horizon=100``.

    Raises:
        ValueError: the name is not registered, or a setting is unknown or out of range.
        TypeError: ``settings`` belong to another distribution.
        PluginError: a factory from outside fails, or returns no ``TaskDistribution``.
    """
    name = canonical(name)
    expected = settings_class(name)
    for unknown in changes.keys() - set(options(name)):
        raise ValueError(
            f"{name} has no option {unknown!r}; choose from: {', '.join(options(name)) or 'none'}"
        )
    if settings is None:
        settings = expected()
    if not isinstance(settings, expected):
        raise TypeError(f"{name} takes {expected.__name__}, got {type(settings).__name__}")
    chosen = dataclasses.replace(settings, **changes)
    if REGISTRY.is_built_in(name):
        return _factory(name)(chosen)
    return _load_plugin(name, chosen)


def _load_plugin(name: str, settings: Any) -> TaskDistribution:
    with blamed(name):
        dist: Any = _factory(name)(settings)
    if not isinstance(dist, TaskDistribution):
        lacking = ", ".join(member for member in MEMBERS if not hasattr(dist, member))
        raise PluginError(f"{name}: returned a {type(dist).__name__}, which lacks {lacking}")
    REGISTRY.check_name(name, dist.name)
    loaded: TaskDistribution = dist
    return loaded


def recipe(name: str) -> Mapping[str, Any]:
    """Return the training settings that suit the distribution ``name`` better than the defaults.

    Modules of distributions declare them as ``RECIPES``, by name, nested like a run's settings.
    ``components`` holds settings of learners and policies by kind, ``presets`` the budget of each
    preset. Empty if the module declares none.

    Raises:
        ValueError: the name is not registered.
    """
    module = importlib.import_module(_factory(name).__module__)
    recipes: Mapping[str, Mapping[str, Any]] = getattr(module, "RECIPES", {})
    label = label_of(split(name)[1])
    return recipes.get(label, recipes.get(label.partition("@")[0], {}))


def _factory(name: str) -> Callable[[Any], TaskDistribution]:
    factory: Callable[[Any], TaskDistribution] = REGISTRY.load(canonical(name))
    return factory
