"""No adaptation: every number of shots scores the same parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.meta.adapters.base import AdapterSpec
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy


@dataclass(frozen=True, slots=True)
class NoAdapter:
    """Collects no support episodes and changes nothing."""

    name: str = "none"
    needs_support: bool = False
    steps_per_shot: int = 0
    carries_memory: bool = False

    def adapt(
        self,
        policy: Policy,
        params: Params,
        batch: Batch,
        past: Sequence[Batch] = (),
        rngs: Sequence[np.random.Generator] = (),
    ) -> Params:
        """Return ``params`` unchanged."""
        return params


NONE = AdapterSpec(build=lambda settings, inner_lr: NoAdapter(), adapts=False)
