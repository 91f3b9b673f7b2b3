"""The memory adapter: what the policy remembers of the episodes before is all that changes.

RL² (arXiv 1611.02779). A shot is one episode; every query episode has its own past.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy


@dataclass(frozen=True, slots=True)
class MemoryAdapter:
    """Parameters stay; the meta-episode's runner carries the memory from shot to shot."""

    name: str = "memory"
    needs_support: bool = True
    steps_per_shot: int = 0
    carries_memory: bool = True

    def adapt(self, policy: Policy, params: Params, batch: Batch) -> Params:
        """Return ``params`` as they are."""
        return params
