"""RAY: the ``Backend`` whose workers and learner are Ray actors.

Parameters and gradients pass from actor to actor by reference; the driver reads receipts only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.config.schema import RunConfig
from harness.errors import UsageError
from harness.execution.backend import Handle, LearnerStep, LostError, Work
from harness.execution.learner_host import LearnerHost
from harness.execution.preflight import available_cpus
from harness.execution.ray import calls, serialization
from harness.execution.ray.pool import WorkerPool
from harness.execution.ray.scheduler import JobScheduler
from harness.execution.worker import Receipt
from harness.types import Cell

Notify = Callable[[str, dict[str, Any]], None]
"""(kind, fields) of a fault, for the event log and the display."""


class RayBackend:
    """Rollout actors and one learner actor per cell. Satisfies ``Backend``."""

    def __init__(self, config: RunConfig, notify: Notify) -> None:
        self._config = config
        self._notify = notify
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            connect(config.execution.address)
        cpus = int(ray.cluster_resources().get("CPU", 0))
        self.num_workers = config.execution.num_workers or max(1, cpus)
        if self.num_workers > cpus:
            self._stop_ray()
            raise UsageError(
                f"--num-workers {self.num_workers} needs {self.num_workers} CPUs, "
                f"the cluster has {cpus}"
            )
        self._config_ref = ray.put(config)
        # First: when memory runs out Ray kills the newest actors, and the learner is dearest.
        self._learner = self._start_learner()
        self.pool = WorkerPool(self._config_ref, self.num_workers, self._report)
        try:
            self.pool.await_start(config.execution.start_timeout)
        except LostError as error:
            self.close()
            raise UsageError(str(error)) from error

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Run the jobs on whichever workers are free; data stays where it was collected."""
        scheduler = JobScheduler(self.pool, work, self._config.execution, self._report, on_done)
        completed = scheduler.run()
        return [job.receipt for job in completed], [job.result for job in completed]

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the values behind the references.

        Raises:
            LostError: a value was lost together with its node.
        """
        values: list[Any] = calls.get(list(handles))
        return values

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> RayLearner:
        """Switch the learner actor to ``cell``; a dead one is replaced."""
        try:
            return RayLearner(self._learner, cell, checkpoint)
        except LostError:
            self._learner = self._start_learner()
            return RayLearner(self._learner, cell, checkpoint)

    def _start_learner(self) -> Any:
        # It waits while workers work, so it needs no CPU of its own. It runs on the driver's
        # node because it reads and writes checkpoints in the driver's folders.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor_class = ray.remote(num_cpus=0, max_restarts=0, scheduling_strategy=here)(LearnerHost)
        learner = actor_class.remote(self._config_ref)
        serialization.install_in_actor(learner)
        return learner

    def close(self) -> None:
        """Shut down everything that this backend started."""
        self.pool.shutdown()
        ray.kill(self._learner)
        self._stop_ray()

    def _stop_ray(self) -> None:
        if self._owns_ray:
            ray.shutdown()

    def _report(self, kind: str, **fields: Any) -> None:
        self._notify(kind, fields)


class RayLearner:
    """Handle of the learner actor. Satisfies ``LearnerHandle``."""

    def __init__(self, actor: Any, cell: Cell, checkpoint: Path | None) -> None:
        self._actor = actor
        self._get(actor.open.remote(cell, checkpoint))

    def advance(self, *results: Handle) -> LearnerStep:
        """See ``LearnerHandle``; results travel from the workers' nodes to the learner's."""
        answer, payload = self._actor.advance_apart.options(num_returns=2).remote(*results)
        step: LearnerStep = self._get(answer)
        if step.request is None:
            return step
        return replace(step, request=replace(step.request, payload=payload))

    def snapshot(self) -> Handle:
        """See ``LearnerHandle``."""
        return self._actor.snapshot.remote()

    def save(self, path: Path, run: dict[str, Any]) -> None:
        """See ``LearnerHandle``."""
        self._get(self._actor.save.remote(path, run))

    @staticmethod
    def _get(reference: Any) -> Any:
        return calls.get(reference, "the learner")


def start(**options: Any) -> None:
    """Start a Ray of our own; once more if it did not come up within its fixed 30 s.

    Args:
        options: passed to ``ray.init``.

    Raises:
        UsageError: it did not start the second time either.
    """
    inline = {"max_direct_call_object_size": serialization.INLINE_BYTES}
    options["_system_config"] = inline | options.get("_system_config", {})
    for _ in range(2):
        try:
            # A bare init would join any cluster named in Ray's temporary folder.
            ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception as error:  # Ray raises no specific type here
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise UsageError(
        "Ray did not start within 30 s, twice: this machine is too busy. Try again later, or run "
        "without it (--backend local)"
    )


def connect(address: str | None) -> None:
    """Join the Ray cluster at ``address``, or start one for this machine alone.

    Raises:
        UsageError: no cluster answers there, or the driver would not be on one of its nodes.
    """
    if address and address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: run this on a node of the cluster, with --address auto; "
            "the learner writes its checkpoints beside the driver"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        start(num_cpus=available_cpus(), **quiet)
        return
    try:
        ray.init(address=address, runtime_env=serialization.inline_object_limit(), **quiet)
    except ConnectionError as error:
        raise UsageError(
            f"--address {address}: no Ray cluster answers there. "
            "Start one with 'ray start --head', or leave --address out"
        ) from error
