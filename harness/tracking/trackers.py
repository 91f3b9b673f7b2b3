"""Learning curves and scores for TensorBoard and Weights & Biases.

Trackers only show what the curves and records of a run contain. They are written again from the
saved curve when a cell resumes, so iterations lost in an interruption do not stay in them. A
tracker that fails costs its own curve, never the run.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from harness.config.schema import ExecutionConfig
from harness.console.listener import RunListener
from harness.reporting.store.records import RunFolder, read_records
from harness.types import Cell, Metrics

FLUSH_SECONDS = 5.0
WANDB_PROJECT = "metarl-harness"
Scalars: TypeAlias = Mapping[str, float]


class Tracker(Protocol):
    """Destination for the scalars of one cell. Any method may raise."""

    def log(self, scalars: Scalars, *, axis: str, step: int, wall_time: float) -> None:
        """Write scalars at ``step`` of ``axis`` (``env_steps`` or ``shots``), at a Unix time."""
        ...

    def close(self) -> None:
        """Finish the cell."""
        ...


class TensorBoard:
    """An event file in ``tensorboard/<cell>``."""

    def __init__(self, run: Path, cell: Cell) -> None:
        # Not SummaryWriter: its thread dies when the disk is full, and the next call then blocks.
        from tensorboardX.event_file_writer import EventsWriter

        self._writer = EventsWriter(str(_empty_folder(run / "tensorboard" / cell.id) / "events"))
        self._last_flush = time.monotonic()

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

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


class WeightsAndBiases:
    """An offline run in ``wandb/<cell>``; upload it with ``wandb sync``."""

    def __init__(self, run: Path, cell: Cell) -> None:
        import wandb

        self._run = wandb.init(
            project=WANDB_PROJECT,
            group=run.name,
            name=cell.id,
            dir=str(_empty_folder(run / "wandb" / cell.id)),
            mode="offline",
            config=asdict(cell),
            reinit="create_new",  # otherwise this cell would continue the run of a failed one
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("by_shots/*", step_metric="shots")

    def log(self, scalars: Scalars, *, axis: str, step: int, wall_time: float) -> None:
        """Log scalars with the value of their axis beside them."""
        self._run.log({**scalars, axis: step})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def with_trackers(
    listener: RunListener, folder: RunFolder, execution: ExecutionConfig
) -> RunListener:
    """Return ``listener``, wrapped so that it feeds the trackers ``execution`` asks for."""
    kinds: list[Callable[[Path, Cell], Tracker]] = []
    kinds += [TensorBoard] if execution.tensorboard else []
    kinds += [WeightsAndBiases] if execution.wandb else []
    return TrackingListener(listener, folder, kinds) if kinds else listener


@dataclass(slots=True)
class TrackingListener:
    """A ``RunListener`` that forwards every call to ``inner`` and feeds trackers on the way."""

    inner: RunListener
    folder: RunFolder
    kinds: list[Callable[[Path, Cell], Tracker]]
    _open: dict[Cell, list[Tracker]] = field(default_factory=dict)

    def started(self, cells: Mapping[Cell, int]) -> None:
        """Forward."""
        self.inner.started(cells)

    def cell_started(self, cell: Cell, first_iteration: int) -> None:
        """Open the trackers and write the iterations already done."""
        self.inner.cell_started(cell, first_iteration)
        self._begin(cell)
        curve = self.folder.read_curve(cell.id)[:first_iteration]
        start = time.time() - (curve[-1].wall_seconds if curve else 0.0)
        for metrics in curve:
            self._log(cell, metrics, start + metrics.wall_seconds)

    def iteration(self, cell: Cell, metrics: Metrics) -> None:
        """Write one iteration."""
        self.inner.iteration(cell, metrics)
        self._log(cell, metrics, time.time())

    def evaluating(self, cell: Cell, jobs_done: int, jobs: int) -> None:
        """Forward."""
        self.inner.evaluating(cell, jobs_done, jobs)

    def cell_finished(self, cell: Cell, status: str, reason: str = "") -> None:
        """Write the scores of a complete cell and close its trackers."""
        if status == "ok":
            if cell not in self._open:  # a checkpoint was evaluated without training
                self._begin(cell)
            for shots, scores in _scores(self.folder, cell):
                self._write(cell, scores, "shots", shots, time.time())
        self._close(cell)
        self.inner.cell_finished(cell, status, reason)

    def note(self, text: str) -> None:
        """Forward."""
        self.inner.note(text)

    def closed(self) -> None:
        """Close what an interruption left open."""
        for cell in list(self._open):
            self._close(cell)
        self.inner.closed()

    def _begin(self, cell: Cell) -> None:
        self._close(cell)
        self._open[cell] = []
        for kind in self.kinds:
            with self._guard(cell, kind.__name__):
                self._open[cell].append(kind(self.folder.path, cell))

    def _log(self, cell: Cell, metrics: Metrics, wall_time: float) -> None:
        self._write(cell, scalars_of(metrics), "env_steps", metrics.env_steps, wall_time)

    def _write(self, cell: Cell, scalars: Scalars, axis: str, step: int, wall_time: float) -> None:
        trackers, self._open[cell] = self._open[cell], []
        for tracker in trackers:  # one that fails is not kept
            with self._guard(cell, type(tracker).__name__):
                tracker.log(scalars, axis=axis, step=step, wall_time=wall_time)
                self._open[cell].append(tracker)

    def _close(self, cell: Cell) -> None:
        for tracker in self._open.pop(cell, ()):
            with self._guard(cell, type(tracker).__name__):
                tracker.close()

    @contextlib.contextmanager
    def _guard(self, cell: Cell, tracker: str) -> Iterator[None]:
        """Report what a tracker raises as an event and a note, and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - wandb's service errors share no base class
            cause = f"{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):  # a full disk may have stopped the tracker
                self.folder.event("tracker_failed", cell=cell.id, tracker=tracker, cause=cause)
            self.inner.note(f"{tracker} stopped for {cell.id}: {cause}")


def scalars_of(metrics: Metrics) -> dict[str, float]:
    """Return the scalars of one iteration by tag."""
    return {
        "return/before_adaptation": metrics.pre_return,
        "return/after_adaptation": metrics.post_return,
        "env_steps_per_second": metrics.env_steps / max(metrics.wall_seconds, 1e-9),
        **{f"learner/{name}": value for name, value in metrics.info.items()},
        **{f"seconds/{name}": value for name, value in metrics.seconds.items()},
    }


def _scores(folder: RunFolder, cell: Cell) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield shots with the mean return and success rate over all valid episodes of a cell."""
    frame = read_records(folder.path)
    frame = frame[frame["cell"].eq(cell.id) & ~frame["invalid"]]
    for (split, shots), part in frame.groupby(["split", "shots"]):
        means = part[["return_", "success"]].mean()
        names = (f"by_shots/{split}_return", f"by_shots/{split}_success")
        yield int(str(shots)), dict(zip(names, means.tolist(), strict=True))


def _empty_folder(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
