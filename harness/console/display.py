"""What a run looks like while it runs: one live table on a terminal, a quiet log elsewhere."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping

from rich.console import Console, RenderableType
from rich.live import Live
from rich.logging import RichHandler

from harness.console import live_table
from harness.console.listener import RunListener
from harness.console.live_table import count, duration, score
from harness.console.progress_state import Clock, RunProgress
from harness.types import Cell, Metrics

LOGGER = logging.getLogger("harness")
NOTES_SHOWN = 4
SECONDS_BETWEEN_LINES = 1.0


def make_progress(run_name: str, console: Console | None = None) -> RunListener:
    """Return the display that fits where the program writes to, and point the log at it."""
    console = console or Console()
    point_log_at(console)
    return RichProgress(run_name, console) if console.is_terminal else PlainProgress(run_name)


def point_log_at(console: Console) -> None:
    """Send the log to where ``console`` writes to."""
    handler: logging.Handler
    if console.is_terminal:
        # Through the console, so that a log line appears above the live table, not inside it.
        handler = RichHandler(console=console, show_path=False, show_level=True)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


class PlainProgress:
    """A log for files and pipes: a line per event, at most about one a second while training."""

    def __init__(self, run_name: str, clock: Clock = time.monotonic) -> None:
        self._run_name = run_name
        self._tally = RunProgress(clock)
        self._clock = clock
        self._last_line = float("-inf")

    def started(self, cells: Mapping[Cell, int]) -> None:
        """Log what is to come."""
        self._tally.started(cells)
        known = sorted(set(cells.values()))
        counts = " to ".join(str(count) for count in dict.fromkeys(known[:1] + known[-1:]))
        LOGGER.info("%s: %d cells, %s iterations each", self._run_name, len(cells), counts)

    def cell_started(self, cell: Cell, first_iteration: int) -> None:
        """Log the cell."""
        self._tally.cell_started(cell, first_iteration)
        resumed = f", resumed after iteration {first_iteration}" if first_iteration else ""
        LOGGER.info("%s: training%s", cell.id, resumed)
        self._last_line = float("-inf")

    def iteration(self, cell: Cell, metrics: Metrics) -> None:
        """Log the first and the last iteration of a cell, and one a second between them."""
        tally = self._tally.iteration(cell, metrics)
        last = metrics.iteration >= tally.epochs
        if not last and self._clock() - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = self._clock()
        LOGGER.info(
            "%s: iteration %d/%d, %s env steps at %s/s, return %s -> %s, left %s (run %s)",
            cell.id,
            metrics.iteration,
            tally.epochs,
            count(tally.env_steps),
            count(tally.steps_per_second),
            score(tally.pre_return),
            score(tally.post_return),
            duration(self._tally.cell_seconds_left(tally)),
            duration(self._tally.seconds_left()),
        )

    def evaluating(self, cell: Cell, jobs_done: int, jobs: int) -> None:
        """Log begin and end of the evaluation."""
        self._tally.evaluating(cell, jobs_done, jobs)
        if jobs_done in (0, jobs):
            LOGGER.info("%s: evaluating, %d of %d jobs done", cell.id, jobs_done, jobs)

    def cell_finished(self, cell: Cell, status: str, reason: str = "") -> None:
        """Log the outcome."""
        self._tally.cell_finished(cell, status, reason)
        level = logging.INFO if status == "ok" else logging.ERROR
        LOGGER.log(level, "%s: %s%s", cell.id, status, f": {reason}" if reason else "")

    def note(self, text: str) -> None:
        """Log the note."""
        LOGGER.info("%s", text)

    def closed(self) -> None:
        """Log how long it took."""
        LOGGER.info("%s: over after %s", self._run_name, duration(self._tally.elapsed))


class LiveDisplay(ABC):
    """What a terminal shows and draws anew by its own timer, the last notes with it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._notes: deque[str] = deque(maxlen=NOTES_SHOWN)
        self._live: Live | None = None

    @abstractmethod
    def render(self) -> RenderableType:
        """Return the whole display as it stands."""

    def take_terminal(self) -> None:
        """Draw from now on."""
        self._live = Live(
            get_renderable=self.render,
            console=self._console,
            refresh_per_second=4,
            vertical_overflow="crop",
        )
        self._live.start()

    def note(self, text: str) -> None:
        """Show the note with the display, or at once where there is none."""
        if self._live is None:
            self._console.print(text, markup=False, highlight=False)
        else:
            self._notes.append(text)

    def closed(self) -> None:
        """Draw a last time and give the terminal back."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()


class RichProgress(LiveDisplay):
    """One live table on a terminal: a row per cell, the last notes below."""

    def __init__(self, run_name: str, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(console)
        self._run_name = run_name
        self._tally = RunProgress(clock)

    def started(self, cells: Mapping[Cell, int]) -> None:
        """Take the terminal."""
        self._tally.started(cells)
        self.take_terminal()

    def cell_started(self, cell: Cell, first_iteration: int) -> None:
        """Mark the row."""
        self._tally.cell_started(cell, first_iteration)

    def iteration(self, cell: Cell, metrics: Metrics) -> None:
        """Move the row on; the table is drawn by its own timer."""
        self._tally.iteration(cell, metrics)

    def evaluating(self, cell: Cell, jobs_done: int, jobs: int) -> None:
        """Move the row on."""
        self._tally.evaluating(cell, jobs_done, jobs)

    def cell_finished(self, cell: Cell, status: str, reason: str = "") -> None:
        """Settle the row; why a cell failed becomes a note."""
        self._tally.cell_finished(cell, status, reason)
        if reason:
            self.note(f"{cell.id}: {status}: {reason}")

    def render(self) -> RenderableType:
        """Return the whole display as it stands."""
        return live_table.render(self._run_name, self._tally, self._notes, self._console.size)
