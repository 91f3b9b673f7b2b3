"""The memory adapter: only what the policy remembers of earlier episodes changes.

RL² (arXiv 1611.02779). A shot is one episode; every query episode has a history of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.meta.adapters.base import AdapterSpec, Shot
from policies.base import Params, Policy


@dataclass(frozen=True, slots=True)
class MemoryAdapter:
    """Parameters stay; ``MetaEpisodeRunner`` carries the memory from shot to shot."""

    name: str = "memory"
    needs_support: bool = True
    steps_per_shot: int = 0
    carries_memory: bool = True

    def adapt(self, policy: Policy, params: Params, shot: Shot) -> Params:
        """Return ``params`` unchanged."""
        return params


MEMORY = AdapterSpec(build=lambda settings, inner_lr: MemoryAdapter(), feeds_history=True)
