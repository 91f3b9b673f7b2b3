"""RAY: rollout actors, the learner actor, and a small supervisor that does every job exactly once.

Jobs are values that any worker can do again: a worker that dies or hangs is replaced, and its job
is done anew with the same seeds. Parameters and gradients pass by reference from actor to actor;
the driver reads receipts only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from harness.config import RunConfig, UsageError
from harness.execution.backend import Advance, Handle, LostError, Work
from harness.execution.jobs import Job
from harness.execution.learner_host import LearnerHost
from harness.execution.preflight import available_cpus
from harness.execution.worker import Receipt, Worker
from harness.types import Cell

MAX_ATTEMPTS = 3
START_SECONDS = 120.0
"""Within which an actor must have started: far beyond what loading torch takes."""
Notify = Callable[[str, dict[str, Any]], None]
"""(kind, fields) of a fault, for the event log and the display."""


@dataclass(slots=True)
class _Flight:
    """One job on its way."""

    index: int
    worker: int
    result: Any
    deadline: float


class RayBackend:
    """N rollout actors and one learner actor a cell. Satisfies ``Backend``."""

    def __init__(self, config: RunConfig, notify: Notify) -> None:
        self._config = config
        self._notify = notify
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            connect(config.execution.address)
        have = int(ray.cluster_resources().get("CPU", 0))
        self.num_workers = config.execution.num_workers or max(1, have)
        if self.num_workers > have:
            self._stop_ray()
            raise UsageError(
                f"--num-workers {self.num_workers} needs {self.num_workers} CPUs, "
                f"the cluster has {have}"
            )
        self._config_ref = ray.put(config)
        self._workers = [self._start_worker() for _ in range(self.num_workers)]
        self._learner = self._start_learner()
        self.starting: dict[Any, int] = {}
        """What tells that a replaced worker is up -> that worker: until then it gets no job, for
        a job's deadline does not cover the start."""
        try:
            _await_start(self._workers)
        except LostError as error:
            self.close()
            raise UsageError(f"{error}: are the CPUs of the cluster taken?") from error
        self._home: dict[tuple[str, str, int, int], int] = {}

    def _start_worker(self) -> Any:
        return ray.remote(num_cpus=1, max_restarts=0)(Worker).remote(self._config_ref)

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Do the jobs on whichever workers are free; data stays where it was collected."""
        return _Round(self, work, on_done).play()

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the values behind the references."""
        values: list[Any] = ray.get(list(handles))
        return values

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> RayLearner:
        """Turn the learner actor to ``cell``; a dead one is replaced."""
        try:
            return RayLearner(self._learner, cell, checkpoint)
        except LostError:
            self._learner = self._start_learner()
            return RayLearner(self._learner, cell, checkpoint)

    def _start_learner(self) -> Any:
        # It waits while workers work, so it takes no CPU of its own.
        return ray.remote(num_cpus=0, max_restarts=0)(LearnerHost).remote(self._config_ref)

    def close(self) -> None:
        """Shut down what this backend started."""
        for actor in (*self._workers, self._learner):
            ray.kill(actor)
        self._stop_ray()

    def _stop_ray(self) -> None:
        if self._owns_ray:
            ray.shutdown()

    def replace_worker(self, worker: int) -> None:
        """Put a fresh actor in the place of a dead or hung one; what it had kept is gone."""
        ray.kill(self._workers[worker])
        actor = self._workers[worker] = self._start_worker()
        late = {ready: other for ready, other in self.starting.items() if other != worker}
        self.starting = {**late, actor.__ray_ready__.remote(): worker}
        self._home = {key: home for key, home in self._home.items() if home != worker}

    def submit(self, worker: int, work: Work, job: Job) -> tuple[Any, Any]:
        """Send one job; return the references to its receipt and its result."""
        call = self._workers[worker].do.options(num_returns=2)
        receipt, result = call.remote(work.kind, job, work.payload, work.origin)
        return receipt, result

    def home(self, job: Job) -> int | None:
        """Return the worker that holds the job's data, if one does."""
        return self._home.get(job.key)

    def settle(self, job: Job, worker: int) -> None:
        """Remember that ``worker`` holds the job's data."""
        if len(self._home) > 4096:
            self._home.clear()
        self._home[job.key] = worker

    def report(self, kind: str, **fields: Any) -> None:
        """Tell whoever watches of a fault."""
        self._notify(kind, fields)

    @property
    def timeout(self) -> float:
        """Seconds a job may take."""
        return self._config.execution.job_timeout


