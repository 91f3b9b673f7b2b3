"""What the registries of learners and adapters have in common."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def load(family: str, registry: Mapping[str, str], name: str) -> Any:
    """Import and return what ``registry`` holds as ``name``: ``module:attribute``.

    Raises:
        ValueError: the name is not registered.
    """
    if name not in registry:
        raise ValueError(
            f"unknown {family} {name!r}; have: {', '.join(registry)}. "
            f"Register it in harness/meta/{family}s/__init__.py"
        )
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
