"""Inner loops: how a policy changes with the shots it is given."""

from __future__ import annotations

from collections.abc import Callable

from harness.config.schema import AdaptConfig
from harness.meta.adapters.base import Adapter, NoAdapter
from harness.meta.adapters.gradient import GradientAdapter
from harness.meta.adapters.hybrid import HybridGradientAdapter
from harness.meta.adapters.memory import MemoryAdapter

__all__ = ["REGISTRY", "Adapter", "GradientAdapter", "NoAdapter", "build", "names"]

REGISTRY: dict[str, Callable[[AdaptConfig], Adapter]] = {
    "none": lambda config: NoAdapter(),
    "gradient": lambda config: GradientAdapter(inner_lr=config.inner_lr),
    "memory": lambda config: MemoryAdapter(),
    "memory+gradient": lambda config: GradientAdapter(
        inner_lr=config.inner_lr, name="memory+gradient", carries_memory=True
    ),
    "hybrid": lambda config: HybridGradientAdapter(inner_lr=config.inner_lr, **config.replay),
}


def names() -> tuple[str, ...]:
    """Return the registered names."""
    return tuple(REGISTRY)


def build(name: str, config: AdaptConfig) -> Adapter:
    """Build the adapter ``name``.

    Raises:
        ValueError: the name is not registered.
    """
    if name not in REGISTRY:
        raise ValueError(
            f"unknown adapter {name!r}; have: {', '.join(names())}. "
            "Register it in harness/meta/adaptation/__init__.py"
        )
    return REGISTRY[name](config)
