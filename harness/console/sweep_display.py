"""What a sweep looks like: one live table on a terminal, a quiet log elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.console.display import LiveDisplay, point_log_at
from harness.console.live_table import STYLES, UNKNOWN, count, duration, score
from harness.console.progress_state import Clock
from harness.console.sweep_view import CellView, SweepListener, SweepView
from harness.reporting.text import printable

LOGGER = logging.getLogger("harness")
SECONDS_BETWEEN_LINES = 10.0
FRAME_LINES = 8
"""Lines of the display that are neither cells nor notes."""


def make_watch(console: Console | None = None) -> SweepListener:
    """Return the display that fits where the program writes to, and point the log at it."""
    console = console or Console()
    point_log_at(console)
    return RichWatch(console) if console.is_terminal else PlainWatch()


class PlainWatch:
    """A log for files and pipes: what begins and ends, and each running cell now and then."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._began = 0.0
        self._view = SweepView("")
        self._last: dict[str, float] = {}

    def started(self, view: SweepView) -> None:
        """Log what is to come."""
        self._view, self._began = view, self._clock()
        LOGGER.info("%s: %s", view.name, view.summary())

    def begun(self, key: str) -> None:
        """Log the cell."""
        LOGGER.info("%s: begun", key)
        self._last[key] = self._clock()

    def reported(self, key: str) -> None:
        """Log where a cell stands, if that was not done just now."""
        if self._clock() - self._last.get(key, 0.0) >= SECONDS_BETWEEN_LINES:
            self._last[key] = self._clock()
            LOGGER.info("%s: %s", key, line(self._view.cells[key]))

    def over(self, key: str) -> None:
        """Log the outcome, and where the sweep stands."""
        cell = self._view.cells[key]
        level = logging.ERROR if cell.status == "failed" else logging.INFO
        reason = f": {cell.reason}" if cell.reason else ""
        LOGGER.log(level, "%s: %s%s", key, cell.status, reason)
        LOGGER.info("%s: %s", self._view.name, _progress(self._view))

    def note(self, text: str) -> None:
        """Log the note."""
        LOGGER.info("%s", text)

    def closed(self) -> None:
        """Log how long it took."""
        elapsed = duration(self._clock() - self._began)
        LOGGER.info("%s: over after %s: %s", self._view.name, elapsed, self._view.summary())


class RichWatch(LiveDisplay):
    """One live table on a terminal: a row per running cell, the last notes below."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(console)
        self._clock, self._began = clock, 0.0
        self._view = SweepView("")

    def started(self, view: SweepView) -> None:
        """Take the terminal."""
        self._view, self._began = view, self._clock()
        self.take_terminal()

    def begun(self, key: str) -> None:
        """The table is drawn by its own timer."""

    def reported(self, key: str) -> None:
        """The table is drawn by its own timer."""

    def over(self, key: str) -> None:
        """Why a cell is not in the table becomes a note."""
        cell = self._view.cells[key]
        if cell.reason:
            self.note(f"{key}: {cell.status}: {cell.reason}")

    def render(self) -> RenderableType:
        """Return the whole display as it stands."""
        elapsed = f"{duration(self._clock() - self._began)} elapsed"
        height = self._console.size.height - FRAME_LINES - len(self._notes)
        return render(self._view, elapsed, tuple(self._notes), max(3, height))


def render(
    view: SweepView, state: str, notes: Sequence[str] = (), rows: int = 1000
) -> RenderableType:
    """Return the display of a sweep: at most ``rows`` running cells, and what is said beside."""
    head = Text.assemble((view.name, "bold"), f"  {_progress(view)}  {state}")
    running = list(view.running.items())
    parts: list[RenderableType] = [head]
    if running:
        parts.append(_table(running[:rows]))
    if len(running) > rows:
        parts.append(Text(f"  … {len(running) - rows} more running", style="dim"))
    parts += [Text(printable(f"· {note}"), style="yellow") for note in notes]
    return Group(*parts)


def _progress(view: SweepView) -> str:
    if not view.count("running", "left"):
        return view.summary()
    speed = count(view.steps_per_second)
    return f"{view.summary()}; {speed} steps/s, {duration(view.seconds_left)} left"


def _table(cells: Sequence[tuple[str, CellView]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True, pad_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("", ratio=1, min_width=4)
    for name in ("iteration", "steps", "steps/s", "pre", "post", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, cell in cells:
        scoring = cell.jobs > 0
        done, total = (cell.jobs_done, cell.jobs) if scoring else (cell.iteration, cell.epochs)
        table.add_row(
            key,
            ProgressBar(total=max(total, 1), completed=done),
            f"eval {done}/{total}" if scoring else f"{done}/{total}",
            count(cell.env_steps),
            count(cell.steps_per_second),
            score(cell.pre_return),
            score(cell.post_return),
            duration(cell.seconds_left),
            style=STYLES.get(cell.status),
        )
    return table


def line(cell: CellView) -> str:
    """Return where one running cell stands."""
    if cell.jobs:
        return f"evaluating, {cell.jobs_done} of {cell.jobs} jobs done"
    if not cell.epochs:
        return "starting"
    speed = f" at {count(cell.steps_per_second)}/s" if cell.steps_per_second else ""
    return (
        f"iteration {cell.iteration}/{cell.epochs}, {count(cell.env_steps)} env steps{speed}, "
        f"return {score(cell.pre_return)} -> {score(cell.post_return)}, "
        f"left {duration(cell.seconds_left) if cell.iteration else UNKNOWN}"
    )
