"""The seam between what is to be done and where: handles travel, arrays stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.execution.jobs import Job
from harness.execution.worker import Receipt
from harness.meta.learners.base import IterationInfo, Request
from harness.types import Cell

START_TIMEOUT = 120.0
"""Seconds to wait for a cluster where no setting says how many."""


class LostError(RuntimeError):
    """An actor died, or died or hung more often than its work is retried."""

    def __init__(self, message: str, *, learner: bool = False, memory: bool = False) -> None:
        super().__init__(message)
        self.memory = memory
        """It was killed because memory ran out."""
        self.learner = learner
        """It was the learner: the cell can continue from its last checkpoint."""


Handle = Any
"""A value, or a reference to one in another process; the driver passes it on unread."""


@dataclass(frozen=True, slots=True)
class LearnerStep:
    """Where the learner stands after it was sent results."""

    request: Request | None
    """Work for every job; its payload may be a reference. ``None`` when the iteration is over."""
    done: IterationInfo | None
    env_steps: int
    """Environment steps of training so far."""
    seconds: float
    """Learner time since the iteration began."""


class LearnerHandle(Protocol):
    """The learner of one cell, in this process or another."""

    def advance(self, *results: Handle) -> LearnerStep:
        """Begin an iteration (no results), or answer its last request; return what comes next."""
        ...

    def snapshot(self) -> Handle:
        """Return the ``PolicySnapshot`` that evaluation scores."""
        ...

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """Write a checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """One request to every job of a list."""

    request: Request
    jobs: Sequence[Job]
    origin: Handle = None
    """The ``COLLECT`` payload of the iteration, from which lost data can be collected again."""
    patience: float = 0.0
    """Seconds that a job may take beyond ``job_timeout``."""


class Backend(Protocol):
    """Workers and learners, in this process or in others."""

    num_workers: int

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Do ``work``; return receipts and results in job order, each job exactly once.

        ``on_done`` is called with the number of finished jobs after each.
        """
        ...

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the values behind ``handles``."""
        ...

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> LearnerHandle:
        """Start the learner of ``cell``, from ``checkpoint`` if given; it replaces the last one."""
        ...

    def close(self) -> None:
        """Stop everything that was started."""
        ...
