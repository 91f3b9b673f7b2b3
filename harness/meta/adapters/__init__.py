"""Inner loops: how a policy changes from shot to shot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metarl_plugins import Registry, check_spec

if TYPE_CHECKING:  # names() must answer without the second that importing torch takes
    from harness.meta.adapters.base import Adapter, AdapterSpec

__all__ = ["REGISTRY", "build", "names", "settings_class", "spec"]

REGISTRY = Registry(
    "adapter",
    "metarl_harness.adapters",
    {
        "none": "harness.meta.adapters.unchanged:NONE",
        "gradient": "harness.meta.adapters.gradient:GRADIENT",
        "memory": "harness.meta.adapters.unchanged:MEMORY",
        "memory+gradient": "harness.meta.adapters.gradient:MEMORY_AND_GRADIENT",
        "hybrid": "harness.meta.adapters.hybrid:HYBRID",
        "ppo": "harness.meta.adapters.ppo:PPO",
    },
)
"""Name -> ``module:AdapterSpec``."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order, then those of installed packages."""
    return REGISTRY.names()


def spec(name: str) -> AdapterSpec:
    """Return the spec that ``name`` stands for.

    Raises:
        ValueError: the name is not registered.
        PluginError: it stands for something that is no ``AdapterSpec``.
    """
    found: AdapterSpec = REGISTRY.load(name)
    if not REGISTRY.is_built_in(name):
        from harness.meta.adapters import base

        check_spec(name, found, base.AdapterSpec)
    return found


def settings_class(name: str) -> type:
    """Return the settings class of the adapter ``name``.

    Raises:
        ValueError: the name is not registered.
    """
    return spec(name).settings


def build(name: str, settings: Any = None, *, inner_lr: float) -> Adapter:
    """Build the adapter ``name``.

    Args:
        name: a registered name.
        settings: an instance of ``settings_class(name)``; ``None`` means its defaults.
        inner_lr: step size of the adapters that take gradient steps.

    Raises:
        ValueError: the name is not registered.
    """
    found = spec(name)
    return found.build(found.settings() if settings is None else settings, inner_lr)
