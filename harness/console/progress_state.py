"""What a run has done so far, cell by cell, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.types import Cell, Metrics

Clock = Callable[[], float]


@dataclass(slots=True)
class CellProgress:
    """The progress of one cell."""

    cell: Cell
    epochs: int
    status: str = "waiting"
    """``waiting``, ``training``, ``evaluating``, ``ok`` or ``failed``."""
    reason: str = ""
    iteration: int = 0
    first_iteration: int = 0
    """Iterations done before this process took the cell over."""
    env_steps: int = 0
    steps_per_second: float | None = None
    """Environment steps per second of the last iteration."""
    pre_return: float | None = None
    post_return: float | None = None
    jobs_done: int = 0
    jobs: int = 0
    wall_seconds: float | None = None
    """Training time at the last iteration; unknown before the first one of a resumed cell."""
    training_seconds: float = 0.0
    """Seen by this process, as everything an estimate rests on."""
    evaluation_seconds: float = 0.0
    phase_began: float = 0.0

    @property
    def iterations_seen(self) -> int:
        """Iterations done by this process."""
        return self.iteration - self.first_iteration

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to this cell."""
        return self.status in ("ok", "failed")


@dataclass(slots=True)
class RunProgress:
    """All cells of a run. Cells are assumed to run one after the other."""

    clock: Clock = time.monotonic
    cells: dict[Cell, CellProgress] = field(default_factory=dict)
    began: float = 0.0

    def started(self, cells: Mapping[Cell, int]) -> None:
        """Forget everything and expect these cells of so many iterations each."""
        self.cells = {cell: CellProgress(cell, epochs) for cell, epochs in cells.items()}
        self.began = self.clock()

    def cell_started(self, cell: Cell, first_iteration: int) -> CellProgress:
        """Note that training begins."""
        tally = self._of(cell)
        tally.status, tally.phase_began = "training", self.clock()
        tally.iteration = tally.first_iteration = first_iteration
        tally.wall_seconds = 0.0 if first_iteration == 0 else None
        return tally

    def iteration(self, cell: Cell, metrics: Metrics) -> CellProgress:
        """Note one iteration; its speed is measured on the run's own clock of training time."""
        tally = self._of(cell)
        if tally.wall_seconds is not None and metrics.wall_seconds > tally.wall_seconds:
            seconds = metrics.wall_seconds - tally.wall_seconds
            tally.steps_per_second = (metrics.env_steps - tally.env_steps) / seconds
        tally.status, tally.iteration = "training", metrics.iteration
        tally.env_steps, tally.wall_seconds = metrics.env_steps, metrics.wall_seconds
        tally.pre_return, tally.post_return = metrics.pre_return, metrics.post_return
        tally.training_seconds = self.clock() - tally.phase_began
        return tally

    def evaluating(self, cell: Cell, jobs_done: int, jobs: int) -> CellProgress:
        """Note how far the evaluation is."""
        tally = self._of(cell)
        if tally.status != "evaluating":
            tally.status, tally.phase_began = "evaluating", self.clock()
        tally.jobs_done, tally.jobs = jobs_done, jobs
        tally.evaluation_seconds = self.clock() - tally.phase_began
        return tally

    def cell_finished(self, cell: Cell, status: str, reason: str) -> CellProgress:
        """Note that the cell is over."""
        tally = self._of(cell)
        tally.status, tally.reason = status, reason
        return tally

    def cell_seconds_left(self, tally: CellProgress) -> float | None:
        """Return the seconds until this cell is over, as far as its kind of work was seen."""
        if tally.over:
            return 0.0
        training = self._training_left(tally)
        evaluation = self._evaluation_left(tally)
        if training is None:
            return None
        return training + (evaluation or 0.0)

    def seconds_left(self) -> float | None:
        """Return the seconds until the run is over; ``None`` before the first iteration."""
        left = [self.cell_seconds_left(tally) for tally in self.cells.values()]
        known = [seconds for seconds in left if seconds is not None]
        return sum(known) if known and len(known) == len(left) else None

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    def _of(self, cell: Cell) -> CellProgress:
        return self.cells.setdefault(cell, CellProgress(cell, 0))

    def _training_left(self, tally: CellProgress) -> float | None:
        if tally.status == "evaluating":
            return 0.0
        left = tally.epochs - tally.iteration
        if left <= 0:
            return 0.0
        own = tally if tally.iterations_seen > 0 else None
        seen = [own] if own else [t for t in self.cells.values() if t.iterations_seen > 0]
        if not seen:
            return None
        # Cells take about as many steps each, but not as many iterations.
        whole = [t.training_seconds * t.epochs / t.iterations_seen for t in seen]
        return sum(whole) / len(whole) * left / tally.epochs

    def _evaluation_left(self, tally: CellProgress) -> float | None:
        if tally.status == "evaluating" and tally.jobs_done:
            return tally.evaluation_seconds * (tally.jobs - tally.jobs_done) / tally.jobs_done
        seen = [t.evaluation_seconds for t in self.cells.values() if t.status == "ok" and t.jobs]
        return sum(seen) / len(seen) if seen else None
