"""The comparison as text cells: what Markdown, LaTeX and the terminal show alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pandas as pd

from harness.reporting.stats.aggregate import REFERENCE, Comparison

Text: TypeAlias = tuple[str, str]
"""A cell: what it says, and its interval or other detail (may be empty)."""
ROW_HEAD = ("policy", "learner, adapter")
DASH = "–"
"""Shown where there is no number."""


@dataclass(frozen=True, slots=True)
class Block:
    """One grid of cells; the first column names the row."""

    title: str
    header: tuple[Text, ...]
    rows: tuple[tuple[Text, ...], ...]
    detail: bool = False
    """Too long for a terminal: in the files only."""


def clean(text: str) -> str:
    """Return ``text`` on one line and without characters that command a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def blocks(table: Comparison) -> Iterator[Block]:
    """Yield the grids of every split: returns, success rates if any, gains and costs."""
    for part in table.splits:
        mark = f", {part.split} tasks" if table.others else ""
        for block in _grids(part):
            yield replace(block, title=f"{block.title}{mark}")


def _grids(table: Comparison) -> Iterator[Block]:
    yield _returns(table)
    if table.has_success:
        yield _success(table)
    if (table.frame["learner"] != REFERENCE).any():
        yield _gains(table)
        if table.has_success and len(table.shots) > 1:
            yield _success_gains(table)


def _success_gains(table: Comparison) -> Block:
    frame = table.frame[table.frame["learner"] != REFERENCE]
    header = [(shot_label(count), "") for count in table.shots[1:]]
    rows = [
        (
            row_name(table, line),
            *(_percent_text(line, f"success_gain_{count}", sign=True) for count in table.shots[1:]),
        )
        for line in lines_of(frame)
    ]
    return Block("Gain in success rate (points)", (ROW_HEAD, *header), tuple(rows))


def _returns(table: Comparison) -> Block:
    names = [f"return_{count}" for count in table.shots]
    digits = decimals(table.frame[names].to_numpy().ravel().tolist())
    header = [(shot_label(count), "") for count in table.shots]
    rows = []
    for line in lines_of(table.frame):
        values = [estimate_text(line, name, digits) for name in names]
        rows.append((row_name(table, line), *values, (count_text(line["seeds"]), _seed_note(line))))
    return Block("Return", (ROW_HEAD, *header, ("seeds", "")), tuple(rows))


def _success(table: Comparison) -> Block:
    header = [(shot_label(count), "") for count in table.shots]
    rows = [
        (row_name(table, line), *(_percent_text(line, f"success_{count}") for count in table.shots))
        for line in lines_of(table.frame)
        if line["adapter"] != "analytic"
    ]
    return Block("Success rate (%)", (ROW_HEAD, *header), tuple(rows))


def _gains(table: Comparison) -> Block:
    frame = table.frame[table.frame["learner"] != REFERENCE]
    names = [f"gain_{count}" for count in table.shots[1:]]
    digits = decimals(frame[names].to_numpy().ravel().tolist())
    header: list[Text] = [(shot_label(count), "") for count in table.shots[1:]]
    compared = bool((frame["improvement_over"] != "").any())
    header += [("P", "")] if compared else []
    header += [("parameters", "train steps"), ("wall time", "invalid")]
    rows = []
    for line in lines_of(frame):
        cells = [estimate_text(line, name, digits, sign=True) for name in names]
        cells += [estimate_text(line, "improvement", 2)] if compared else []
        cells.append((count_text(line["num_params"]), short_count(line["train_env_steps"])))
        cells.append((duration(line["wall_seconds"]), count_text(line["invalid_episodes"])))
        rows.append((row_name(table, line), *cells))
    title = "Gain over 0 shots" if names else "Cost"
    return Block(title, (ROW_HEAD, *header), tuple(rows))


def lines_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of ``frame``, each by column name."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def row_name(table: Comparison, line: Mapping[str, Any]) -> Text:
    """Return how the table calls a row: its policy, its learner and adapter."""
    policy, learner, adapter = (clean(str(line[key])) for key in ("policy", "learner", "adapter"))
    if line["learner"] == REFERENCE:
        detail = "reference, analytic" if adapter == "analytic" else "reference"
    else:
        detail = f"{learner}, {adapter}" if adapter else learner
    if table.frame["task_dist"].nunique() > 1:
        policy = f"{clean(str(line['task_dist']))}: {policy}"
    return policy, detail


def _seed_note(line: Mapping[str, Any]) -> str:
    notes = []
    for word in ("failed", "stopped", "missing"):
        key = f"seeds_{word}"
        if is_number(line.get(key)) and line[key] > 0:
            notes.append(f"{int(line[key])} {word}")
    return f"({', '.join(notes)})" if notes else ""


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def shot_label(count: int) -> str:
    """Return ``1 shot`` or ``K shots``."""
    return "1 shot" if count == 1 else f"{count} shots"


def decimals(values: Sequence[float]) -> int:
    """Return how many decimals show about four digits of the largest value."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 0 if largest >= 10_000 else 1 if largest >= 10 else 2 if largest >= 1 else 3


def estimate_text(line: Mapping[str, Any], name: str, digits: int, sign: bool = False) -> Text:
    """Return the point estimate ``name`` of a row and its interval in brackets."""
    point, low, high = (line[key] for key in (name, f"{name}_low", f"{name}_high"))
    if not is_number(point):
        return DASH, ""
    text = f"{point:{'+' if sign else ''}.{digits}f}"
    if not (is_number(low) and is_number(high)):
        return text, ""
    # Three digits say how wide an interval is, and four columns of them fit a terminal.
    digits = 0 if max(abs(low), abs(high)) >= 100 else digits
    return text, f"[{low:.{digits}f}, {high:.{digits}f}]"


def _percent_text(line: Mapping[str, Any], name: str, sign: bool = False) -> Text:
    keys = (name, f"{name}_low", f"{name}_high")
    return estimate_text({key: 100 * line[key] for key in keys}, name, 1, sign)


def count_text(value: Any) -> str:
    """Return a count without decimals, a dash where there is none."""
    return f"{round(value)}" if is_number(value) else DASH


def short_count(value: Any) -> str:
    """Return a number of steps as 950, 12.5k or 3.20M."""
    if not is_number(value):
        return DASH
    if value < 1_000:
        return f"{round(value)}"
    return f"{value / 1e3:.1f}k" if value < 999_950 else f"{value / 1e6:.2f}M"


def duration(seconds: Any) -> str:
    """Return a time as 42 s, 12.5 min or 3.2 h."""
    if not is_number(seconds):
        return DASH
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
