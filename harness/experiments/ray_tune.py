"""RAY TUNE: the scheduler of a sweep and nothing else.

Tune is given one cell at a time, holds its actors together in a placement group, starts it again
when its process dies and may stop it early (ASHA). Its own state is thrown away: which cells are
missing is read from their manifests, and a cell goes on from its own checkpoints.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Self

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import Searcher

from harness.config.sweep_file import TuneConfig
from harness.execution.ray.backend import connect
from harness.experiments import trial
from harness.experiments.cell_queue import CellQueue

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Tune neither prints nor logs nor handles signals: we do."""


SCRATCH = ".tune"
"""Where Tune keeps a state that nobody reads."""


class Cluster:
    """The Ray that a sweep runs on: joined, or started and shut down again."""

    def __init__(self, address: str | None) -> None:
        os.environ.update(QUIET)
        self._owns = not ray.is_initialized()
        if self._owns:
            connect(address)
        self.cpus = int(ray.cluster_resources().get("CPU", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._owns:
            ray.shutdown()


def play(conductor: CellQueue, workers: int, cpus: int) -> None:
    """Play every waiting cell; return when all are over, or a stop was asked for and obeyed."""
    at_once = min(cpus // max(1, workers), conductor.tune.max_concurrent or cpus)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)  # else they start one by one
    # Beside the cells, for every node must reach it; whatever a killed driver left is thrown away.
    scratch = conductor.folder / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    # The learner and the trial's own process wait while workers work: they take no CPU.
    bundles: list[dict[str, float]] = [{}] + [{"CPU": 1.0}] * workers if workers else [{"CPU": 1.0}]
    trainable = tune.with_resources(_trial, tune.PlacementGroupFactory(bundles))
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_CellSearcher(conductor, workers, at_once),
            scheduler=_scheduler(conductor.tune),
            num_samples=len(conductor.waiting),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=conductor.tune.max_failures),
            callbacks=[_TrialCallbacks(conductor)],
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _trial(config: dict[str, Any]) -> None:
    trial.play(config["order"], tune.report)


def _scheduler(config: TuneConfig) -> Any:
    if config.scheduler == "none":
        return None
    return AsyncHyperBandScheduler(
        time_attr="env_steps",
        metric=config.metric,
        mode="max",
        max_t=2**62,
        grace_period=config.grace_env_steps,
        reduction_factor=config.reduction_factor,
        stop_last_trials=False,
    )


class _CellSearcher(Searcher):  # type: ignore[misc]
    """Gives Tune one cell after the other; what Tune calls a search."""

    def __init__(self, conductor: CellQueue, workers: int, at_once: int) -> None:
        super().__init__()
        self._conductor, self._workers, self._at_once = conductor, workers, at_once

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self._conductor.exhausted:
            return Searcher.FINISHED
        key = self._conductor.next(self._at_once)
        return None if key is None else {"order": self._conductor.order(key, self._workers)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The callbacks know more."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing of it is ever read again."""


class _TrialCallbacks(tune.Callback):  # type: ignore[misc]
    """Hears from Tune what becomes of the trials."""

    def __init__(self, conductor: CellQueue) -> None:
        self._conductor = conductor

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._conductor.begun(_key(trial))

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "epochs" in result:
            self._conductor.reported(_key(trial), result)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._conductor.died(_key(trial), _cause(trial))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._conductor.failed(_key(trial), _cause(trial))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._conductor.finished(_key(trial))


def _key(trial: Any) -> str:
    folder: Path = trial.config["order"].folder
    return folder.name


def _cause(trial: Any) -> str:
    """Return why a trial's process is gone, from the text that Tune has just written of it."""
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    told = text.rpartition("Failure # ")[2].partition("\n")[2].strip().splitlines()
    if told and "ray::" in told[0]:  # a traceback: our code raised
        return f"error: {told[-1].strip()}"
    return f"lost: its process died ({told[0].strip() if told else 'no reason known'})"
