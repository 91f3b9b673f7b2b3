"""The display of a run while it runs: a live table on a terminal, a quiet log elsewhere."""

from __future__ import annotations

import logging
import math
import time
from collections import deque

from rich.console import Console, RenderableType
from rich.live import Live
from rich.logging import RichHandler

from harness.console.listener import RunListener
from harness.console.live_table import clock_time, line, outlook, render
from harness.console.progress_state import Clock, RunProgress
from harness.types import Metrics

LOGGER = logging.getLogger("harness")
NOTES_SHOWN = 4
SECONDS_BETWEEN_LINES = 1.0
"""Least time between two lines of the log about progress, times the number of running cells."""
FRAME_LINES = 8
"""Lines of the live display that are neither cells nor notes."""


def make_progress(console: Console | None = None) -> RunListener:
    """Return the display that fits where the program writes to, and send the log there."""
    console = console or Console()
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
    return LiveDisplay(console) if console.is_terminal else PlainLog()


class ProgressListener:
    """A listener that keeps the run's progress up to date; the displays add what they show."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.progress, self.clock = RunProgress(""), clock

    def started(self, progress: RunProgress) -> None:
        """Take over the run's progress."""
        self.progress, progress.clock = progress, self.clock
        progress.began = self.clock()

    def cell_started(self, key: str, first_iteration: int) -> None:
        """Record that a cell begins or goes on."""
        cell = self.progress.cell(key)
        cell.status, cell.iteration, cell.jobs, cell.reason = "running", first_iteration, 0, ""

    def iteration(self, key: str, metrics: Metrics) -> None:
        """Record one iteration."""
        self.progress.cell(key).add(metrics)

    def evaluating(self, key: str, jobs_done: int, jobs: int) -> None:
        """Record how far an evaluation is."""
        cell = self.progress.cell(key)
        cell.jobs_done, cell.jobs = jobs_done, jobs

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """Record how a cell ended."""
        cell = self.progress.cell(key)
        cell.status, cell.reason = status, reason

    def note(self, text: str) -> None:
        """Show nothing."""

    def closed(self) -> None:
        """Show nothing."""


class PlainLog(ProgressListener):
    """A log for files and pipes: what begins and ends, and progress about once a second."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._last: dict[str, float] = {}

    def started(self, progress: RunProgress) -> None:
        """Log what is to come."""
        super().started(progress)
        LOGGER.info("%s: %s", progress.name, progress.summary())

    def cell_started(self, key: str, first_iteration: int) -> None:
        """Log the cell."""
        super().cell_started(key, first_iteration)
        resumed = f", resumed after iteration {first_iteration}" if first_iteration else ""
        LOGGER.info("%s: started%s", key, resumed)
        self._last[key] = -math.inf

    def iteration(self, key: str, metrics: Metrics) -> None:
        """Log the first and the last iteration of a cell, and some between them."""
        super().iteration(key, metrics)
        cell = self.progress.cell(key)
        self._log(key, last=cell.iteration >= cell.iterations)

    def evaluating(self, key: str, jobs_done: int, jobs: int) -> None:
        """Log the end of an evaluation, and some of its jobs."""
        super().evaluating(key, jobs_done, jobs)
        self._log(key, last=jobs_done == jobs)

    def _log(self, key: str, *, last: bool) -> None:
        pause = SECONDS_BETWEEN_LINES * max(1, len(self.progress.running))
        if last or self.clock() - self._last.get(key, -math.inf) >= pause:
            self._last[key] = self.clock()
            LOGGER.info("%s: %s", key, line(self.progress.cell(key)))

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """Log the outcome, and where the run stands."""
        super().cell_finished(key, status, reason)
        level = logging.ERROR if status == "failed" else logging.INFO
        LOGGER.log(level, "%s: %s%s", key, status, f": {reason}" if reason else "")
        LOGGER.info("%s: %s", self.progress.name, outlook(self.progress))

    def note(self, text: str) -> None:
        """Log the note."""
        LOGGER.info("%s", text)

    def closed(self) -> None:
        """Log how long it took."""
        elapsed = clock_time(self.progress.elapsed)
        LOGGER.info("%s: over after %s", self.progress.name, elapsed)


class LiveDisplay(ProgressListener):
    """One live table on a terminal, redrawn by its own timer, the last notes below."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._console = console
        self._notes: deque[str] = deque(maxlen=NOTES_SHOWN)
        self._live: Live | None = None

    def started(self, progress: RunProgress) -> None:
        """Take the terminal."""
        super().started(progress)
        self._live = Live(
            get_renderable=self.render,
            console=self._console,
            refresh_per_second=4,
            vertical_overflow="crop",
        )
        self._live.start()

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """Record how a cell ended; why it failed becomes a note."""
        super().cell_finished(key, status, reason)
        if reason:
            self.note(f"{key}: {status}: {reason}")

    def note(self, text: str) -> None:
        """Show the note with the table, or at once if there is none."""
        if self._live is None:
            self._console.print(text, markup=False, highlight=False)
        else:
            self._notes.append(text)

    def closed(self) -> None:
        """Draw a last time and give the terminal back."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def render(self) -> RenderableType:
        """Return the whole display as it stands."""
        size = self._console.size
        taken = sum(math.ceil((len(note) + 2) / max(1, size.width)) for note in self._notes)
        rows = max(3, size.height - FRAME_LINES - taken)
        elapsed = f"{clock_time(self.progress.elapsed)} elapsed"
        return render(self.progress, elapsed, tuple(self._notes), rows)
