"""Defaults that depend on the policy: resolved here, so that manifests and sweeps record them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.config.schema import RunConfig
from harness.meta import learners


def resolved_defaults(config: RunConfig) -> dict[str, int | str]:
    """Return the defaults that ``config`` leaves open: setting and policy -> value."""
    if config.ppo.chunk_steps is not None:
        return {}
    kinds = [learners.spec(name).settings for name in config.learner]
    ppo = next((kind() for kind in kinds if hasattr(kind, "resolved_bptt_steps")), None)
    if ppo is None:
        return {}
    return {f"chunk_steps of {name}": ppo.resolved_bptt_steps(name) for name in config.policy}


def resolve_defaults(config: RunConfig) -> RunConfig:
    """Return ``config``, of a single policy, with the result of ``resolved_defaults`` filled in."""
    values: list[Any] = list(resolved_defaults(config).values())
    if not values:
        return config
    return replace(config, ppo=replace(config.ppo, chunk_steps=values[0]))
