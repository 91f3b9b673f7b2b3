"""RAY: one pass over a list of jobs that does every job exactly once, whoever dies or hangs.

Jobs are values that any worker can do again: a worker that dies or hangs is replaced, and its job
is done anew with the same seeds. Jobs go one by one to whoever is free; those whose data a worker
holds go to that worker, all at once, so that it need not wait in between. Results are in job order,
whatever the order of arrival.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from harness.config.schema import ExecutionConfig
from harness.execution.backend import Handle, LostError, Work
from harness.execution.ray.pool import DEAD, Report, WorkerPool
from harness.execution.worker import Receipt
from harness.meta.learners.sums import FAN_IN

MAX_ATTEMPTS = 3
NOTICE_SECONDS = 20.0
"""How long no worker is up before it is told; an actor starts in 2 to 4 s where there is room."""


@dataclass(slots=True)
class _PendingCall:
    """One job on its way."""

    index: int
    receipt: Any
    result: Any
    deadline: float = math.inf
    """Of the job that the worker is at."""


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """A job that is done."""

    receipt: Receipt
    result: Handle
    node: str | None
    """Where its result lies."""


class JobScheduler:
    """One pass over the jobs."""

    def __init__(
        self,
        crew: WorkerPool,
        work: Work,
        execution: ExecutionConfig,
        report: Report,
        on_done: Callable[[int], None] | None,
    ) -> None:
        self._crew, self._work, self._execution = crew, work, execution
        self._report, self._on_done = report, on_done
        self._free: list[int] = []
        self._held: dict[int, list[int]] = defaultdict(list)
        """Jobs whose data a worker holds, by worker."""
        for index, job in enumerate(work.jobs):
            home = crew.home(job)
            (self._free if home is None else self._held[home]).append(index)
        self._idle = set(range(len(crew))) - set(crew.checking.values())
        self._flights: dict[int, deque[_PendingCall]] = {}
        """Of every worker that has any, in their order."""
        self._attempts = [0] * len(work.jobs)
        self._places: dict[int, str | None] = {}
        """Node that began a group of jobs whose results are added (``sums.groups``)."""
        self._done: dict[int, CompletedJob] = {}
        self._last_flight = time.monotonic()
        self._told = False

    def play(self) -> list[CompletedJob]:
        """Do the work; return what landed, in job order."""
        try:
            while len(self._done) < len(self._work.jobs):
                self._launch()
                self._land()
        except BaseException:
            for worker in self._flights:
                self._crew.replace(worker)
            raise
        return [self._done[index] for index in range(len(self._work.jobs))]

    def _launch(self) -> None:
        for worker in sorted(self._idle):
            for index in self._next_for(worker):
                self._send(index, worker)

    def _send(self, index: int, worker: int) -> None:
        self._idle.discard(worker)
        self._places.setdefault(index // FAN_IN, self._crew.node(worker))
        self._attempts[index] += 1
        flight = _PendingCall(index, *self._crew.submit(worker, self._work, self._work.jobs[index]))
        self._flights.setdefault(worker, deque()).append(flight)
        self._begun(worker)

    def _begun(self, worker: int) -> None:
        """Start the clock of the first of a worker's jobs; those behind it wait."""
        first = self._flights[worker][0]
        if first.deadline == math.inf:
            first.deadline = time.monotonic() + self._execution.job_timeout

    def _taken(self, worker: int) -> _PendingCall:
        """Take the first of a worker's jobs, which is over."""
        flight = self._flights[worker].popleft()
        if self._flights[worker]:
            self._begun(worker)
        else:
            del self._flights[worker]
            self._idle.add(worker)
        return flight

    def _next_for(self, worker: int) -> list[int]:
        """Take the jobs whose data it holds, or a free one, best of a group begun on its node."""
        held = self._held.pop(worker, [])
        if held or not self._free:
            return held
        best = self._free[0]
        for index in self._free:
            if self._distance(index, worker) < self._distance(best, worker):
                best = index
            if not self._distance(best, worker):
                break
        self._free.remove(best)
        return [best]

    def _distance(self, index: int, worker: int) -> int:
        group = index // FAN_IN
        if group not in self._places:
            return 1
        return 0 if self._places[group] == self._crew.node(worker) else 2

    def _land(self) -> None:
        self._crew.tell_of_lost_nodes()
        checking = self._crew.checking
        # The first of each queue: those behind it land later, and a death is the first's.
        first = {queue[0].receipt: worker for worker, queue in self._flights.items()}
        ready, _ = ray.wait([*first, *checking], num_returns=1, timeout=self._patience())
        if not ready:
            self._expire()
        for reference in ready:
            if reference not in checking:
                self._finish(first[reference])
                continue
            asked = checking[reference]
            if self._crew.checked(reference) is None:
                self._free += self._held.pop(asked, [])
            else:
                self._idle.add(asked)
        if self._flights or ready:
            self._last_flight, self._told = time.monotonic(), False

    def _patience(self) -> float:
        deadlines = [queue[0].deadline for queue in self._flights.values()]
        return max(
            0.0, min(deadlines, default=time.monotonic() + NOTICE_SECONDS) - time.monotonic()
        )

    def _finish(self, worker: int) -> None:
        try:
            answer: Receipt = ray.get(self._flights[worker][0].receipt)
        except RayTaskError as error:  # first: it is a RayActorError too if that is its cause
            self._taken(worker)
            raise cause(error) from error
        except DEAD as error:
            self._doubt(worker)
            memory = isinstance(error, OutOfMemoryError)
            kind = "out_of_memory" if memory else "worker_died"
            self._retry(worker, kind, str(error).splitlines()[0])
            return
        flight = self._taken(worker)
        self._crew.settle(self._work.jobs[flight.index], worker)
        node = self._crew.node(worker)
        self._done[flight.index] = CompletedJob(answer, flight.result, node)
        if self._on_done:
            self._on_done(len(self._done))

    def _doubt(self, dead: int) -> None:
        """Ask the idle neighbours of a dead worker whether they live: its node may be gone."""
        for worker in self._idle.intersection(self._crew.on(self._crew.node(dead))):
            self._idle.discard(worker)
            self._crew.check(worker)

    def _expire(self) -> None:
        now = time.monotonic()
        if not self._flights:
            self._wait_for_room(now - self._last_flight)
        limit = self._execution.job_timeout
        late = [worker for worker, queue in self._flights.items() if queue[0].deadline <= now]
        for worker in late:
            self._retry(worker, "job_timeout", f"no answer in {limit:g} s")

    def _wait_for_room(self, waited: float) -> None:
        workers, limit = len(self._crew.checking), self._execution.start_timeout
        if waited >= limit:
            raise LostError(f"no worker has started in {limit:g} s")
        if not self._told:
            self._told = True
            self._report("waiting", workers=workers, cause="none is up", seconds_at_most=limit)

    def _retry(self, worker: int, kind: str, reason: str) -> None:
        """Replace a worker and give up its jobs; the one that it was at has had an attempt."""
        index, *behind = (flight.index for flight in self._flights.pop(worker))
        for other in behind:
            self._attempts[other] -= 1
        self._free = [index, *behind, *self._free]
        job, attempts = self._work.jobs[index], self._attempts[index]
        self._report(kind, job=str(job), attempt=attempts, cause=reason)
        self._crew.replace(worker)
        limit = 2 if kind == "job_timeout" else MAX_ATTEMPTS
        if attempts >= limit:
            told = f"{job} was lost {attempts} times ({kind}: {reason})"
            raise LostError(told, memory=kind == "out_of_memory")


def cause(error: RayTaskError) -> Exception:
    """Return what went wrong in an actor, as it was raised there."""
    if isinstance(error.cause, RayError):  # what it was sent is gone with the one that made it
        return LostError(f"data was lost: {str(error.cause).splitlines()[0]}", learner=True)
    found: Exception = error.cause
    return found