class _Round:
    """One pass over a list of jobs: at most one in flight per worker."""

    def __init__(
        self, backend: RayBackend, work: Work, on_done: Callable[[int], None] | None
    ) -> None:
        self._backend, self._work, self._on_done = backend, work, on_done
        self._waiting = list(range(len(work.jobs)))
        self._idle = set(range(backend.num_workers)) - set(backend.starting.values())
        self._flights: dict[Any, _Flight] = {}
        self._attempts = [0] * len(work.jobs)
        self._done: dict[int, tuple[Receipt, Handle]] = {}

    def play(self) -> tuple[list[Receipt], list[Handle]]:
        try:
            while len(self._done) < len(self._work.jobs):
                self._launch()
                self._land()
        except BaseException:
            for flight in self._flights.values():
                self._backend.replace_worker(flight.worker)
            raise
        ordered = [self._done[index] for index in range(len(self._work.jobs))]
        return [receipt for receipt, _ in ordered], [result for _, result in ordered]

    def _launch(self) -> None:
        for worker in sorted(self._idle):
            index = self._next_for(worker)
            if index is None:
                continue
            self._waiting.remove(index)
            self._idle.discard(worker)
            job = self._work.jobs[index]
            self._attempts[index] += 1
            receipt, result = self._backend.submit(worker, self._work, job)
            deadline = time.monotonic() + self._backend.timeout
            self._flights[receipt] = _Flight(index, worker, result, deadline)

    def _next_for(self, worker: int) -> int | None:
        for index in self._waiting:
            if self._backend.home(self._work.jobs[index]) in (None, worker):
                return index
        return None

    def _land(self) -> None:
        deadlines = [flight.deadline for flight in self._flights.values()]
        nearest = min(deadlines, default=time.monotonic() + START_SECONDS)
        patience = max(0.0, nearest - time.monotonic())
        starting = self._backend.starting
        ready, _ = ray.wait([*self._flights, *starting], num_returns=1, timeout=patience)
        if not ready:
            self._expire()
        for reference in ready:
            if reference in starting:
                self._idle.add(starting.pop(reference))
            else:
                self._finish(reference, self._flights.pop(reference))

    def _finish(self, receipt: Any, flight: _Flight) -> None:
        job = self._work.jobs[flight.index]
        try:
            answer: Receipt = ray.get(receipt)
        except RayTaskError as error:  # first: it is a RayActorError too if that is its cause
            raise _cause(error) from error
        except RayActorError as error:
            self._retry(flight, "worker_died", str(error).splitlines()[0])
            return
        self._idle.add(flight.worker)
        self._backend.settle(job, flight.worker)
        self._done[flight.index] = (answer, flight.result)
        if self._on_done:
            self._on_done(len(self._done))

    def _expire(self) -> None:
        if not self._flights:
            raise LostError(f"no worker has started in {START_SECONDS:g} s")
        now = time.monotonic()
        for receipt, flight in list(self._flights.items()):
            if flight.deadline <= now:
                del self._flights[receipt]
                self._retry(flight, "job_timeout", f"no answer in {self._backend.timeout:g} s")

    def _retry(self, flight: _Flight, kind: str, cause: str) -> None:
        job, attempts = self._work.jobs[flight.index], self._attempts[flight.index]
        self._backend.report(kind, job=str(job), attempt=attempts, cause=cause)
        self._backend.replace_worker(flight.worker)
        limit = MAX_ATTEMPTS if kind == "worker_died" else 2
        if attempts >= limit:
            raise LostError(f"{job} was lost {attempts} times ({kind}: {cause})")
        self._waiting.insert(0, flight.index)


class RayLearner:
    """The learner actor's handle."""

    def __init__(self, actor: Any, cell: Cell, checkpoint: Path | None) -> None:
        self._actor = actor
        _get(actor.open.remote(cell, checkpoint))

    def advance(self, results: Sequence[Handle]) -> tuple[Advance, Handle]:
        """See ``LearnerHandle``; the results go from the workers' nodes to the learner's."""
        step, payload = self._actor.advance.options(num_returns=2).remote(*results)
        answer: Advance = _get(step)
        return answer, payload

    def subject(self) -> Handle:
        """See ``LearnerHandle``."""
        return self._actor.subject.remote()

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """See ``LearnerHandle``."""
        _get(self._actor.save.remote(path, run))


def _await_start(actors: Sequence[Any]) -> None:
    started = [actor.__ray_ready__.remote() for actor in actors]
    _, late = ray.wait(started, num_returns=len(started), timeout=START_SECONDS)
    if late:
        raise LostError(
            f"{len(late)} of {len(actors)} workers have not started in {START_SECONDS:g} s"
        )


def _get(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise _cause(error) from error
    except RayActorError as error:
        cause = str(error).splitlines()[0]
        raise LostError(f"the learner died: {cause}", learner=True) from error


def _cause(error: RayTaskError) -> Exception:
    """Return what went wrong in an actor, as it was raised there."""
    if isinstance(error.cause, RayError):  # what it was sent is gone with the one that made it
        return LostError(f"data was lost: {str(error.cause).splitlines()[0]}", learner=True)
    cause: Exception = error.cause
    return cause


def connect(address: str | None) -> None:
    """Join the Ray cluster at ``address``, or start one in this machine's reach alone.

    Raises:
        UsageError: no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # A bare init would join whatever cluster is named in Ray's temporary folder.
        ray.init(address="local", include_dashboard=False, num_cpus=available_cpus(), **quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            raise UsageError(
                f"--address {address}: no Ray cluster answers there. "
                "Start one with 'ray start --head', or leave --address out"
            ) from error
