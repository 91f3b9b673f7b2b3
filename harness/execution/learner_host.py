"""What the learner actor does, as a plain class: owns one cell's state and plays its iterations."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from harness.config.schema import RunConfig
from harness.execution import checkpoint as checkpoints
from harness.execution.backend import Advance
from harness.execution.scoring import PolicySnapshot
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import IterationInfo, Learner, Request
from harness.types import Cell


class LearnerHost:
    """Drives one cell's learner by messages, so that driver and learner may be apart."""

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(1)
        self._config = config
        self._learner: Learner | None = None
        self._state: Any = None
        self._playing: Generator[Request, list[Any], IterationInfo] | None = None
        self._seconds = 0.0

    def open(self, cell: Cell, checkpoint: Path | None) -> None:
        """Turn to ``cell``, untrained or as ``checkpoint`` holds it; what was open is dropped."""
        self._playing = None
        self._learner = learners.build(CellSetup.build(cell, self._config))
        if checkpoint is None:
            self._state = self._learner.init()
        else:
            self._state = self._restored(checkpoint)

    def _restored(self, checkpoint: Path) -> Any:
        assert self._learner is not None
        saved = checkpoints.read(checkpoint)
        try:
            return self._learner.restore(saved.tensors, saved.learner)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # torch: shapes differ
            raise checkpoints.CheckpointError(
                f"{checkpoint} does not fit the cell it names: {error}"
            ) from error

    def advance(self, *results: Any) -> tuple[Advance, Any]:
        """Begin an iteration, or send it the results it asked for; return what it asks next."""
        assert self._learner is not None
        began = time.perf_counter()
        request: Request | None = None
        done: IterationInfo | None = None
        try:
            if self._playing is None:
                self._seconds = 0.0
                self._playing = self._learner.iterate(self._state)
                request = next(self._playing)
            else:
                request = self._playing.send(list(results))
        except StopIteration as stop:
            self._playing, done = None, stop.value
        self._seconds += time.perf_counter() - began
        at, spent = int(self._state.env_steps), self._seconds
        if request is None:
            return Advance(None, done, at, spent), None
        return Advance(request.kind, done, at, spent, request.summable), request.payload

    def subject(self) -> PolicySnapshot:
        """Return the meta-parameters as evaluation takes them."""
        assert self._learner is not None
        state = self._learner.policy_state(self._state)
        return PolicySnapshot(state, int(self._state.env_steps))

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """Write a checkpoint and drop all but the newest two."""
        assert self._learner is not None
        tensors, meta = self._learner.save(self._state)
        checkpoints.write(path, checkpoints.Checkpoint(tensors, meta, run))
        checkpoints.prune(path.parent, keep=2)
