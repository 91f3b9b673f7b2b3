"""RAY: rollout actors and the learner actor behind ``Backend``.

Parameters and gradients pass from actor to actor by reference (``wire``: how); the driver reads
receipts only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.config.schema import RunConfig
from harness.errors import UsageError
from harness.execution.backend import Advance, Handle, LostError, Work
from harness.execution.learner_host import LearnerHost
from harness.execution.preflight import available_cpus
from harness.execution.ray import serialization
from harness.execution.ray.pool import DEAD, WorkerPool
from harness.execution.ray.reduction import NodeSums
from harness.execution.ray.scheduler import JobScheduler, cause
from harness.execution.worker import Receipt
from harness.types import Cell

Notify = Callable[[str, dict[str, Any]], None]
"""(kind, fields) of a fault, for the event log and the display."""


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
        alone = self._owns_ray and config.execution.address is None
        crowd = self.num_workers, config.execution.sum_beyond
        self._options = {} if alone else serialization.options(*crowd)
        # First: where memory runs out Ray ends the newest actors, and a learner costs the most.
        self._learner = self._start_learner()
        self.crew = WorkerPool(self._config_ref, self.num_workers, self._report, self._options)
        self._sums = NodeSums()
        try:
            self.crew.await_start(config.execution.start_timeout)
        except LostError as error:
            self.close()
            raise UsageError(str(error)) from error

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Do the jobs on whichever workers are free; data stays where it was collected."""
        execution = self._config.execution
        landed = JobScheduler(self.crew, work, execution, self._report, on_done).play()
        receipts = [one.receipt for one in landed]
        if work.summable and self.crew.crowd > execution.sum_beyond:
            return receipts, self._sums.reduced(landed)
        return receipts, [one.result for one in landed]

    def fetch(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the values behind the references.

        Raises:
            LostError: the node of one is gone.
        """
        try:
            values: list[Any] = ray.get(list(handles))
        except RayTaskError as error:
            raise cause(error) from error
        except RayError as error:
            message = f"data was lost: {str(error).splitlines()[0]}"
            raise LostError(message, learner=True) from error
        return values

    def start_learner(self, cell: Cell, checkpoint: Path | None) -> RayLearner:
        """Turn the learner actor to ``cell``; a dead one is replaced."""
        try:
            return RayLearner(self._learner, cell, checkpoint)
        except LostError:
            self._learner = self._start_learner()
            return RayLearner(self._learner, cell, checkpoint)

    def _start_learner(self) -> Any:
        # It waits while workers work, so it takes no CPU of its own. On the driver's node: it
        # reads and writes checkpoints in the driver's folders.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        made = ray.remote(num_cpus=0, max_restarts=0, **self._options)(LearnerHost)
        learner = made.options(scheduling_strategy=here).remote(self._config_ref)
        serialization.prepare(learner)
        return learner

    def close(self) -> None:
        """Shut down what this backend started."""
        self.crew.dismiss()
        self._sums.dismiss()
        ray.kill(self._learner)
        self._stop_ray()

    def _stop_ray(self) -> None:
        if self._owns_ray:
            ray.shutdown()

    def _report(self, kind: str, **fields: Any) -> None:
        """Tell whoever watches of a fault."""
        self._notify(kind, fields)


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


def _get(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise cause(error) from error
    except DEAD as error:
        told, memory = str(error).splitlines()[0], isinstance(error, OutOfMemoryError)
        raise LostError(f"the learner died: {told}", learner=True, memory=memory) from error


def start(**options: Any) -> None:
    """Start a Ray of our own, once more where it gave up: it waits 30 s for itself, no longer.

    Args:
        options: of ``ray.init``.

    Raises:
        UsageError: it gave up twice.
    """
    direct = {"max_direct_call_object_size": serialization.DIRECT_BYTES}
    options["_system_config"] = direct | options.get("_system_config", {})
    for _ in range(2):
        try:
            # A bare init would join whatever cluster is named in Ray's temporary folder.
            ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception as error:  # Ray raises no kind of its own here
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise UsageError(
        "Ray did not start within 30 s, twice: this machine is too busy. Try again later, or run "
        "without it (--backend local)"
    )


def connect(address: str | None) -> None:
    """Join the Ray cluster at ``address``, or start one in this machine's reach alone.

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
    else:
        try:
            ray.init(
                address=address,
                runtime_env=serialization.direct_up_to(serialization.DIRECT_BYTES),
                **quiet,
            )
        except ConnectionError as error:
            raise UsageError(
                f"--address {address}: no Ray cluster answers there. "
                "Start one with 'ray start --head', or leave --address out"
            ) from error
