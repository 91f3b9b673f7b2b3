"""RAY: one pass over a list of jobs that completes each exactly once, whatever dies or hangs.

Jobs are values that any worker can repeat: a worker that dies or hangs is replaced and its job is
run again with the same seeds. Jobs are handed out one at a time to idle workers; jobs whose data a
worker holds go to that worker, all at once, so that it need not wait in between. Results are in
job order, whatever the order of arrival.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.config.schema import ExecutionConfig
from harness.execution.backend import Handle, LostError, Work
from harness.execution.ray.calls import DeadActorError
from harness.execution.ray.pool import Report, WorkerPool
from harness.execution.worker import Receipt

MAX_ATTEMPTS = {"worker_died": 3, "out_of_memory": 3, "job_timeout": 2}
"""Attempts at a job before its cell fails, by the fault that ended the last one."""
NOTICE_SECONDS = 20.0
"""Seconds without any worker before this is reported; an actor starts in 2 to 4 s."""
POLL_SECONDS = 1.0
"""How often the driver looks around while no job is running."""


@dataclass(slots=True)
class PendingCall:
    """A job that was sent to a worker."""

    index: int
    receipt: Any
    result: Any
    deadline: float = math.inf
    """Finite once the worker has reached this job."""


class JobScheduler:
    """One pass over the jobs of ``work``."""

    def __init__(
        self,
        pool: WorkerPool,
        work: Work,
        execution: ExecutionConfig,
        report: Report,
        on_done: Callable[[int], None] | None,
    ) -> None:
        self._pool, self._work, self._execution = pool, work, execution
        self._limit = execution.job_timeout + work.patience
        """Seconds after which a job counts as hung."""
        self._report, self._on_done = report, on_done
        self._queue: deque[int] = deque()
        """Jobs that any worker may take, by index."""
        self._owned: dict[int, list[int]] = defaultdict(list)
        """Jobs whose data a worker holds, by worker."""
        for index, job in enumerate(work.jobs):
            owner = pool.data_owner(job)
            (self._queue if owner is None else self._owned[owner]).append(index)
        self._pending: dict[int, deque[PendingCall]] = {}
        """Calls of every busy worker, in the order in which it answers them."""
        self._attempts = [0] * len(work.jobs)
        self._completed: dict[int, tuple[Receipt, Handle]] = {}
        self._last_active = time.monotonic()
        self._notified = False

    def run(self) -> list[tuple[Receipt, Handle]]:
        """Complete every job; return receipts and results in job order."""
        try:
            while len(self._completed) < len(self._work.jobs):
                self._submit()
                self._wait()
        except BaseException:
            for worker in self._pending:
                self._pool.replace(worker)
            raise
        return [self._completed[index] for index in range(len(self._work.jobs))]

    def _submit(self) -> None:
        """Give every idle worker something to do."""
        available = self._pool.available()
        for lost in set(self._owned).difference(available):
            self._queue.extend(self._owned.pop(lost))
        for worker in available:
            if worker in self._pending:
                continue
            jobs = self._owned.pop(worker, [])
            if not jobs and self._queue:
                jobs = [self._queue.popleft()]
            for index in jobs:
                self._attempts[index] += 1
                call = PendingCall(
                    index, *self._pool.submit(worker, self._work, self._work.jobs[index])
                )
                self._pending.setdefault(worker, deque()).append(call)
                self._start_clock(worker)

    def _start_clock(self, worker: int) -> None:
        """Set the deadline of the job that the worker is at; jobs queued behind it have none."""
        current = self._pending[worker][0]
        if current.deadline == math.inf:
            current.deadline = time.monotonic() + self._limit

    def _wait(self) -> None:
        """Wait for the next event and act on it."""
        # Queued jobs finish later; if the worker dies, the job that it was running is to blame.
        current = {calls[0].receipt: worker for worker, calls in self._pending.items()}
        deadlines = [calls[0].deadline for calls in self._pending.values()]
        now = time.monotonic()
        patience = min(deadlines, default=now + POLL_SECONDS) - now
        ready = self._pool.wait(list(current), patience)
        for receipt in ready:
            self._finish(current[receipt])
        if not ready:
            self._expire()
        if self._pending or self._pool.available():
            self._last_active, self._notified = time.monotonic(), False
        else:
            self._wait_for_room()

    def _finish(self, worker: int) -> None:
        try:
            receipt = self._pool.receipt(self._pending[worker][0].receipt)
        except DeadActorError as error:
            self._probe_node(worker)
            self._retry(worker, "out_of_memory" if error.memory else "worker_died", str(error))
            return
        except Exception:  # the job's own: the worker is still alive
            self._pop_call(worker)
            raise
        call = self._pop_call(worker)
        self._pool.set_data_owner(self._work.jobs[call.index], worker)
        self._completed[call.index] = receipt, call.result
        if self._on_done:
            self._on_done(len(self._completed))

    def _pop_call(self, worker: int) -> PendingCall:
        """Remove the call that the worker has answered."""
        call = self._pending[worker].popleft()
        if self._pending[worker]:
            self._start_clock(worker)
        else:
            del self._pending[worker]
        return call

    def _probe_node(self, dead: int) -> None:
        """Probe the idle neighbours of a dead worker: the whole node may be gone."""
        available = self._pool.available()
        for worker in self._pool.same_node(dead):
            if worker in available and worker not in self._pending:
                self._pool.probe(worker)

    def _expire(self) -> None:
        """Replace the workers that have exceeded a job's deadline."""
        now = time.monotonic()
        late = [worker for worker, calls in self._pending.items() if calls[0].deadline <= now]
        for worker in late:
            self._retry(worker, "job_timeout", f"no answer in {self._limit:g} s")

    def _wait_for_room(self) -> None:
        """Report that no worker is up, and give up after ``start_timeout``."""
        waited, limit = time.monotonic() - self._last_active, self._execution.start_timeout
        if waited >= limit:
            raise LostError(f"no worker has started in {limit:g} s")
        if waited >= NOTICE_SECONDS and not self._notified:
            self._notified = True
            self._report(
                "waiting", workers=len(self._pool), cause="none is up", seconds_at_most=limit
            )

    def _retry(self, worker: int, kind: str, reason: str) -> None:
        """Replace a worker and queue its jobs again; only the running one has used an attempt."""
        index, *behind = (call.index for call in self._pending.pop(worker))
        for other in behind:
            self._attempts[other] -= 1
        self._queue.extendleft([*reversed(behind), index])
        job, attempts = self._work.jobs[index], self._attempts[index]
        self._report(kind, job=str(job), attempt=attempts, cause=reason)
        self._pool.replace(worker)
        if attempts >= MAX_ATTEMPTS[kind]:
            message = f"{job} was lost {attempts} times ({kind}: {reason})"
            raise LostError(message, memory=kind == "out_of_memory")
