"""The seam of outer loops: how a learner, its workers and whoever carries the messages talk.

A learner has two sides. ``iterate`` runs in one place and owns the state: a generator that asks
for work with ``Request`` and is sent the workers' results in job order. ``collect`` and
``compute`` run on the workers, beside the data, and are pure functions of what they are given.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.normalizer import Moments, Normalizer
from policies.base import Params
from task_distributions import Task


class DivergedError(RuntimeError):
    """Too many updates in a row had a non-finite gradient: the cell has failed."""


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All it takes to act: what goes out to the workers and into a checkpoint."""

    params: Params
    """[1, ...]"""
    normalizer: Normalizer
    return_scale: float = 1.0
    """Running standard deviation of the discounted return, the value head's unit."""

    def reward_unit(self, gamma: float) -> float:
        """Return what rewards are divided by where they are fed.

        Of rewards that keep their value for the ``1 / (1 - gamma)`` steps ahead, it is the
        standard deviation.
        """
        return self.return_scale * max(1.0 - gamma, 1e-2)


@dataclass(frozen=True, slots=True)
class JobContext:
    """Where in training a job's episodes stand: what their seeds are made of."""

    iteration: int
    seed_keys: tuple[int, ...]
    """One per task."""


@dataclass(frozen=True, slots=True)
class Request:
    """Work for every job of the iteration; the first request of an iteration is ``collect``."""

    kind: str
    payload: Any
    """Sent to every worker: a PolicyState for ``collect``, else what ``compute`` expects."""
    summable: bool = False
    """The learner adds the answers up by ``sums.summed``: sums may be sent in their place."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells of one collected job; the data itself stays with the worker."""

    env_steps: int
    pre_returns: tuple[float, ...]
    """Mean return per task before adaptation; NaN where every episode was invalid."""
    post_returns: tuple[float, ...]
    invalid: int
    """Invalid episodes among those collected."""
    moments: Moments
    return_moments: tuple[float, float, float]
    """Count, sum and sum of squares of discounted returns."""
    advantage_moments: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The same of advantages, for learners that normalise them over all tasks."""


@dataclass(frozen=True, slots=True)
class IterationInfo:
    """What one outer iteration reports."""

    pre_return: float
    post_return: float
    info: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Learner(Protocol):
    """One outer loop; built by a factory that takes a ``CellSetup``."""

    @property
    def name(self) -> str:
        """Registry name."""
        ...

    @property
    def adapter(self) -> str:
        """The adapter this learner trains for; what ``--adapter auto`` takes."""
        ...

    @property
    def episodes_per_iteration(self) -> int:
        """Episodes of one outer iteration, over all tasks and batches."""
        ...

    @property
    def episodes_per_task(self) -> int:
        """Environments one training task takes at once; jobs are cut to ``envs_per_job`` by it."""
        ...

    def init(self) -> Any:
        """Return the state of an untrained learner, a function of the cell's seed alone."""
        ...

    def restore(self, tensors: Params, meta: dict[str, Any]) -> Any:
        """Return the state that ``save`` returned these values for."""
        ...

    def save(self, state: Any) -> tuple[Params, dict[str, Any]]:
        """Return the whole state as named tensors and JSON values."""
        ...

    def policy_state(self, state: Any) -> PolicyState:
        """Return what acting with the meta-parameters takes."""
        ...

    def iterate(self, state: Any) -> Generator[Request, list[Any], IterationInfo]:
        """Run one outer iteration, changing ``state``."""
        ...

    def collect(
        self, tasks: Sequence[Task], where: JobContext, payload: PolicyState, clock: Clock
    ) -> tuple[Any, Report]:
        """Worker side: play the meta-episodes of one job; return the data to keep and a report."""
        ...

    def compute(self, kind: str, data: Any, payload: Any, clock: Clock) -> Any:
        """Worker side: answer a request on data kept from ``collect``."""
        ...
