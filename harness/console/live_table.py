"""The live table: a tally as something rich can draw, and the units numbers are shown in."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import ConsoleDimensions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.console.progress_state import CellProgress, RunProgress

STYLES = {"waiting": "dim", "ok": "green", "failed": "red"}
UNKNOWN = "–"
FRAME_LINES = 7
"""Lines that are neither cells nor notes: header, frame, count of hidden cells, the cursor's."""


def count(value: float | None) -> str:
    """Return a number of things in three digits: ``950``, ``12.3k``, ``4.56M``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for limit, divisor, unit in ((999.5, 1.0, ""), (999_500, 1e3, "k"), (9.995e8, 1e6, "M")):
        if abs(value) < limit:
            return _three_digits(value / divisor) + unit if unit else f"{value:.0f}"
    return _three_digits(value / 1e9) + "G"


def score(value: float | None) -> str:
    """Return a mean return, ``nan`` where every episode was invalid."""
    return UNKNOWN if value is None else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """Return a length of time as ``m:ss`` or ``h:mm:ss``."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def render(
    title: str, tally: RunProgress, notes: Sequence[str], size: ConsoleDimensions
) -> RenderableType:
    """Return the whole display, no taller than a terminal of that ``size``."""
    cells = list(tally.cells.values())
    note_lines = sum(math.ceil((len(note) + 2) / size.width) for note in notes)
    rows = max(3, size.height - FRAME_LINES - note_lines)
    shown, hidden = _window(cells, rows)
    parts: list[RenderableType] = [_header(title, tally), _table(shown, cells, tally)]
    if hidden:
        parts.append(Text(f"  … {hidden} more cells", style="dim"))
    parts += [Text(f"· {note}", style="yellow") for note in notes]
    return Group(*parts)


def _header(title: str, tally: RunProgress) -> Text:
    cells = tally.cells.values()
    failed = sum(cell.status == "failed" for cell in cells)
    return Text.assemble(
        (title, "bold"),
        f"  {sum(cell.over for cell in cells)}/{len(cells)} cells done",
        (f", {failed} failed" if failed else "", "red"),
        f"  {duration(tally.elapsed)} elapsed  ",
        (f"{duration(tally.seconds_left())} left", "bold"),
    )


def _window(cells: list[CellProgress], rows: int) -> tuple[list[CellProgress], int]:
    """Return at most ``rows`` cells around the ones at work, and how many are left out."""
    if len(cells) <= rows:
        return cells, 0
    current = next((n for n, cell in enumerate(cells) if not cell.over), len(cells) - 1)
    start = min(max(0, current - rows // 2), len(cells) - rows)
    return cells[start : start + rows], len(cells) - rows


def _table(
    shown: Sequence[CellProgress], cells: Sequence[CellProgress], tally: RunProgress
) -> Table:
    """Return one row per cell; learner and seed are columns only where they differ."""
    learners = len({cell.cell.learner for cell in cells}) > 1
    seeds = len({cell.cell.seed for cell in cells}) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True, pad_edge=False)
    for name, wanted in (("policy", True), ("learner", learners), ("seed", seeds)):
        if wanted:
            table.add_column(name, no_wrap=True)
    table.add_column("", ratio=1, min_width=4)
    for name in ("iteration", "steps", "steps/s", "pre", "post", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in shown:
        names = [cell.cell.policy]
        names += [cell.cell.learner] if learners else []
        names += [str(cell.cell.seed)] if seeds else []
        table.add_row(*names, *_progress(cell, tally), style=STYLES.get(cell.status))
    return table


def _progress(cell: CellProgress, tally: RunProgress) -> list[RenderableType]:
    """Return bar, iteration or phase, steps, speed, returns and time left of one row."""
    done, total, text = cell.iteration, cell.epochs, f"{cell.iteration}/{cell.epochs}"
    if cell.status == "evaluating":
        done, total, text = cell.jobs_done, cell.jobs, f"eval {cell.jobs_done}/{cell.jobs}"
    elif cell.over:
        text = f"{text} {cell.status}"
    left = cell.status if cell.status == "waiting" else duration(tally.cell_seconds_left(cell))
    return [
        ProgressBar(total=max(total, 1), completed=done),
        text,
        count(cell.env_steps),
        count(cell.steps_per_second),
        score(cell.pre_return),
        score(cell.post_return),
        left,
    ]


def _three_digits(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"
