"""The grids of single classes: a short one to compare, and all there is in the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.reporting.render.blocks import (
    DASH,
    Block,
    Text,
    clean,
    count_text,
    decimals,
    is_number,
    lines_of,
    row_name,
    shot_label,
)
from harness.reporting.stats.aggregate import REFERENCE, Comparison
from harness.reporting.stats.classes import CLASS
from harness.reporting.stats.scores import ROW

MOST_ROWS = 15
MOST_COLUMNS = 8
"""A larger grid of classes is left to the files: it does not fit a terminal."""

Line = Mapping[str, Any]
"""What class_table says of one class and row."""


def class_blocks(table: Comparison) -> Iterator[Block]:
    """Yield success rates by class after the most shots, then everything row by row."""
    for part in table.splits:
        if not part.classes.empty:
            columns = _columns(part)
            yield _short(part, columns)
            yield from (_full(part, head, lines) for head, lines in columns)


def _columns(table: Comparison) -> list[tuple[Text, dict[str, Line]]]:
    """Return the lines by class of every row of the table, in the table's order."""
    found: dict[tuple[str, ...], dict[str, Line]] = {
        tuple(row): {} for row in table.frame[list(ROW)].itertuples(index=False, name=None)
    }
    for line in lines_of(table.classes):
        found[tuple(line[key] for key in ROW)][line[CLASS]] = line
    named = ((dict(zip(ROW, row, strict=True)), lines) for row, lines in found.items())
    return [(row_name(table, row), lines) for row, lines in named if lines]


def _short(table: Comparison, columns: list[tuple[Text, dict[str, Line]]]) -> Block:
    last = f"success_{table.shots[-1]}"
    kinds = dict.fromkeys(table.classes[CLASS])
    details = {head[1] for head, lines in columns if not _is_reference(lines)}
    head = [(name, detail if len(details) > 1 else "") for (name, detail), _ in columns]
    rows = tuple(
        ((clean(kind), ""), *((_rate(lines.get(kind), last), "") for _, lines in columns))
        for kind in kinds
    )
    title = f"Success (%) by {table.split} class, {shot_label(table.shots[-1])}"
    large = len(rows) > MOST_ROWS or len(columns) > MOST_COLUMNS
    return Block(title, (("class", ""), *head), rows, detail=large)


def _full(table: Comparison, head: Text, lines: Mapping[str, Line]) -> Block:
    # A reference line has one value for every number of shots.
    one_value = _is_reference(lines)
    shots = table.shots[:1] if one_value else table.shots
    returns = [line[f"return_{count}"] for line in lines.values() for count in shots]
    digits = min(1, decimals(returns))
    header = [("any shots" if one_value else shot_label(count), "") for count in shots]
    rows = []
    for kind, line in lines.items():
        rates = [_rate(line, f"success_{count}") for count in shots]
        means = [_fixed(line[f"return_{count}"], digits) for count in shots]
        cells = [(f"{rate} / {mean}", "") for rate, mean in zip(rates, means, strict=True)]
        rows.append(((clean(kind), ""), *cells, (count_text(line["goals"]), "")))
    name = ", ".join(filter(None, head))
    title = f"{name}: success (%) / return by {table.split} class"
    return Block(title, (("class", ""), *header, ("goals", "")), tuple(rows), detail=True)


def _is_reference(lines: Mapping[str, Line]) -> bool:
    return all(line["learner"] == REFERENCE for line in lines.values())


def _rate(line: Line | None, name: str) -> str:
    return f"{100 * line[name]:.1f}" if line and is_number(line[name]) else DASH


def _fixed(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if is_number(value) else DASH
