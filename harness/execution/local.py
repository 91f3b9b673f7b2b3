"""LocalBackend: everything in this process, one job after the other; for tests and debuggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.execution.backend import Advance, Handle, Work
from harness.execution.learner_host import LearnerHost
from harness.execution.worker import Receipt, Worker
from harness.types import Cell


class LocalLearner:
    """A learner in this process."""

    def __init__(self, host: LearnerHost) -> None:
        self._host = host

    def advance(self, results: Sequence[Handle]) -> tuple[Advance, Handle]:
        """See ``LearnerHandle``."""
        return self._host.advance(*results)

    def subject(self) -> Handle:
        """See ``LearnerHandle``."""
        return self._host.subject()

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """See ``LearnerHandle``."""
        self._host.save(path, run)


class LocalBackend:
    """One worker, in process, on one thread. Satisfies ``Backend``."""

    num_workers = 1

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._worker = Worker(config)

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Do the jobs in order."""
        receipts: list[Receipt] = []
        results: list[Handle] = []
        for job in work.jobs:
            receipt, result = self._worker.do(work.kind, job, work.payload, work.origin)
            receipts.append(receipt)
            results.append(result)
            if on_done:
                on_done(len(results))
        return receipts, results

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the handles: here they are the values."""
        return list(handles)

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> LocalLearner:
        """Start a learner in this process."""
        host = LearnerHost(self._config)
        host.open(cell, checkpoint)
        return LocalLearner(host)

    def close(self) -> None:
        """Nothing was started."""
