"""One cell of a sweep, played in a run folder of its own. No ray here: where it runs is told."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig, config_as_dict
from harness.execution.interrupt import InterruptedRunError, StopFile
from harness.experiments.experiment import describe, start_backend, taken_up
from harness.experiments.run_loop import RunLoop
from harness.reporting.store.files import write_atomically
from harness.reporting.store.manifest import DistInfo, Manifest
from harness.reporting.store.records import RunFolder
from harness.reporting.store.sweep_manifest import SETTINGS, settings_of
from harness.tracking.trackers import with_trackers
from harness.types import Cell, Metrics

LOCK = ".lock"
LOCK_SECONDS = 120.0
"""How long a cell waits for a process of a killed driver to be gone."""
REPORT_SECONDS = 0.5
"""Least time between two reports where nothing but the display reads them."""


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """All that a trial is told of the cell it is to play."""

    cell: Cell
    config: RunConfig
    """With one policy, learner and seed; execution as the trial is to run it."""
    given: dict[str, Any]
    folder: Path
    """Absolute; the same for every node."""
    command: tuple[str, ...]
    """What plays the cell again, typed where the sweep was."""
    references: bool
    elsewhere: Mapping[Cell, Path]
    stop_file: Path
    every_iteration: bool
    """Whether a scheduler needs each iteration reported."""


def play(order: TrialSpec, report: Callable[[dict[str, Any]], None]) -> None:
    """Play one cell to its end, from its last checkpoint if it was begun before.

    Returns early where a stop was asked for; what became of it stands in the cell's manifest.

    Raises:
        ValueError: the cell was begun with another configuration.
        TimeoutError: another process has held the cell's folder for too long.
    """
    order.folder.mkdir(parents=True, exist_ok=True)
    with _alone(order.folder):
        folder, manifest = _open(order)
        reporter = TuneReporter(report, order.every_iteration)
        progress = with_trackers(reporter, folder, order.config.execution)
        backend = start_backend(order.config, folder, progress)
        stop = StopFile(order.stop_file)
        try:
            RunLoop(
                *(order.config, backend, folder, manifest, progress, stop),
                references=order.references,
                elsewhere=order.elsewhere,
            ).play()
        except InterruptedRunError:
            return
        finally:
            backend.close()
            progress.closed()


def _open(order: TrialSpec) -> tuple[RunFolder, Manifest]:
    info = describe(order.config)
    folder = RunFolder.create(order.folder, resume=True)  # the lock is in it at least
    if folder.manifest_path.exists():
        manifest = Manifest.load(folder.manifest_path)
        if manifest.distributions:  # else it speaks for a process that died before it could begin
            return folder, taken_up(manifest, order.config, info)
    manifest = first_manifest(order, [info])
    manifest.save(folder.manifest_path)
    return folder, manifest


def first_manifest(order: TrialSpec, distributions: Sequence[DistInfo]) -> Manifest:
    """Write the settings that play the cell again; return its first manifest, to be saved."""
    resolved = config_as_dict(order.config)
    write_atomically(order.folder / SETTINGS, settings_of(resolved))
    return Manifest.create(
        order.command,
        resolved,
        config_given=order.given,
        cells=[order.cell],
        distributions=distributions,
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against processes that a killed driver has left, until they are gone."""
    deadline = time.monotonic() + LOCK_SECONDS
    with (folder / LOCK).open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{folder} is still being written by another process"
                    ) from None
                time.sleep(0.1)
        yield


@dataclass(slots=True)
class TuneReporter:
    """A ``RunListener`` that passes on where the cell stands, as one flat dictionary a report."""

    report: Callable[[dict[str, Any]], None]
    every_iteration: bool
    _state: dict[str, Any] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _last: float = float("-inf")

    def started(self, cells: Mapping[Cell, int]) -> None:
        """Tell how many iterations are ahead."""
        epochs = next(iter(cells.values()), 0)  # none where only reference lines are missing
        self._state = {"epochs": epochs, "iteration": 0, "env_steps": 0}
        self._tell(now=True)

    def cell_started(self, cell: Cell, first_iteration: int) -> None:
        """Tell where training begins."""
        self._state["iteration"] = first_iteration
        self._tell()

    def iteration(self, cell: Cell, metrics: Metrics) -> None:
        """Tell of one iteration."""
        values = dataclasses.asdict(metrics)
        self._state |= {key: value for key, value in values.items() if not isinstance(value, dict)}
        self._tell(now=self.every_iteration)

    def evaluating(self, cell: Cell, jobs_done: int, jobs: int) -> None:
        """Tell how far the evaluation is."""
        self._state |= {"jobs_done": jobs_done, "jobs": jobs}
        self._tell()

    def cell_finished(self, cell: Cell, status: str, reason: str = "") -> None:
        """The manifest says it."""

    def note(self, text: str) -> None:
        """Keep the note for the next report."""
        self._notes.append(text)

    def closed(self) -> None:
        """Nothing is open here."""

    def _tell(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._last >= REPORT_SECONDS:
            notes, self._notes = self._notes, []
            self._last = time.monotonic()
            self.report({**self._state, "notes": notes})
