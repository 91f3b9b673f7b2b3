"""RAY: the rollout actors of a run: starting them, calling them, replacing the lost ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ray

from harness.execution.backend import LostError, Work
from harness.execution.jobs import Job
from harness.execution.ray import calls, serialization
from harness.execution.ray.calls import DeadActorError
from harness.execution.worker import Receipt, Worker

MAX_STARTS = 3
"""Times in a row that a worker may die before it has started."""
POLL_SECONDS, SUSPECT_SECONDS = 1.0, 120.0
"""How often Ray is asked whether a node that lost an actor is still alive, and for how long."""
Report = Callable[..., None]
"""(kind, **fields) of a fault, for the event log and the display."""


class NodeMonitor:
    """Reports lost nodes.

    Ray notices that a node is gone some seconds after the node's actors are. A node that lost an
    actor is therefore polled for a while.
    """

    def __init__(
        self, report: Report, alive: Callable[[], set[str]], clock: Callable[[], float]
    ) -> None:
        self._report, self._alive, self._clock = report, alive, clock
        self._suspects: dict[str, list[float]] = {}
        """Times at which each suspected node lost an actor."""
        self._lost: set[str] = set()
        self._next_poll = 0.0

    def actor_lost(self, node: str) -> None:
        """Suspect ``node`` because an actor on it is gone."""
        if node not in self._lost:
            self._suspects.setdefault(node, []).append(self._clock())
            self._next_poll = 0.0

    def poll(self, nodes: Iterable[str]) -> None:
        """Report every lost node once; ``nodes`` lists the node of each remaining actor."""
        now = self._clock()
        if not self._suspects or now < self._next_poll:
            return
        self._next_poll, alive = now + POLL_SECONDS, self._alive()
        remaining = Counter(nodes)
        for node, times in list(self._suspects.items()):
            if node not in alive:
                self._lost.add(node)
                self._report("node_lost", node=node, workers=len(times) + remaining[node])
            elif now - times[-1] < SUSPECT_SECONDS:
                continue
            del self._suspects[node]


class WorkerPool:
    """Rollout actors by number. A replacement keeps the number, wherever Ray places it."""

    def __init__(self, config_ref: Any, size: int, report: Report) -> None:
        self._config_ref = config_ref
        self._actors = [self._start() for _ in range(size)]
        self._nodes: dict[int, str] = {}
        """Node of every worker that has answered a probe."""
        self._monitor = NodeMonitor(report, _alive_nodes, time.monotonic)
        self._failed_starts: Counter[int] = Counter()
        self._data_owners: dict[tuple[str, str, int, int], int] = {}
        self._probes: dict[Any, int] = {}
        """Unanswered probe -> worker. A worker gets no job before it answers, because a job's
        deadline does not cover the start of its actor."""
        for worker in range(size):
            self.probe(worker)

    def __len__(self) -> int:
        return len(self._actors)

    def await_start(self, seconds: float) -> None:
        """Wait until every worker has started.

        Raises:
            LostError: some had not after ``seconds``.
        """
        end = time.monotonic() + seconds
        while self._probes:
            if time.monotonic() >= end:
                raise LostError(
                    f"{len(self._probes)} of {len(self)} workers have not started in "
                    f"{seconds:g} s: are the CPUs of the cluster taken?"
                )
            self.wait([], end - time.monotonic())

    def available(self) -> list[int]:
        """Return the workers that are up, busy or not."""
        starting = set(self._probes.values())
        return [worker for worker in range(len(self)) if worker not in starting]

    def submit(self, worker: int, work: Work, job: Job) -> tuple[Any, Any]:
        """Send one job; return the references to its receipt and its result."""
        # The payload of ``collect`` is large: omit it where the data is, and never send it twice.
        known = work.origin is work.request.payload or self.data_owner(job) == worker
        origin = None if known else work.origin
        call = self._actors[worker].do.options(num_returns=2)
        receipt, result = call.remote(work.request.kind, job, work.request.payload, origin)
        return receipt, result

    def wait(self, receipts: Sequence[Any], seconds: float) -> list[Any]:
        """Wait until a job is done or a worker has started; return the receipts that are there.

        Raises:
            LostError: a worker died ``MAX_STARTS`` times in a row before it had started.
        """
        self._monitor.poll(self._nodes.values())
        references = [*receipts, *self._probes]
        ready, _ = ray.wait(references, num_returns=1, timeout=max(0.0, seconds))
        for reference in ready:
            if reference in self._probes:
                self._finish_probe(reference)
        return [reference for reference in ready if reference in receipts]

    def receipt(self, reference: Any) -> Receipt:
        """Return the receipt of a job that is done; raises like ``calls.get``."""
        receipt: Receipt = calls.get(reference)
        return receipt

    def probe(self, worker: int) -> None:
        """Ask whether a worker is up; it is not available until it answers."""
        self._probes[self._actors[worker].__ray_call__.remote(_node_id)] = worker

    def _finish_probe(self, reference: Any) -> None:
        worker = self._probes.pop(reference)
        try:
            self._nodes[worker] = calls.get(reference, f"worker {worker}")
            self._failed_starts[worker] = 0
        except DeadActorError as error:
            self._failed_starts[worker] += 1
            if self._failed_starts[worker] >= MAX_STARTS:
                message = f"worker {worker} cannot be started: {error}"
                raise LostError(message, memory=error.memory) from error
            self.replace(worker)

    def replace(self, worker: int) -> None:
        """Replace a dead or hung actor; the data it held is gone."""
        node = self._nodes.pop(worker, None)
        if node is not None:
            self._monitor.actor_lost(node)
        ray.kill(self._actors[worker])
        self._actors[worker] = self._start()
        self._probes = {ref: other for ref, other in self._probes.items() if other != worker}
        self.probe(worker)
        self._data_owners = {k: owner for k, owner in self._data_owners.items() if owner != worker}

    def same_node(self, worker: int) -> list[int]:
        """Return all workers on the node of ``worker``, itself included; none if not known."""
        node = self._nodes.get(worker)
        return [other for other, place in self._nodes.items() if place == node]

    def data_owner(self, job: Job) -> int | None:
        """Return the worker that holds the data collected for ``job``, if one does."""
        return self._data_owners.get(job.key)

    def set_data_owner(self, job: Job, worker: int) -> None:
        """Record that ``worker`` holds the job's data. Workers keep one iteration's data only."""
        if self._data_owners and next(iter(self._data_owners))[:3] != job.key[:3]:
            self._data_owners.clear()
        self._data_owners[job.key] = worker

    def shutdown(self) -> None:
        """Kill every actor."""
        for actor in self._actors:
            ray.kill(actor)

    def _start(self) -> Any:
        actor = ray.remote(num_cpus=1, max_restarts=0)(Worker).remote(self._config_ref)
        serialization.install_in_actor(actor)
        return actor


def _node_id(_: Worker) -> str:
    node: str = ray.get_runtime_context().get_node_id()
    return node


def _alive_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
