"""The policies under comparison: torch only, without ray, gymnasium or the harness."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # names() must answer without the second that importing torch takes
    from policies.base import Policy

__all__ = ["COMPARED", "REGISTRY", "build", "names"]

REGISTRY: dict[str, str] = {
    "ssm": "policies.ssm:build",
    "lstm": "policies.lstm:build",
    "gru": "policies.gru:build",
    "transformer": "policies.transformer:build",
    "mlp": "policies.mlp:build",
}
"""Name -> ``module:factory``. A factory takes ``obs_dim``, ``action_dim``, ``discrete`` (actions
are a choice of one of ``action_dim``), ``init_std`` and its own options."""

COMPARED: tuple[str, ...] = ("ssm", "lstm", "gru", "transformer")
"""The policies compared by default, of equal size within 10 %; mlp is the memoryless control."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order."""
    return tuple(REGISTRY)


def build(name: str, *, obs_dim: int, action_dim: int, **options: Any) -> Policy:
    """Build the policy ``name`` for inputs of ``obs_dim`` and actions of ``action_dim`` numbers.

    With ``discrete=True`` an action is a choice of one of ``action_dim``.

    ``obs_dim`` counts everything the policy is fed: a harness that also feeds the previous action
    and reward adds them to it.

    Raises:
        ValueError: the name is not registered, or an option is not the policy's.
    """
    if name not in REGISTRY:
        raise ValueError(
            f"unknown policy {name!r}; have: {', '.join(names())}. "
            "Register it in policies/__init__.py"
        )
    module, _, attribute = REGISTRY[name].partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    allowed = set(inspect.signature(factory).parameters) - {"obs_dim", "action_dim"}
    if not options.keys() <= allowed:
        raise ValueError(
            f"policy {name!r} has no option {', '.join(sorted(options.keys() - allowed))}; "
            f"have: {', '.join(sorted(allowed))}. Correct the name or drop it"
        )
    policy: Policy = factory(obs_dim=obs_dim, action_dim=action_dim, **options)
    return policy
