"""No adaptation: every number of shots scores the same parameters."""

from __future__ import annotations

from dataclasses import dataclass

from harness.meta.adapters.base import AdapterSpec, Shot
from policies.base import Params, Policy


@dataclass(frozen=True, slots=True)
class NoAdapter:
    """Collects no support episodes and changes nothing."""

    name: str = "none"
    needs_support: bool = False
    steps_per_shot: int = 0
    carries_memory: bool = False

    def adapt(self, policy: Policy, params: Params, shot: Shot) -> Params:
        """Return ``params`` unchanged."""
        return params


NONE = AdapterSpec(build=lambda settings, inner_lr: NoAdapter(), adapts=False)
