"""The live table: the progress of a run drawn with rich, and the units of its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.console.progress_state import CellProgress, RunProgress
from harness.reporting.text import DASH, printable, short_count

STYLES = {"waiting": "dim", "ok": "green", "failed": "red", "stopped": "dim"}


def score(value: float | None) -> str:
    """Return a mean return, ``nan`` where every episode was invalid."""
    return DASH if value is None else f"{value:.1f}"


def clock_time(seconds: float | None) -> str:
    """Return a length of time as ``m:ss`` or ``h:mm:ss``."""
    if seconds is None:
        return DASH
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def outlook(progress: RunProgress) -> str:
    """Return the counts of a run, with speed and time left while cells are left."""
    if not progress.played or all(cell.finished for cell in progress.cells.values()):
        return progress.summary()
    left = f"{clock_time(progress.seconds_left)} left"
    return f"{progress.summary()}; {short_count(progress.steps_per_second)} steps/s, {left}"


def line(cell: CellProgress) -> str:
    """Return the progress of a running cell in words."""
    if cell.jobs:
        return f"evaluating, {cell.jobs_done} of {cell.jobs} jobs done"
    if not cell.iteration:
        return "training"
    return (
        f"iteration {cell.iteration}/{cell.iterations}, {short_count(cell.env_steps)} env steps at "
        f"{short_count(cell.steps_per_second)}/s, return {score(cell.pre_return)} -> "
        f"{score(cell.post_return)}{_validation(cell)}, left {clock_time(cell.seconds_left)}"
    )


def _validation(cell: CellProgress) -> str:
    return "" if cell.validation is None else f", validation {score(cell.validation)}"


def render(
    progress: RunProgress, state: str, notes: Sequence[str] = (), rows: int = 1000
) -> RenderableType:
    """Return the whole display.

    Args:
        progress: the run.
        state: shown behind the counts, such as the time elapsed.
        notes: lines below the table.
        rows: most cells to list. The running ones come first; the others are listed if all fit.
    """
    shown = progress.cells if len(progress.cells) <= rows else {}
    listed = list((progress.running | shown).items())
    head = Text.assemble((progress.name, "bold"), f"  {outlook(progress)}  {state}")
    parts: list[RenderableType] = [head]
    if listed:
        parts.append(_table(listed[:rows]))
    hidden = len(progress.cells) - min(len(listed), rows)
    if hidden > 0:
        parts.append(Text(f"  … {hidden} more cells", style="dim"))
    parts += [Text(printable(f"· {note}"), style="yellow") for note in notes]
    return Group(*parts)


def _table(cells: Sequence[tuple[str, CellProgress]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True, pad_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("", ratio=1, min_width=4)
    for name in ("iteration", "steps", "steps/s", "pre", "post", "valid.", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, cell in cells:
        scoring = cell.jobs > 0 and not cell.finished
        done, total = (cell.jobs_done, cell.jobs) if scoring else (cell.iteration, cell.iterations)
        running = cell.status == "running"
        table.add_row(
            printable(key),
            ProgressBar(total=max(total, 1), completed=done),
            f"eval {done}/{total}" if scoring else f"{done}/{total}",
            short_count(cell.env_steps),
            short_count(cell.steps_per_second),
            score(cell.pre_return),
            score(cell.post_return),
            score(cell.validation),
            clock_time(cell.seconds_left) if running else cell.status,
            style=STYLES.get(cell.status),
        )
    return table
