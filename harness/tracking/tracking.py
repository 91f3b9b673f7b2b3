"""What a run shows in TensorBoard and Weights & Biases: views of its curves and records.

Nothing here is a source of numbers. A cell's scalars are written anew from its curve whenever its
training begins or goes on, so that what a lost iteration had written is gone with it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from harness.config.schema import ExecutionConfig
from harness.console.listener import RunListener
from harness.console.progress_state import RunProgress
from harness.reporting.store.records import CellFolder
from harness.types import REFERENCE, Metrics

FLUSH_SECONDS = 5.0
PROJECT = "metarl-harness"
Scalars = Mapping[str, float]


class Sink(Protocol):
    """Where the scalars of one cell go. Whatever goes wrong there is an ``OSError``."""

    def iteration(self, scalars: Scalars, *, env_steps: int, wall_time: float) -> None:
        """Write the scalars of one iteration, which ended at ``wall_time`` (Unix seconds)."""
        ...

    def scores(self, scalars: Scalars, *, shots: int) -> None:
        """Write the scores after so many shots."""
        ...

    def close(self) -> None:
        """The cell is over, or lost, or goes back to a checkpoint."""
        ...


class TensorBoard:
    """An event file in the cell's ``tensorboard`` folder, written at once to notice a full disk."""

    def __init__(self, cell: CellFolder) -> None:
        from tensorboardX.record_writer import RecordWriter

        folder = cell.path / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._file = RecordWriter(str(folder / f"events.out.tfevents.{time.time():.0f}"))
        self._flushed = time.monotonic()
        self._write(time.time(), file_version="brain.Event:2")

    def iteration(self, scalars: Scalars, *, env_steps: int, wall_time: float) -> None:
        """Write scalars at the environment steps of training."""
        self._scalars(scalars, env_steps, wall_time)

    def scores(self, scalars: Scalars, *, shots: int) -> None:
        """Write scores at the number of shots: a curve of its own."""
        self._scalars(scalars, shots, time.time())

    def close(self) -> None:
        """Write out what is left."""
        self._file.close()

    def _scalars(self, scalars: Scalars, step: int, wall_time: float) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(wall_time, step=step, summary=Summary(value=values))

    def _write(self, wall_time: float, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._file.write(Event(wall_time=wall_time, **fields).SerializeToString())
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()


class WeightsAndBiases:
    """An offline run below ``cells/<cell>/wandb``; ``wandb sync`` is the user's to type."""

    def __init__(self, cell: CellFolder) -> None:
        import wandb

        folder = cell.path / "wandb"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with _heard():
            self._run = wandb.init(
                project=PROJECT,
                group=cell.path.parents[1].name,
                name=cell.key,
                dir=str(folder),
                mode="offline",
                config={"cell": cell.key},
                reinit="create_new",  # else a cell's run that failed is given to the next one
                settings=wandb.Settings(silent=True, console="off"),
            )

    def iteration(self, scalars: Scalars, *, env_steps: int, wall_time: float) -> None:
        """Log scalars beside the environment steps of training."""
        with _heard():
            self._run.log({**scalars, "env_steps": env_steps})

    def scores(self, scalars: Scalars, *, shots: int) -> None:
        """Put scores into the summary: they are no curve over steps."""
        with _heard():
            self._run.summary.update({f"{name}/{shots} shots": v for name, v in scalars.items()})

    def close(self) -> None:
        """End the run."""
        with _heard():
            self._run.finish()


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Make an ``OSError`` of what wandb raises: errors of its service are no ``wandb.Error``."""
    try:
        yield
    except Exception as error:
        raise OSError(f"wandb: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def tracked(
    listener: RunListener, folder: CellFolder, execution: ExecutionConfig
) -> Iterator[RunListener]:
    """Yield ``listener`` with the sinks that ``execution`` asks for, for one cell."""
    kinds: list[Callable[[CellFolder], Sink]] = []
    kinds += [TensorBoard] if execution.tensorboard else []
    kinds += [WeightsAndBiases] if execution.wandb else []
    tracking = TrackingListener(listener, folder, kinds)
    try:
        yield tracking
    finally:
        tracking.close()


@dataclass(slots=True)
class TrackingListener:
    """A ``RunListener`` of one cell that passes everything on and writes scalars on the way."""

    inner: RunListener
    folder: CellFolder
    kinds: list[Callable[[CellFolder], Sink]]
    _open: list[Sink] | None = None
    _last: Metrics | None = None
    _zero: float = 0.0
    """When training would have begun, had it never stopped."""

    def started(self, progress: RunProgress) -> None:
        """Pass it on."""
        self.inner.started(progress)

    def cell_started(self, key: str, first_iteration: int) -> None:
        """Write what the cell's curve holds already."""
        self.inner.cell_started(key, first_iteration)
        curve = self.folder.read_curve()[:first_iteration]
        self._zero = time.time() - (curve[-1].wall_seconds if curve else 0.0)
        self._begin()
        for metrics in curve:
            self._iteration(metrics)

    def iteration(self, key: str, metrics: Metrics) -> None:
        """Write one iteration."""
        self.inner.iteration(key, metrics)
        self._iteration(metrics)

    def evaluating(self, key: str, jobs_done: int, jobs: int) -> None:
        """Pass it on."""
        self.inner.evaluating(key, jobs_done, jobs)

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """Write the scores of a cell that is complete."""
        if status == "ok":
            for shots, scalars in _scores(self.folder):
                self._tell(partial(_tell_scores, scalars=scalars, shots=shots))
        self.close()
        self.inner.cell_finished(key, status, reason)

    def note(self, text: str) -> None:
        """Pass it on."""
        self.inner.note(text)

    def closed(self) -> None:
        """Pass it on."""
        self.inner.closed()

    def close(self) -> None:
        """Close what an interruption has left open."""
        self._tell(lambda sink: sink.close())
        self._open = None

    def _begin(self) -> None:
        self.close()
        self._open, self._last = [], None
        for kind in self.kinds:
            try:
                self._open.append(kind(self.folder))
            except OSError as error:
                self.inner.note(f"{kind.__name__} is left out for {self.folder.key}: {error}")

    def _iteration(self, metrics: Metrics) -> None:
        scalars, wall_time = scalars_of(metrics, self._last), self._zero + metrics.wall_seconds
        self._last, steps = metrics, metrics.env_steps
        self._tell(lambda s: s.iteration(scalars, env_steps=steps, wall_time=wall_time))

    def _tell(self, what: Callable[[Sink], None]) -> None:
        """Have every sink do something; one that cannot is noted and left out from then on."""
        for sink in list(self._open or ()):
            try:
                what(sink)
            except OSError as error:
                assert self._open is not None
                self._open.remove(sink)
                self.inner.note(f"{type(sink).__name__} is left out for {self.folder.key}: {error}")


def _tell_scores(sink: Sink, scalars: Scalars, shots: int) -> None:
    sink.scores(scalars, shots=shots)


def scalars_of(metrics: Metrics, before: Metrics | None) -> dict[str, float]:
    """Return the scalars of one iteration by tag."""
    steps = metrics.env_steps - (before.env_steps if before else 0)
    seconds = metrics.wall_seconds - (before.wall_seconds if before else 0.0)
    found = {"return/before adaptation": metrics.pre_return}
    found["return/after adaptation"] = metrics.post_return
    if seconds > 0:
        found["env steps per second"] = steps / seconds
    found |= {f"learner/{name}": value for name, value in metrics.info.items()}
    return found | {f"seconds/{name}": value for name, value in metrics.seconds.items()}


def _scores(folder: CellFolder) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield mean return and success rate of a cell by number of shots, over all valid episodes."""
    frame = folder.read_records().to_pandas()
    frame = frame[~frame["invalid"] & frame["learner"].ne(REFERENCE)]
    for (split, shots), part in frame.groupby(["split", "shots"]):
        rates = {f"{split}/return by shots": float(part["return_"].mean())}
        rates[f"{split}/success by shots"] = float(part["success"].mean())
        yield int(str(shots)), rates
