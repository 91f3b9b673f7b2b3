"""LocalBackend: everything in this process, one job at a time; for tests and debuggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.config.schema import RunConfig
from harness.execution.backend import Handle, Work
from harness.execution.learner_host import LearnerHost
from harness.execution.worker import Receipt, Worker
from harness.types import Cell


class LocalBackend:
    """One worker and one learner, in this process, on one thread. Satisfies ``Backend``."""

    num_workers = 1

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._threads = torch.get_num_threads()
        self._worker = Worker(config)

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Do the jobs in order."""
        receipts: list[Receipt] = []
        results: list[Handle] = []
        request = work.request
        for job in work.jobs:
            receipt, result = self._worker.do(request.kind, job, request.payload, work.origin)
            receipts.append(receipt)
            results.append(result)
            if on_done:
                on_done(len(results))
        return receipts, results

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the handles, which are the values."""
        return list(handles)

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> LearnerHost:
        """Start a learner in this process."""
        host = LearnerHost(self._config)
        host.open(cell, checkpoint)
        return host

    def close(self) -> None:
        """Give the threads back: no process was started."""
        torch.set_num_threads(self._threads)
