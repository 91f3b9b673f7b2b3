"""The seam of outer loops: the learner protocol and the messages between learner and workers.

A learner has two sides. ``iterate`` runs in one process and owns the state: a generator that yields
``Request``s for work and is sent the workers' results in job order. ``collect`` and ``compute`` run
on the workers, where the data is, and are pure functions of their arguments.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from harness.meta import objectives
from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.normalizer import Moments, Normalizer
from harness.types import Episodes
from policies.base import Params
from task_distributions import Task

PositiveInt = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Unit = Annotated[float, Ge(0), Le(1)]

ROUNDING = 1e-12
"""Variances of less than this part of the mean square count as zero."""


class DivergedError(RuntimeError):
    """Training or adaptation arrived at something that is not a number: the cell has failed."""

    def __init__(self, cause: str, iteration: int | None = None) -> None:
        super().__init__(cause if iteration is None else f"iteration {iteration}: {cause}")
        self.cause, self.iteration = cause, iteration

    def __reduce__(self) -> tuple[Any, ...]:
        return DivergedError, (self.cause, self.iteration)


# --- messages ------------------------------------------------------------------------------------


class RequestKind(Enum):
    """The kinds of work on a job."""

    COLLECT = "collect"
    """Play the job's meta-episodes and keep the data. The payload is a ``PolicySnapshot``."""
    COMPUTE = "compute"
    """Compute something from the kept data. The payload is the learner's own."""
    EVALUATE = "evaluate"
    """Score the job's tasks. The payload is a ``PolicySnapshot``."""
    VALIDATE = "validate"
    """Score the job's validation tasks while training. The payload is a ``PolicySnapshot``."""
    REFERENCE = "reference"
    """Score the reference lines on the job's tasks. There is no payload."""
    AGENT = "agent"
    """Score an agent on the job's tasks. The payload is a ``harness.agents.AgentSource``."""


@dataclass(frozen=True, slots=True)
class Request:
    """Work for every job of an iteration, the first of which is always ``COLLECT``.

    If there is another ``COLLECT``, its data replaces that of the one before.
    """

    kind: RequestKind
    payload: Any
    """Sent to every worker. Outside the learner's process it may be a reference to the value."""


@dataclass(frozen=True, slots=True)
class GradientRequest:
    """Payload that asks for a job's share of the gradient at ``params``, and of the losses."""

    params: Params


@dataclass(frozen=True, slots=True)
class LossRequest:
    """Payload that asks for a job's share of the losses at ``params`` alone."""

    params: Params


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """A policy as it comes out of training: everything it takes to act, unchanged by updates."""

    params: Params
    """[1, ...]"""
    normalizer: Normalizer
    return_scale: float = 1.0
    """Running standard deviation of the discounted return, the value head's unit; 1 before any two
    returns differ."""
    env_steps: int = 0
    """Environment steps of training behind it."""

    def reward_unit(self, gamma: float, horizon: int) -> float:
        """Return what rewards are divided by before they are fed to the policy.

        A reward of one unit that persists for ``1 / (1 - gamma)`` steps, or an episode if that is
        shorter, has about the return ``return_scale``.
        """
        return self.return_scale * max(1.0 - gamma, 1.0 / horizon)


@dataclass(frozen=True, slots=True)
class JobContext:
    """The place of a job's episodes in training, from which their seeds follow."""

    iteration: int
    seed_keys: tuple[int, ...]
    """One per task."""


@dataclass(frozen=True, slots=True)
class ScalarMoments:
    """Count, sum and sum of squares of numbers that are spread over several jobs."""

    count: float = 0.0
    total: float = 0.0
    square: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray | Tensor) -> ScalarMoments:
        """Return the moments of ``values``, of one dimension."""
        return cls(float(len(values)), float(values.sum()), float((values * values).sum()))

    def deviation(self) -> float:
        """Return the standard deviation; 1 before any two numbers differ."""
        if not self.count:
            return 1.0
        variance = self.square / self.count - (self.total / self.count) ** 2
        # A sparse reward that was never seen would leave its rounding error, or nothing at all.
        return 1.0 if variance <= ROUNDING * self.square / self.count else variance**0.5

    def __add__(self, other: ScalarMoments) -> ScalarMoments:
        return ScalarMoments(
            self.count + other.count, self.total + other.total, self.square + other.square
        )


