"""The seam between what is to be done and where: handles travel, arrays stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.execution.jobs import Job
from harness.execution.worker import Receipt
from harness.meta.learners.base import IterationInfo
from harness.types import Cell


class LostError(RuntimeError):
    """An actor died, or died or hung more often than its work is tried again."""

    def __init__(self, message: str, *, learner: bool = False, memory: bool = False) -> None:
        super().__init__(message)
        self.memory = memory
        """It was killed because memory ran out."""
        self.learner = learner
        """It was the learner: its last checkpoint can be taken up."""


Handle = Any
"""A value, or a reference to one that lives elsewhere; the driver passes it on unread."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Where the learner's iteration stands after it was sent results."""

    kind: str | None
    """What every job is to be asked next; ``None`` when the iteration is over."""
    done: IterationInfo | None
    env_steps: int
    """Environment steps of training so far."""
    seconds: float
    """Learner time since the iteration began."""
    summable: bool = False
    """See ``Request``."""


class LearnerHandle(Protocol):
    """The learner of one cell, wherever it lives."""

    def advance(self, results: Sequence[Handle]) -> tuple[Advance, Handle]:
        """Begin an iteration (no results), or answer its last request; return what comes next."""
        ...

    def subject(self) -> Handle:
        """Return what evaluation scores."""
        ...

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """Write a checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """One request to every job of a list."""

    kind: str
    jobs: Sequence[Job]
    payload: Handle
    origin: Handle = None
    """The ``collect`` payload the jobs' kept data came from."""
    summable: bool = False
    """Sums of whole groups of results may be returned in their place (``sums.groups``)."""


class Backend(Protocol):
    """Workers and learners, in this process or elsewhere."""

    num_workers: int

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Do ``work``; return receipts and results in job order, each job exactly once.

        ``on_done`` is told how many jobs are done, after each.
        """
        ...

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the values behind ``handles``."""
        ...

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> LearnerHandle:
        """Turn the learner to ``cell``, from ``checkpoint`` if given; the one before is over."""
        ...

    def close(self) -> None:
        """Stop everything that was started."""
        ...
