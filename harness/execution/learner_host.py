"""The learner process as a plain class: it owns one cell's state and runs its iterations."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from harness.config.plugins import blame
from harness.config.schema import RunConfig
from harness.errors import ArtefactError
from harness.execution import checkpoint as checkpoints
from harness.execution.backend import LearnerStep
from harness.execution.cell_setup import build_setup
from harness.execution.divergence import check_policy
from harness.execution.worker import JobError
from harness.meta import learners
from harness.meta.learners.base import (
    DivergedError,
    IterationInfo,
    Learner,
    PolicySnapshot,
    Request,
)
from harness.types import Cell

UNCHANGED = (DivergedError, OSError)
"""Errors that mean the same whoever wrote the learner."""


class LearnerHost:
    """Drives one cell's learner by messages. Satisfies ``LearnerHandle``."""

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(1)
        self._config = config
        self._cell: Cell | None = None
        self._learner: Learner[Any] | None = None
        self._state: Any = None
        self._iteration: Generator[Request, list[Any], IterationInfo] | None = None
        self._seconds = 0.0

    def open(self, cell: Cell, checkpoint: Path | None) -> None:
        """Turn to ``cell``, untrained or from ``checkpoint``; the previous cell is dropped."""
        self._iteration, self._cell = None, cell
        with blame(self._config.one_cell(cell.policy, cell.learner, cell.seed), UNCHANGED):
            self._learner = learners.build(build_setup(cell, self._config))
            fresh = self._learner.init() if checkpoint is None else None
        if checkpoint is None:
            self._state = fresh
        else:
            with self._blamed("load"):
                self._state = checkpoints.restore(checkpoint, self._learner)

    @contextmanager
    def _blamed(self, method: str) -> Iterator[None]:
        """Raise errors of the state's ``method`` as those of the cell."""
        try:
            yield
        except (*UNCHANGED, ArtefactError):
            raise
        except Exception as error:
            assert self._cell is not None
            raise JobError.of(f"{method} of {self._cell.id}", error) from error

    def advance(self, *results: Any) -> LearnerStep:
        """Begin an iteration (no results), or answer its last request; return what comes next.

        Raises:
            DivergedError: the iteration arrived at a policy that is not finite.
            JobError: the learner raised an error.
        """
        assert self._learner is not None
        assert self._cell is not None
        began, iteration = time.perf_counter(), int(self._state.iteration) + 1
        request: Request | None = None
        done: IterationInfo | None = None
        try:
            if self._iteration is None:
                self._seconds = 0.0
                self._iteration = self._learner.iterate(self._state)
                request = next(self._iteration)
            else:
                request = self._iteration.send(list(results))
        except StopIteration as stop:
            self._iteration, done = None, stop.value
        except DivergedError:
            raise
        except Exception as error:
            place = f"iteration {iteration} of {self._cell.id}"
            raise JobError.of(place, error) from error
        if request is None:
            if not isinstance(done, IterationInfo):
                given = type(done).__name__
                raise JobError(f"{self._cell.id}: iterate returned {given}, not IterationInfo")
            self.snapshot()
        self._seconds += time.perf_counter() - began
        return LearnerStep(request, done, int(self._state.env_steps), self._seconds)

    def advance_apart(self, *results: Any) -> tuple[LearnerStep, Any]:
        """Do ``advance``; return the request's payload beside the step, for workers elsewhere."""
        step = self.advance(*results)
        if step.request is None:
            return step, None
        bare = replace(step.request, payload=None)
        return replace(step, request=bare), step.request.payload

    def snapshot(self) -> PolicySnapshot:
        """Return the policy at the meta-parameters; raises like ``advance``."""
        with self._blamed("snapshot"):
            snapshot: PolicySnapshot = self._state.snapshot()
            check_policy(snapshot, self._state.iteration)
        return snapshot

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """Write a checkpoint and delete all but the newest two."""
        with self._blamed("save"):
            checkpoints.save(path, self._state, run)
