"""The adapters that leave the parameters as they are.

With ``none`` every number of shots scores the same policy. With ``memory`` only what the policy
remembers of earlier episodes changes: RL² (arXiv 1611.02779), where a shot is one episode and every
query episode has a history of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.meta.adapters.base import AdapterSpec, Shot
from policies.base import Params, Policy


@dataclass(frozen=True, slots=True)
class FixedAdapter:
    """Parameters stay; memory, if carried, goes from shot to shot in ``MetaEpisodeRunner``."""

    name: str
    needs_support: bool
    carries_memory: bool
    steps_per_shot: int = 0

    def adapt(self, policy: Policy, params: Params, shot: Shot) -> Params:
        """Return ``params`` unchanged."""
        return params


NO_ADAPTER = FixedAdapter("none", needs_support=False, carries_memory=False)
MEMORY_ADAPTER = FixedAdapter("memory", needs_support=True, carries_memory=True)

NONE = AdapterSpec(build=lambda settings, inner_lr: NO_ADAPTER, adapts=False)
MEMORY = AdapterSpec(build=lambda settings, inner_lr: MEMORY_ADAPTER, feeds_history=True)
