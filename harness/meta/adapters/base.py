"""The seam of inner loops: a few episodes on a task in, parameters for that task out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from harness.meta.rollouts.batch import Batch
from harness.types import NoSettings
from policies.base import Params, Policy


@dataclass(frozen=True, slots=True)
class Shot:
    """The data that one shot adapts on."""

    batch: Batch
    """The support batch, collected with the parameters before the shot."""
    past: Sequence[Batch] = ()
    """Batches of the same tasks' earlier shots, oldest first."""
    rngs: Sequence[np.random.Generator] = ()
    """A random generator per task, fresh for every shot."""


@runtime_checkable
class Adapter(Protocol):
    """Turns the support batch of one shot into new parameters, as values."""

    @property
    def name(self) -> str:
        """Name for records and tables."""
        ...

    @property
    def needs_support(self) -> bool:
        """True if a shot collects support episodes."""
        ...

    @property
    def steps_per_shot(self) -> int:
        """Gradient steps per shot; with 0 no batch is prepared and ``adapt`` is not called."""
        ...

    @property
    def carries_memory(self) -> bool:
        """True if memory outlives the episode: each query episode continues a support episode."""
        ...

    def adapt(self, policy: Policy, params: Params, shot: Shot) -> Params:
        """Return the parameters after one more shot.

        ``params`` [1, ...] or [N, ...] are those that collected the shot, and are not changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A registered adapter: its factory, settings class and demands on the policy."""

    build: Callable[[Any, float], Adapter]
    """(settings, step size of gradient steps) -> adapter."""
    settings: type = NoSettings
    feeds_history: bool = False
    """Needs a policy that is fed its previous action and reward, and remembers."""
    trained_through: bool = False
    """Scores only policies that were trained through it."""
    adapts: bool = True
    """False if shots change nothing."""
    uses_value_head: bool = False
    """Scores only policies of learners that use the value head."""
