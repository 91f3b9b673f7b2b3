"""RAY: the rollout actors of a run: where each one is, which are up, and their replacement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from harness.execution.backend import LostError, Work
from harness.execution.jobs import Job
from harness.execution.ray import serialization
from harness.execution.worker import Worker

MAX_STARTS = 3
"""Times in a row that the actor in one place may die before it has done anything."""
LOOK_SECONDS, SUSPECT_SECONDS = 1.0, 120.0
"""How often Ray is asked whether a node that lost an actor is still there, and for how long."""
DEAD = (RayActorError, OutOfMemoryError)
"""What calling a dead actor raises; of one that Ray killed for want of memory it is the second."""
Report = Callable[..., None]
"""(kind, **fields) of a fault, for the event log and the display."""


class WorkerPool:
    """Actors by number. A replaced actor keeps its number, wherever Ray puts it."""

    def __init__(
        self, config_ref: Any, size: int, report: Report, options: Mapping[str, Any]
    ) -> None:
        self._config_ref, self._report, self._options = config_ref, report, options
        self._actors = [self._started() for _ in range(size)]
        self._nodes: dict[int, str] = {}
        """Node of every actor that has told it."""
        self._failed_starts: Counter[int] = Counter()
        self._lost_nodes: set[str] = set()
        self._suspected: dict[str, list[float]] = {}
        """Nodes where actors were replaced of late, and when: Ray notices seconds after its actors
        have gone that a node has."""
        self._next_look = 0.0
        self._home: dict[tuple[str, str, int, int], int] = {}
        self.checking: dict[Any, int] = {}
        """What tells that an actor is up -> its number: until then it gets no job, for a job's
        deadline does not cover the start."""
        for worker in range(size):
            self.check(worker)

    def __len__(self) -> int:
        return len(self._actors)

    def await_start(self, seconds: float) -> None:
        """Wait until every actor is up.

        Raises:
            LostError: some were not within ``seconds``.
        """
        end = time.monotonic() + seconds
        while self.checking:
            patience = max(0.0, end - time.monotonic())
            ready, _ = ray.wait(list(self.checking), timeout=patience)
            for reference in ready:
                self.checked(reference)
            if not ready:
                raise LostError(
                    f"{len(self.checking)} of {len(self)} workers have not started in "
                    f"{seconds:g} s: are the CPUs of the cluster taken?"
                )

    def _started(self) -> Any:
        made = ray.remote(num_cpus=1, max_restarts=0, **self._options)(Worker)
        worker = made.remote(self._config_ref)
        serialization.prepare(worker)
        return worker

    def submit(self, worker: int, work: Work, job: Job) -> tuple[Any, Any]:
        """Send one job; return the references to its receipt and its result."""
        call = self._actors[worker].do.options(num_returns=2)
        # What is large is not sent twice, nor to one who has what would be collected with it.
        known = work.origin is work.request.payload or self.home(job) == worker
        origin = None if known else work.origin
        receipt, result = call.remote(work.request.kind, job, work.request.payload, origin)
        return receipt, result

    def check(self, worker: int) -> None:
        """Ask an actor whether it is up, and where; it is in ``checking`` until it answers."""
        self.checking[self._actors[worker].__ray_call__.remote(_node)] = worker

    def checked(self, reference: Any) -> int | None:
        """Read an answer to ``check``: the actor that is up, or none, and a new one is started.

        Raises:
            LostError: it died ``MAX_STARTS`` times in a row.
        """
        worker = self.checking.pop(reference)
        try:
            self._nodes[worker] = ray.get(reference)
        except DEAD as error:
            self._failed_starts[worker] += 1
            if self._failed_starts[worker] >= MAX_STARTS:
                cause = str(error).splitlines()[0]
                memory = isinstance(error, OutOfMemoryError)
                told = f"worker {worker} cannot be started: {cause}"
                raise LostError(told, memory=memory) from error
            self.replace(worker)
            return None
        self._failed_starts[worker] = 0
        return worker

    def replace(self, worker: int) -> None:
        """Put a fresh actor in the place of a dead or hung one; what it had kept is gone."""
        node = self._nodes.pop(worker, None)
        if node is not None and node not in self._lost_nodes:
            self._suspected.setdefault(node, []).append(time.monotonic())
            self._next_look = 0.0
        self.tell_of_lost_nodes()
        ray.kill(self._actors[worker])
        self._actors[worker] = self._started()
        self.checking = {ref: other for ref, other in self.checking.items() if other != worker}
        self.check(worker)
        self._home = {key: home for key, home in self._home.items() if home != worker}

    def tell_of_lost_nodes(self) -> None:
        """Report every node that has gone, once: to be called now and then."""
        now = time.monotonic()
        if not self._suspected or now < self._next_look:
            return
        self._next_look, alive = now + LOOK_SECONDS, _alive()
        for node, times in list(self._suspected.items()):
            if node not in alive:
                others = sum(place == node for place in self._nodes.values())
                self._lost_nodes.add(node)
                self._report("node_lost", node=node, workers=len(times) + others)
            elif now - times[-1] < SUSPECT_SECONDS:
                continue
            del self._suspected[node]

    def on(self, node: str | None) -> list[int]:
        """Return the actors on ``node``."""
        return [worker for worker, place in self._nodes.items() if place == node]

    def node(self, worker: int) -> str | None:
        """Return where an actor is, if it has told."""
        return self._nodes.get(worker)

    @property
    def crowd(self) -> int:
        """Actors on the fullest node."""
        return max(Counter(self._nodes.values()).values(), default=0)

    def home(self, job: Job) -> int | None:
        """Return the actor that holds the job's data, if one does."""
        return self._home.get(job.key)

    def settle(self, job: Job, worker: int) -> None:
        """Remember that ``worker`` holds the job's data; of one iteration only, as it does."""
        if self._home and next(iter(self._home))[:3] != job.key[:3]:
            self._home.clear()
        self._home[job.key] = worker

    def dismiss(self) -> None:
        """End every actor."""
        for actor in self._actors:
            ray.kill(actor)


def _node(_: Worker) -> str:
    node: str = ray.get_runtime_context().get_node_id()
    return node


def _alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
