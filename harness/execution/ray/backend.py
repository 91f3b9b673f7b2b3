"""RAY: the ``Backend`` whose workers and learner are Ray actors.

Parameters and gradients pass from actor to actor by reference; the driver reads receipts only.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.config import plugins
from harness.config.schema import RunConfig
from harness.errors import SurroundingsError, UsageError, shadows
from harness.execution.backend import START_TIMEOUT, Handle, LearnerStep, LostError, Work
from harness.execution.learner_host import LearnerHost
from harness.execution.ray import calls, serialization
from harness.execution.ray.pool import WorkerPool
from harness.execution.ray.scheduler import JobScheduler
from harness.execution.worker import Receipt
from harness.reporting.store.provenance import available_cpus
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
            connect(config.execution.address, config.execution.start_timeout)
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
        except BaseException:
            self.close()
            raise

    def run(
        self, work: Work, on_done: Callable[[int], None] | None = None
    ) -> tuple[list[Receipt], list[Handle]]:
        """Run the jobs on whichever workers are free; data stays where it was collected."""
        scheduler = JobScheduler(self.pool, work, self._config.execution, self._report, on_done)
        completed = scheduler.run()
        return [receipt for receipt, _ in completed], [result for _, result in completed]

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
        SurroundingsError: it cannot be started, or did not start the second time either.
    """
    inline = {"max_direct_call_object_size": serialization.INLINE_BYTES}
    options["_system_config"] = inline | options.get("_system_config", {})
    for _ in range(2):
        try:
            # A bare init would join any cluster named in Ray's temporary folder.
            with _unshadowed():
                ray.init(address="local", include_dashboard=False, **options)
            return
        except OSError as error:
            raise SurroundingsError(
                f"Ray cannot be started: {error}. It needs a temporary folder with room (TMPDIR) "
                "and shared memory; or run without it (--backend local)"
            ) from error
        except Exception as error:  # Ray raises no specific type here
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise SurroundingsError(
        "Ray did not start within 30 s, twice: this machine is too busy. Try again later, or run "
        "without it (--backend local)"
    )


def check_nodes(configs: Sequence[RunConfig], folder: Path) -> None:
    """Check on every node what cells that are played there need.

    Args:
        configs: of the cells, whose components from outside are imported.
        folder: the run's, which every node must reach.

    Raises:
        UsageError: a node cannot import them, or does not have the folder.
    """
    outside = [config for config in configs if any(plugins.names_in(config))]
    own = ray.get_runtime_context().get_node_id()
    for node in (node for node in ray.nodes() if node["Alive"]):
        if node["NodeID"] == own and not outside:
            continue
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        check = ray.remote(num_cpus=0, scheduling_strategy=here, max_retries=0)(_is_there)
        try:
            if not ray.get(check.remote(outside, folder)):
                raise UsageError(
                    f"node {node['NodeManagerAddress']} does not have {folder}: give a --storage "
                    "that all nodes share, or play one cell at a time with --num-workers"
                )
        except RayError as error:
            cause = str(error).strip().splitlines()[-1].strip()
            raise UsageError(
                f"node {node['NodeManagerAddress']} cannot import what this machine can: {cause}. "
                "Install the package there too, or give its file as path/file.py:factory"
            ) from error


def _is_there(configs: Sequence[RunConfig], folder: Path) -> bool:
    """Return whether the run's folder is here; to receive ``configs`` imports the components."""
    return folder.is_dir()


def connect(address: str | None, timeout: float = START_TIMEOUT) -> None:
    """Join the Ray cluster at ``address``, or start one for this machine alone.

    Args:
        address: as ``ray.init`` takes it; None to start one.
        timeout: seconds that the cluster may take to answer.

    Raises:
        UsageError: the driver would not be on a node of the cluster.
        SurroundingsError: the cluster does not answer or refuses us, or Ray cannot be started.
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
    probe(address, timeout)
    try:
        with _unshadowed():
            ray.init(address=address, runtime_env=serialization.inline_object_limit(), **quiet)
    except ConnectionError as error:
        raise SurroundingsError(f"--address {address}: {NO_CLUSTER}") from error


_PROBE = """
import sys
from ray._private.services import canonicalize_bootstrap_address_or_die as resolve
from ray._raylet import GcsClient
GcsClient(address=resolve(sys.argv[1])).internal_kv_get(b"x", None, timeout=5)
"""
NO_CLUSTER = (
    "no Ray cluster answers there. Start one with 'ray start --head', or leave --address out"
)


def probe(address: str, timeout: float) -> None:
    """Ask in a process of its own whether a cluster lets us in: ``ray.init`` may wait or abort.

    Raises:
        SurroundingsError: it does not; the message says why.
    """
    command = [sys.executable, "-P", "-c", _PROBE, address]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise SurroundingsError(
            f"--address {address}: no answer in {timeout:g} s (--start-timeout): {NO_CLUSTER}"
        ) from error
    if asked.returncode == 0:
        return
    if "ConnectionError" in asked.stderr or "token" not in asked.stderr.lower():
        raise SurroundingsError(f"--address {address}: {NO_CLUSTER}")
    raise SurroundingsError(
        f"--address {address}: the cluster has another authentication token, or this process has "
        "none. Give it the cluster's: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or ~/.ray/auth_token"
    )


@contextlib.contextmanager
def _unshadowed() -> Iterator[None]:
    """Start Ray elsewhere if the working directory hides our packages from its workers.

    Ray puts the driver's working directory first in the path of every worker.
    """
    here = Path.cwd()
    with contextlib.chdir(Path(__file__).parents[3] if shadows(here) else here):
        yield
