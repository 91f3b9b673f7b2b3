"""RAY TUNE: the scheduler of cells that are played side by side, and nothing else.

Tune is given one cell at a time, holds a cell's actors together in a placement group, keeps the
processes of finished cells for the next ones, starts a cell again when its process dies, and may
stop it early (ASHA). Its own state is thrown away: which cells are missing is read from their
folders, and a cell goes on from its own checkpoints.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from pathlib import Path
from typing import Any, Self

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import Searcher

from harness.config.sweep_file import TuneConfig
from harness.execution.interrupt import InterruptedRunError, StopFile
from harness.execution.ray.backend import check_nodes, connect
from harness.experiments import trial
from harness.experiments.cell_queue import STOP_FILE, CellQueue, ForwardingListener
from harness.reporting.store.records import RunFolder

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
}
"""Tune neither prints nor logs nor handles signals: we do. And nobody reads its state."""
WORST = -1e30
"""Score of a cell that has diverged; finite, because asha interpolates between scores."""
OUT_OF_MEMORY = (
    "Ray killed cells because a machine ran low on memory: free some, or play fewer cells at once "
    "(tune.max_concurrent)"
)
SCRATCH = ".tune"
"""Folder in the run's folder for Tune's state."""


class Cluster:
    """The Ray that a run uses: joined, or started and shut down again."""

    def __init__(self, address: str | None, timeout: float) -> None:
        os.environ.update(QUIET)
        self._owns = not ray.is_initialized()
        if self._owns:
            connect(address, timeout)
        self.cpus = int(ray.cluster_resources().get("CPU", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._owns:
            ray.shutdown()


def play(queue: CellQueue, at_once: int, workers: int, cpus: int) -> None:
    """Play every waiting cell; return when all have ended, or stopped on request.

    Args:
        queue: the cells.
        at_once: most cells to play side by side.
        workers: rollout actors of each cell; 0 to play a cell in one process.
        cpus: of the cluster.

    Raises:
        InterruptedRunError: Ray killed cells to free memory.
    """
    waiting = [queue.planned[key].config for key in queue.waiting if key in queue.planned]
    check_nodes(waiting, queue.folder.path.absolute())
    # Tune keeps the process of a finished cell only while another cell waits for its place, so
    # where nothing but the CPUs limits the cells at once, as many again are queued in advance.
    full = (at_once + 1) * max(1, workers) > cpus
    queued = 2 * at_once if full else at_once
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)  # else they start one by one
    # In the run's folder, for every node must reach it; what a killed driver left is thrown away.
    scratch = queue.folder.path.absolute() / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    # The learner and the trial's own process wait while workers work: they take no CPU.
    bundles: list[dict[str, float]] = [{}] + [{"CPU": 1.0}] * workers if workers else [{"CPU": 1.0}]
    trainable = tune.with_resources(_trial, tune.PlacementGroupFactory(bundles))
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_CellSearcher(queue, workers, queued),
            scheduler=None if queue.tune.scheduler == "none" else _Asha(queue.tune),
            num_samples=len(queue.waiting),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="cells",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=queue.tune.max_failures),
            callbacks=[_TrialCallbacks(queue)],
        ),
    )
    try:
        tuner.fit()
    except RuntimeError as error:  # Tune raises it for an actor's death that it does not expect
        if not isinstance(error.__cause__, ray.exceptions.OutOfMemoryError):
            raise
        queue.listener.note(OUT_OF_MEMORY)
        raise InterruptedRunError(OUT_OF_MEMORY) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _trial(config: dict[str, Any]) -> None:
    """Play one cell in a process of its own."""
    spec: trial.TrialSpec = config["spec"]
    stop = StopFile(spec.run / STOP_FILE)
    listener = ForwardingListener(tune.report, config["every_iteration"])
    with contextlib.suppress(InterruptedRunError), contextlib.ExitStack() as stack:
        stop.check()
        backend = trial.start_backend(spec.config, RunFolder(spec.run), listener)
        stack.callback(backend.close)
        trial.play_cell(spec, backend, listener, stop)


class _Asha(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Compares a cell that diverged as the worst one; its NaN would be compared with nothing."""

    def __init__(self, config: TuneConfig) -> None:
        super().__init__(
            time_attr="env_steps",
            metric=config.metric,
            mode="max",
            max_t=2**62,
            grace_period=config.grace_env_steps,
            reduction_factor=config.reduction_factor,
            stop_last_trials=False,
        )
        self._config = config

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, self._judged(result))
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, trial, self._judged(result))

    def _judged(self, result: dict[str, Any]) -> dict[str, Any]:
        metric, steps = self._config.metric, result.get("env_steps", 0)
        diverged = result.get("diverged", False)
        if not diverged and math.isfinite(result.get(metric, 0.0)):
            return result
        if diverged:  # before the next rung, where it would have been compared
            rung = self._config.grace_env_steps or 1
            while rung < steps:
                rung *= self._config.reduction_factor
            steps = rung
        return result | {metric: WORST, "env_steps": steps}


class _CellSearcher(Searcher):  # type: ignore[misc]
    """Gives Tune one cell after the other, by the interface of its search algorithms."""

    def __init__(self, queue: CellQueue, workers: int, queued: int) -> None:
        super().__init__()
        self._queue, self._workers, self._queued = queue, workers, queued

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self._queue.exhausted:
            return Searcher.FINISHED
        key = self._queue.next(self._queued)
        if key is None:
            return None
        every = self._queue.tune.scheduler != "none"
        return {"spec": self._queue.spec(key, self._workers), "every_iteration": every}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The callbacks know more."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing of it is ever read again."""


class _TrialCallbacks(tune.Callback):  # type: ignore[misc]
    """Tells the queue what becomes of the trials."""

    def __init__(self, queue: CellQueue) -> None:
        self._queue = queue

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._queue.reported(result)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._queue.died(_key(trial), _cause(trial))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._queue.failed(_key(trial), _cause(trial))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._queue.ended(_key(trial), trial.last_result or {"iteration": 0})


def _key(tune_trial: Any) -> str:
    spec: trial.TrialSpec = tune_trial.config["spec"]
    return spec.key


def _cause(trial: Any) -> str:
    """Return why a trial's process ended, from the text that Tune has just written about it."""
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    lines = text.rpartition("Failure # ")[2].partition("\n")[2].strip().splitlines()
    if lines and "ray::" in lines[0]:  # a traceback: our code raised
        return f"error: {lines[-1].strip()}"
    return f"lost: its process died ({lines[0].strip() if lines else 'no reason known'})"
