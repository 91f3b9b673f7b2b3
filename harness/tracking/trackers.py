"""Settings, learning curves and scores for TensorBoard, Weights & Biases and Trackio.

Trackers only show what the curves and records of a run contain. They are written again from the
saved curve when a cell resumes, so iterations lost in an interruption do not stay in them. A
tracker that fails costs its own curve, never the run.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
import yaml

from harness.config.schema import RunConfig, config_as_dict
from harness.console.listener import RunListener
from harness.console.progress_state import RunProgress
from harness.reporting.store.records import CellFolder, RunFolder
from harness.types import REFERENCE, Metrics

FLUSH_SECONDS = 5.0
PROJECT = "metarl-harness"
"""Where runs go unless the tracker's own environment variable says otherwise."""
WANDB_SECONDS = {"init_timeout": 30.0, "login_timeout": 30.0, "finish_timeout": 60.0}
"""How long each step of Weights & Biases may hold a cell up where its server does not answer."""
Scalars: TypeAlias = Mapping[str, float]


class Tracker(Protocol):
    """Destination for the scalars of one cell. Any method may raise."""

    def log(self, scalars: Scalars, *, axis: str, step: int, wall_time: float) -> None:
        """Write scalars at ``step`` of ``axis`` (``env_steps`` or ``shots``), at a Unix time."""
        ...

    def table(self, scores: pd.DataFrame) -> None:
        """Write the scores of the cell's tasks."""
        ...

    def close(self) -> None:
        """Finish the cell."""
        ...


class TensorBoard:
    """An event file in ``cells/<cell>/tensorboard``."""

    def __init__(self, cell: CellFolder, settings: Mapping[str, Any]) -> None:
        # Not SummaryWriter: its thread dies when the disk is full, and the next call then blocks.
        from tensorboardX.event_file_writer import EventsWriter

        self._writer = EventsWriter(str(_empty_folder(cell.path / "tensorboard") / "events"))
        self._last_flush = time.monotonic()
        self._text("settings", yaml.safe_dump(dict(settings), sort_keys=False))

    def log(self, scalars: Scalars, *, axis: str, step: int, wall_time: float) -> None:
        """Write scalars at ``step``; their tags tell the axes apart."""
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event

        for tag, value in scalars.items():
            scalar = summary.scalar(tag, value)
            self._writer.write_event(Event(wall_time=wall_time, step=step, summary=scalar))
        if time.monotonic() - self._last_flush > FLUSH_SECONDS:
            self._writer.flush()
            self._last_flush = time.monotonic()

    def table(self, scores: pd.DataFrame) -> None:
        """Write the scores as text."""
        self._text("scores", scores.to_string(index=False))

    def _text(self, tag: str, text: str) -> None:
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event

        block = "".join(f"    {line}\n" for line in text.splitlines())  # verbatim in Markdown
        self._writer.write_event(Event(wall_time=time.time(), summary=summary.text(tag, block)))

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


class _Service:
    """What W&B and Trackio, which has its interface, have in common."""

    _run: Any
    _table: Any

    def log(self, scalars: Scalars, *, axis: str, step: int, wall_time: float) -> None:
        """Log scalars with the value of their axis beside them."""
        self._run.log({**scalars, axis: step})

    def table(self, scores: pd.DataFrame) -> None:
        """Log the scores."""
        self._run.log({"scores": self._table(dataframe=scores)})


class WeightsAndBiases(_Service):
    """A run of Weights & Biases, with its usual environment variables.

    Online with ``WANDB_API_KEY`` or ``WANDB_MODE=online``; otherwise offline in
    ``cells/<cell>/wandb``, for ``wandb sync``.
    """

    def __init__(self, cell: CellFolder, settings: Mapping[str, Any]) -> None:
        import wandb

        mode: Any = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        mode = os.environ.get("WANDB_MODE", mode)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=cell.path.parents[1].name,
            name=cell.key,
            dir=str(_empty_folder(cell.path / "wandb")),
            mode=mode,
            config={"cell": cell.key, **settings},
            reinit="create_new",  # otherwise this cell would continue the run of a failed one
            settings=wandb.Settings(silent=True, console="off", **WANDB_SECONDS),
        )
        self._run.define_metric("by_shots/*", step_metric="shots")
        self._table = wandb.Table

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class Trackio(_Service):
    """A run of Trackio, on this machine or where its environment variables point."""

    def __init__(self, cell: CellFolder, settings: Mapping[str, Any]) -> None:
        with _quiet():
            import trackio

            self._table, self._finish = trackio.Table, trackio.finish
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                group=cell.path.parents[1].name,
                name=f"{cell.path.parents[1].name}/{cell.key}",
                config={"cell": cell.key, **settings},
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def close(self) -> None:
        """End the run."""
        with _quiet():
            self._finish()