@dataclass(frozen=True, slots=True)
class CollectReport:
    """A worker's answer to ``COLLECT``; the data itself stays with the worker."""

    env_steps: int
    pre_returns: tuple[float, ...]
    """Mean return per task before adaptation; NaN where every episode was invalid."""
    post_returns: tuple[float, ...]
    invalid: int
    """Number of invalid episodes."""
    moments: Moments
    returns: ScalarMoments
    """Moments of the discounted returns."""
    advantages: ScalarMoments = ScalarMoments()
    """Moments of the advantages, for learners that normalise them over all tasks."""

    @classmethod
    def on(
        cls,
        blocks: Sequence[Episodes],
        policy: PolicySnapshot,
        gamma: float,
        advantages: ScalarMoments = ScalarMoments(),
    ) -> CollectReport:
        """Report on ``blocks`` of ``policy``, from those before adaptation to those after it."""
        rewards = torch.from_numpy(blocks[-1].rewards).double()
        returns = objectives.discounted_returns(rewards, gamma).numpy()[blocks[-1].mask]
        seen = [Moments.of(block, policy.normalizer) for block in blocks]
        pre, post = (
            tuple(nanmean(task.tolist()) for task in block.returns)
            for block in (blocks[0], blocks[-1])
        )
        return cls(
            env_steps=sum(block.env_steps for block in blocks),
            pre_returns=pre,
            post_returns=post,
            invalid=sum(int(block.invalid.sum()) for block in blocks),
            moments=sum(seen[1:], seen[0]),
            returns=ScalarMoments.of(returns),
            advantages=advantages,
        )


@dataclass(frozen=True, slots=True)
class IterationInfo:
    """The result of one meta-iteration."""

    pre_return: float
    post_return: float
    info: dict[str, float] = field(default_factory=dict)
    """Statistics. An iteration with one that is not finite counts as skipped."""


def nanmean(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    valid = [value for value in values if not math.isnan(value)]
    return float(np.mean(valid)) if valid else math.nan


# --- protocols -----------------------------------------------------------------------------------


REPLAY = "replay/"
"""Prefix of the saved tensors that nothing but training needs; exports leave them out."""


@runtime_checkable
class State(Protocol):
    """The state of a learner between iterations."""

    iteration: int
    env_steps: int

    def snapshot(self) -> PolicySnapshot:
        """Return the policy at the meta-parameters, unchanged by later updates."""
        ...

    def save(self) -> tuple[Params, dict[str, Any]]:
        """Return the whole state as named tensors and JSON values."""
        ...

    def load(self, tensors: Params, meta: dict[str, Any]) -> None:
        """Restore what ``save`` returned."""
        ...


S = TypeVar("S", bound=State)


@runtime_checkable
class Learner(Protocol[S]):
    """One outer loop, built from a ``CellSetup``."""

    @property
    def tasks_per_iteration(self) -> int:
        """Tasks of one meta-iteration."""
        ...

    @property
    def envs_per_task(self) -> int:
        """Environments that one training task runs at once; jobs are sized by it."""
        ...

    @property
    def episodes_per_iteration(self) -> int:
        """Episodes of one meta-iteration, over all tasks and batches."""
        ...

    def init(self) -> S:
        """Return the state of an untrained learner, a function of the cell's seed alone."""
        ...

    def iterate(self, state: S) -> Generator[Request, list[Any], IterationInfo]:
        """Run one meta-iteration, updating ``state``."""
        ...

    def collect(
        self, tasks: Sequence[Task], context: JobContext, policy: PolicySnapshot, clock: Clock
    ) -> tuple[Any, CollectReport]:
        """Worker side: play the meta-episodes of one job; return the data to keep and a report."""
        ...

    def compute(self, data: Any, payload: Any, clock: Clock) -> Any:
        """Worker side: answer a ``COMPUTE`` request on data kept from ``collect``."""
        ...
