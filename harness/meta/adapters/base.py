"""The seam of inner loops: a few episodes on a task in, parameters for that task out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy


@runtime_checkable
class Adapter(Protocol):
    """Turns the support batch of one shot into changed parameters, as values."""

    @property
    def name(self) -> str:
        """Name for records and tables."""
        ...

    @property
    def needs_support(self) -> bool:
        """Whether shots collect episodes at all."""
        ...

    @property
    def steps_per_shot(self) -> int:
        """Gradient steps one shot takes."""
        ...

    @property
    def carries_memory(self) -> bool:
        """Whether memory outlives the episode: every query goes on from a support episode."""
        ...

    def adapt(self, policy: Policy, params: Params, batch: Batch) -> Params:
        """Return the parameters after one more shot; never changes ``params``."""
        ...


@dataclass(frozen=True, slots=True)
class NoAdapter:
    """No adaptation: every number of shots scores the same parameters."""

    name: str = "none"
    needs_support: bool = False
    steps_per_shot: int = 0
    carries_memory: bool = False

    def adapt(self, policy: Policy, params: Params, batch: Batch) -> Params:
        """Return ``params`` as they are."""
        return params