@contextlib.contextmanager
def with_trackers(
    listener: RunListener, folder: CellFolder, config: RunConfig
) -> Iterator[RunListener]:
    """Yield ``listener`` of one cell, wrapped so that it feeds the trackers that are asked for."""
    asked: dict[type[Tracker], bool] = {
        TensorBoard: config.execution.tensorboard,
        WeightsAndBiases: config.execution.wandb,
        Trackio: config.execution.trackio,
    }
    kinds = [kind for kind, wanted in asked.items() if wanted]
    tracking = TrackingListener(listener, folder, config_as_dict(config), kinds, [])
    try:
        yield tracking
    finally:
        tracking.close()


@dataclass(slots=True)
class TrackingListener:
    """A ``RunListener`` of one cell that forwards every call to ``inner`` and feeds trackers."""

    inner: RunListener
    folder: CellFolder
    settings: Mapping[str, Any]
    kinds: Sequence[Callable[[CellFolder, Mapping[str, Any]], Tracker]]
    trackers: list[Tracker]

    def started(self, progress: RunProgress) -> None:
        """Forward."""
        self.inner.started(progress)

    def cell_started(self, key: str, first_iteration: int) -> None:
        """Open the trackers and write the iterations already done."""
        self.inner.cell_started(key, first_iteration)
        self.close()
        for kind in self.kinds:
            with self._guard(kind.__name__):
                self.trackers.append(kind(self.folder, self.settings))
        curve = self.folder.read_curve()[:first_iteration]
        start = time.time() - (curve[-1].wall_seconds if curve else 0.0)
        for metrics in curve:
            self._log(metrics, start + metrics.wall_seconds)

    def iteration(self, key: str, metrics: Metrics) -> None:
        """Write one iteration."""
        self.inner.iteration(key, metrics)
        self._log(metrics, time.time())

    def evaluating(self, key: str, jobs_done: int, jobs: int) -> None:
        """Forward."""
        self.inner.evaluating(key, jobs_done, jobs)

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """Write the scores of a complete cell and close its trackers."""
        if status == "ok":
            scores = _scores(self.folder)
            for shots, means in _by_shots(scores):
                self._write(means, "shots", shots, time.time())
            self._to_all(lambda tracker: tracker.table(scores))
        self.close()
        self.inner.cell_finished(key, status, reason)

    def note(self, text: str) -> None:
        """Forward."""
        self.inner.note(text)

    def closed(self) -> None:
        """Forward."""
        self.inner.closed()

    def close(self) -> None:
        """Close the trackers, also after an interruption."""
        trackers, self.trackers = self.trackers, []
        for tracker in trackers:
            with self._guard(type(tracker).__name__):
                tracker.close()

    def _log(self, metrics: Metrics, wall_time: float) -> None:
        self._write(scalars_of(metrics), "env_steps", metrics.env_steps, wall_time)

    def _write(self, scalars: Scalars, axis: str, step: int, wall_time: float) -> None:
        self._to_all(lambda t: t.log(scalars, axis=axis, step=step, wall_time=wall_time))

    def _to_all(self, call: Callable[[Tracker], None]) -> None:
        trackers, self.trackers = self.trackers, []
        for tracker in trackers:  # one that fails is not kept
            with self._guard(type(tracker).__name__):
                call(tracker)
                self.trackers.append(tracker)

    @contextlib.contextmanager
    def _guard(self, tracker: str) -> Iterator[None]:
        """Report what a tracker raises as an event and a note, and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - wandb's service errors share no base class
            cause, key = f"{type(error).__name__}: {error}", self.folder.key
            with contextlib.suppress(OSError):  # a full disk may have stopped the tracker
                run = RunFolder(self.folder.path.parents[1])
                run.event("tracker_failed", cell=key, tracker=tracker, cause=cause)
            self.inner.note(f"{tracker} stopped for {key}: {cause}")


def scalars_of(metrics: Metrics) -> dict[str, float]:
    """Return the scalars of one iteration by tag."""
    return {
        "return/before_adaptation": metrics.pre_return,
        "return/after_adaptation": metrics.post_return,
        "env_steps_per_second": metrics.env_steps / max(metrics.wall_seconds, 1e-9),
        **{f"validation/{name}": value for name, value in metrics.validation.items()},
        **{f"learner/{name}": value for name, value in metrics.info.items()},
        **{f"seconds/{name}": value for name, value in metrics.seconds.items()},
    }


def _scores(folder: CellFolder) -> pd.DataFrame:
    """Return the mean return and success rate over the valid episodes of each task and shot."""
    frame = folder.read_records().to_pandas()
    frame = frame[~frame["invalid"] & frame["learner"].ne(REFERENCE)]
    groups = frame.groupby(["split", "task", "shots"], sort=False)
    named = {"episodes": ("return_", "size"), "return": ("return_", "mean")}
    scores: pd.DataFrame = groups.agg(**named, success=("success", "mean")).reset_index()
    return scores


def _by_shots(scores: pd.DataFrame) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield shots with the mean return and success rate over all valid episodes of a split."""
    for (split, shots), part in scores.groupby(["split", "shots"]):
        weights = part["episodes"]
        means = {
            f"by_shots/{split}_{name}": float(np.average(part[name], weights=weights))
            for name in ("return", "success")
        }
        yield int(str(shots)), means


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what a tracker prints out of the run's output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _empty_folder(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
