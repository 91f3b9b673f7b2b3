"""The progress of a run, cell by cell, and how long the rest will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.reporting.store.manifest import CELLS_DIR, CellInfo, Manifest
from harness.reporting.store.records import CellFolder
from harness.types import Metrics

Clock = Callable[[], float]
FINISHED = ("ok", "failed", "stopped")
"""Statuses of cells that nothing more will happen to."""


@dataclass(slots=True)
class CellProgress:
    """The progress of one cell."""

    status: str = "waiting"
    """``waiting``, ``running``, ``interrupted``, or one of ``FINISHED``."""
    reason: str = ""
    iteration: int = 0
    iterations: int = 0
    """Outer iterations of the whole training."""
    env_steps: int = 0
    steps_per_second: float | None = None
    """Environment steps per second of the last iteration."""
    pre_return: float | None = None
    post_return: float | None = None
    validation: float | None = None
    """Mean return on validation tasks after the most shots, when last scored."""
    wall_seconds: float = 0.0
    """Training time so far; of a finished cell, all of its time."""
    jobs_done: int = 0
    jobs: int = 0
    """Pieces of the evaluation; 0 before it."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to this cell."""
        return self.status in FINISHED

    @property
    def seconds_left(self) -> float | None:
        """Return the training seconds ahead; None while unknown."""
        if self.status != "running" or not self.iteration:
            return 0.0 if self.finished else None
        return self.wall_seconds * max(0, self.iterations - self.iteration) / self.iteration

    def add(self, metrics: Metrics) -> None:
        """Record one iteration; its speed is measured on the cell's own training time."""
        seconds = metrics.wall_seconds - self.wall_seconds
        # After a resumption the time of the iterations before is unknown at first.
        if seconds > 0 and (self.wall_seconds > 0 or not self.iteration):
            self.steps_per_second = (metrics.env_steps - self.env_steps) / seconds
        self.iteration, self.env_steps = metrics.iteration, metrics.env_steps
        self.pre_return, self.post_return = metrics.pre_return, metrics.post_return
        if metrics.validation_return is not None:
            self.validation = metrics.validation_return
        self.wall_seconds = metrics.wall_seconds


@dataclass(slots=True)
class RunProgress:
    """All cells of a run, by key."""

    name: str
    cells: dict[str, CellProgress] = field(default_factory=dict)
    references: dict[str, CellProgress] = field(default_factory=dict)
    """The reference lines of each table. They are shown while they are scored, and not counted."""
    clock: Clock = time.monotonic
    began: float = 0.0
    played: bool = True
    """Whether a process plays it; else nothing is left to wait for."""

    @classmethod
    def of(cls, manifest: Manifest, folder: Path) -> RunProgress:
        """Return the progress of a run as its files show it, up to the last checkpoint.

        Raises:
            ArtefactError: a learning curve is malformed.
        """

        def read(key: str, info: CellInfo) -> CellProgress:
            cell = CellProgress(iterations=info.iterations, reason=info.reason)
            for metrics in CellFolder(folder / CELLS_DIR / key).read_curve():
                cell.add(metrics)
            cell.status = "waiting" if info.status == "pending" else info.status
            cell.wall_seconds = info.wall_seconds or cell.wall_seconds
            return cell

        cells, references = (
            {key: read(key, info) for key, info in entries.items()}
            for entries in (manifest.cells, manifest.references)
        )
        return cls(folder.name, cells, references)

    def cell(self, key: str) -> CellProgress:
        """Return the progress of a cell or of a table's reference lines."""
        return self.references[key] if key in self.references else self.cells[key]

    def interrupt(self) -> None:
        """Record that no process plays the run: what was being played waits for ``--resume``."""
        self.played = False
        for cell in self.running.values():
            cell.status = "interrupted"

    @property
    def running(self) -> dict[str, CellProgress]:
        """The cells and reference lines that are being played."""
        every = self.references | self.cells
        return {key: cell for key, cell in every.items() if cell.status == "running"}

    @property
    def elapsed(self) -> float:
        """Seconds since the run began or was resumed."""
        return self.clock() - self.began

    @property
    def steps_per_second(self) -> float | None:
        """Environment steps per second of all running cells together."""
        known = [cell.steps_per_second for cell in self.running.values() if cell.steps_per_second]
        return sum(known) if known else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the run is over, if as many cells go on being played at once.

        None before the first iteration. Cells to come are expected to take the mean of those seen.
        """
        running = [cell for key, cell in self.running.items() if key in self.cells]
        whole = [c.wall_seconds for c in self.cells.values() if c.status == "ok" and c.wall_seconds]
        whole += [c.wall_seconds * c.iterations / c.iteration for c in running if c.iteration]
        if not whole:
            return None
        usual = sum(whole) / len(whole)
        ahead = [usual if cell.seconds_left is None else cell.seconds_left for cell in running]
        waiting = sum(cell.status == "waiting" for cell in self.cells.values())
        return max([(sum(ahead) + usual * waiting) / max(1, len(running)), *ahead])

    def summary(self) -> str:
        """Return the counts on one line."""
        counts = Counter(cell.status for cell in self.cells.values())
        order = ("ok", "running", "interrupted", "failed", "stopped", "waiting")
        shown = [f"{counts[word]} {word}" for word in order if counts[word]]
        done = sum(counts[word] for word in FINISHED)
        text = f"{done}/{len(self.cells)} cells done: {', '.join(shown)}"
        failed = sum(cell.status == "failed" for cell in self.references.values())
        return f"{text}; {failed} tables without reference lines" if failed else text
