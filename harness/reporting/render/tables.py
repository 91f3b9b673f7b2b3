"""The comparison as grids of text cells, shared by all output formats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pandas as pd

from harness.reporting.stats.comparison import CLASS, Comparison
from harness.reporting.stats.scores import ROW_KEY, RowKey, row_keys
from harness.reporting.text import DASH, duration, is_number, printable, short_count
from harness.types import AGENT, REFERENCE

TextCell: TypeAlias = tuple[str, str]
"""The text of a cell, and its interval or other detail (may be empty)."""
Row: TypeAlias = Mapping[str, Any]
"""One row of a frame by column name."""
WARNINGS = ("INCOMPLETE", "FAILED", "STOPPED")
"""First words of the paragraphs about cells that are not in the table."""
ROW_HEADER: TextCell = ("policy", "learner, adapter")
MAX_TERMINAL_CLASSES = 15
MAX_TERMINAL_COLUMNS = 8
"""A larger grid of classes does not fit a terminal and goes to the files only."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A titled grid of text cells; the first column names the row."""

    title: str
    header: tuple[TextCell, ...]
    rows: tuple[tuple[TextCell, ...], ...]
    files_only: bool = False
    """Too large for a terminal."""


def grids(table: Comparison) -> list[Grid]:
    """Return the grids of every split: returns, success, gains with costs, then classes."""
    found = []
    for part in table.splits:
        suffix = f", {part.split} tasks" if table.others else ""
        found += [replace(grid, title=grid.title + suffix) for grid in _split_grids(part)]
    return found + [grid for part in table.splits for grid in _class_grids(part)]


def _split_grids(table: Comparison) -> Iterator[Grid]:
    gains = table.shots[1:]
    competitors = rows_of(table.frame[table.frame["learner"] != REFERENCE])
    yield _return_grid(table)
    if table.has_success:
        measured = [row for row in rows_of(table.frame) if row["adapter"] != "analytic"]
        yield _estimate_grid(
            "Success rate (%)", measured, "success", table.shots, unit=100, digits=1
        )
    if competitors:
        yield _gain_grid(table, competitors)
        if "validation_area" in table.frame:
            yield _curve_grid(table, competitors)
        if "gap_0" in table.frame:
            title = "Return minus return on test tasks, paired by seed"
            yield _estimate_grid(title, competitors, "gap", table.shots, sign=True)
        if table.oracle is not None:
            yield _regret_grid(table, competitors)
        if not table.improvement.empty:
            yield _improvement_grid(table)
        if len(set(table.seed_scores["seed"])) > 1:
            yield _seed_grid(table)
        if table.has_success and gains:
            title = "Gain in success rate (percentage points)"
            yield _estimate_grid(
                title, competitors, "success_gain", gains, unit=100, digits=1, sign=True
            )


def _return_grid(table: Comparison) -> Grid:
    names = [f"return_{count}" for count in table.shots]
    digits = decimals(table.frame[names].to_numpy().ravel().tolist())
    header = [(shot_label(count), "") for count in table.shots]
    rows = []
    for row in rows_of(table.frame):
        values = [estimate_cell(row, name, digits) for name in names]
        seeds = (count_text(row["seeds"]), _seed_note(row))
        rows.append((row_label(row), *values, seeds))
    return Grid("Return", (ROW_HEADER, *header, ("seeds", "")), tuple(rows))


def _gain_grid(table: Comparison, competitors: Sequence[Row]) -> Grid:
    names = [f"gain_{count}" for count in table.shots[1:]]
    digits = decimals(_numbers(competitors, names))
    header: list[TextCell] = [(shot_label(count), "") for count in table.shots[1:]]
    steps = f"test_steps_{table.shots[-1]}"
    header += [("parameters", "training steps"), ("test steps", ""), ("wall time", "invalid")]
    rows = []
    for row in competitors:
        cells = [estimate_cell(row, name, digits, sign=True) for name in names]
        cells.append(_size_cell(row))
        cells.append((short_count(row[steps]), ""))
        cells.append((duration(row["wall_seconds"]), _invalid_text(row)))
        rows.append((row_label(row), *cells))
    title = "Gain over 0 shots" if names else "Cost"
    return Grid(title, (ROW_HEADER, *header), tuple(rows))


def _curve_grid(table: Comparison, competitors: Sequence[Row]) -> Grid:
    digits = decimals(_numbers(competitors, ["validation_area"]))
    rows = []
    for row in competitors:
        steps = row["steps_to_line"]
        reached = "never" if steps == math.inf else short_count(steps)
        area = estimate_cell(row, "validation_area", digits)
        rows.append((row_label(row), area, (reached, "")))
    header: list[TextCell] = [("area under curve", ""), ("steps to exceed", "non-adaptive")]
    title = f"On validation tasks while training, {shot_label(table.shots[-1])}"
    return Grid(title, (ROW_HEADER, *header), tuple(rows))


def _estimate_grid(
    title: str,
    rows: Sequence[Row],
    column: str,
    shots: Sequence[int],
    *,
    unit: float = 1.0,
    digits: int | None = None,
    sign: bool = False,
) -> Grid:
    """Return ``unit`` times an estimate of each row at every number of shots."""
    names = [f"{column}_{count}" for count in shots]
    places = decimals(_numbers(rows, names)) if digits is None else digits
    cells = []
    for row in rows:
        scaled = {key: unit * row[key] for name in names for key in _ends(name)}
        texts = (estimate_cell(scaled, name, places, sign=sign) for name in names)
        cells.append((row_label(row), *texts))
    header = [(shot_label(count), "") for count in shots]
    return Grid(title, (ROW_HEADER, *header), tuple(cells))


def _invalid_text(row: Row) -> str:
    """Return the invalid query episodes, and what was lost in training where anything was."""
    names = {"invalid_training_episodes": "in training", "skipped_updates": "skipped"}
    lost = {word: row.get(name) for name, word in names.items()}
    more = [
        f"{count_text(n)} {word}" for word, n in lost.items() if count_text(n) not in (DASH, "0")
    ]
    return ", ".join([count_text(row["invalid_episodes"]), *more])


def _size_cell(row: Row) -> TextCell:
    """Return parameters and training steps; an agent's own word is marked as such."""
    params, steps = row["num_params"], row["train_env_steps"]
    if row["learner"].partition(" ")[0] != AGENT:
        return count_text(params), short_count(steps)
    return (
        f"{count_text(params)} declared" if params else DASH,
        f"{short_count(steps)} declared" if steps else DASH,
    )


def _regret_grid(table: Comparison, competitors: Sequence[Row]) -> Grid:
    rows = [row for row in competitors if tuple(row[key] for key in ROW_KEY) != table.oracle]
    return _estimate_grid(f"Regret to {printable(oracle_name(table))}", rows, "regret", table.shots)


def oracle_name(table: Comparison) -> str:
    """Return the oracle's row as text, e.g. ``gru oracle``; empty without one."""
    return " ".join(filter(None, table.oracle[1:3])) if table.oracle is not None else ""


def _improvement_grid(table: Comparison) -> Grid:
    labels = {
        key[1:]: row_label(dict(zip(ROW_KEY, key, strict=True))) for key in row_keys(table.frame)
    }
    return improvement_grid(table.improvement, labels, f"at {shot_label(table.shots[-1])}")


def improvement_grid(
    pairs: pd.DataFrame, labels: Mapping[tuple[str, ...], TextCell], where: str
) -> Grid:
    """Return the matrix of probabilities of improvement: a row's over each column's.

    Args:
        pairs: one line per ordered pair of rows.
        labels: first cell of each row by policy, learner and adapter, in order.
        where: on what, after how many shots.
    """
    names = ROW_KEY[1:]
    by_pair = {
        (tuple(line[n] for n in names), tuple(line[f"over_{n}"] for n in names)): line
        for line in rows_of(pairs)
    }
    keys = [key for key in labels if any(key == first for first, _ in by_pair)]
    rows = []
    for first in keys:
        lines = (by_pair.get((first, second)) for second in keys)
        cells = ((DASH, "") if ln is None else estimate_cell(ln, "probability", 2) for ln in lines)
        rows.append((labels[first], *cells))
    header = (ROW_HEADER, *(labels[key] for key in keys))
    title = f"P: probability that the row beats the column {where}"
    return Grid(title, header, tuple(rows), files_only=len(keys) > MAX_TERMINAL_COLUMNS)


def _seed_grid(table: Comparison) -> Grid:
    """Return the return of every seed after the most shots, for the files."""
    last = table.seed_scores[table.seed_scores["shots"] == table.shots[-1]]
    digits = decimals(last["return"].tolist())
    seeds = sorted(set(last["seed"]))
    rows, groups = [], dict(list(last.groupby(list(ROW_KEY))))
    for key in (key for key in row_keys(table.frame) if key in groups):
        by_seed = dict(zip(groups[key]["seed"], groups[key]["return"], strict=True))
        label = row_label(dict(zip(ROW_KEY, key, strict=True)))
        rows.append((label, *((_fixed(by_seed.get(seed), digits), "") for seed in seeds)))
    header = [(f"seed {seed}", "") for seed in seeds]
    title = f"Return of every seed at {shot_label(table.shots[-1])}"
    return Grid(title, (ROW_HEADER, *header), tuple(rows), files_only=True)


def _class_grids(table: Comparison) -> Iterator[Grid]:
    """Yield success by class after the most shots, then one full grid per row of the table."""
    if table.classes.empty:
        return
    by_row: dict[RowKey, dict[str, Row]] = {key: {} for key in row_keys(table.frame)}
    for line in rows_of(table.classes):
        by_row[tuple(line[key] for key in ROW_KEY)][line[CLASS]] = line
    columns = [
        (row_label(dict(zip(ROW_KEY, key, strict=True))), lines)
        for key, lines in by_row.items()
        if lines
    ]
    yield _class_summary(table, columns)
    yield from (_class_grid(table, label, lines) for label, lines in columns)


def _class_summary(
    table: Comparison, columns: Sequence[tuple[TextCell, Mapping[str, Row]]]
) -> Grid:
    column = f"success_{table.shots[-1]}"
    details = {detail for (_, detail), lines in columns if not _is_reference(lines)}
    header = [(name, detail if len(details) > 1 else "") for (name, detail), _ in columns]
    rows = []
    for name in dict.fromkeys(table.classes[CLASS]):
        rates = [(_rate_text(lines.get(name), column), "") for _, lines in columns]
        rows.append(((printable(name), ""), *rates))
    title = f"Success rate (%) by {table.split} class, {shot_label(table.shots[-1])}"
    large = len(rows) > MAX_TERMINAL_CLASSES or len(columns) > MAX_TERMINAL_COLUMNS
    return Grid(title, (("class", ""), *header), tuple(rows), files_only=large)


def _class_grid(table: Comparison, label: TextCell, lines: Mapping[str, Row]) -> Grid:
    constant = _is_reference(lines)
    shots = table.shots[:1] if constant else table.shots
    returns = [line[f"return_{count}"] for line in lines.values() for count in shots]
    digits = min(1, decimals(returns))
    header = [("all shots" if constant else shot_label(count), "") for count in shots]
    rows = []
    for name, line in lines.items():
        rates = [_rate_text(line, f"success_{count}") for count in shots]
        means = [_fixed(line[f"return_{count}"], digits) for count in shots]
        cells = [(f"{rate} / {mean}", "") for rate, mean in zip(rates, means, strict=True)]
        rows.append(((printable(name), ""), *cells, (count_text(line["goals"]), "")))
    title = f"{', '.join(filter(None, label))}: success rate (%) / return by {table.split} class"
    return Grid(title, (("class", ""), *header, ("goals", "")), tuple(rows), files_only=True)


def _numbers(rows: Sequence[Row], names: Sequence[str]) -> list[float]:
    """Return the estimates ``names`` of ``rows`` and the ends of their intervals."""
    return [row[key] for row in rows for name in names for key in _ends(name)]


def _ends(name: str) -> tuple[str, str, str]:
    """Return the columns of an estimate and of the ends of its interval."""
    return name, f"{name}_low", f"{name}_high"


def is_warning(paragraph: str) -> bool:
    """Return whether a caption's paragraph lists cells that are not in the table."""
    return paragraph.partition(":")[0] in WARNINGS


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of ``frame``, each by column name."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def reference_heights(table: Comparison, column: str, unit: float) -> dict[str, float]:
    """Return the height of each reference line in a plot of ``unit`` times ``column``."""
    lines = table.frame[table.frame["learner"] == REFERENCE]
    return {str(row["policy"]): unit * row[f"{column}_0"] for row in rows_of(lines)}


def row_label(row: Row) -> TextCell:
    """Return the first cell of a row: its policy, with learner and adapter as the detail."""
    policy, learner, adapter = (printable(str(row[key])) for key in ROW_KEY[1:])
    if row["learner"] == REFERENCE:
        detail = "reference, analytic" if adapter == "analytic" else "reference"
    else:
        detail = f"{learner}, {adapter}" if adapter else learner
    return policy, detail


def shot_label(count: int) -> str:
    """Return ``1 shot`` or ``K shots``."""
    return "1 shot" if count == 1 else f"{count} shots"


def decimals(values: Sequence[float]) -> int:
    """Return the number of decimals that shows about four digits of the largest value."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 0 if largest >= 10_000 else 1 if largest >= 10 else 2 if largest >= 1 else 3


def estimate_cell(row: Row, name: str, digits: int, sign: bool = False) -> TextCell:
    """Return the point estimate ``name`` of a row, with its interval in brackets."""
    point, low, high = (row[key] for key in _ends(name))
    if not is_number(point):
        return DASH, ""
    text = f"{point:{'+' if sign else ''}.{digits}f}"
    if not (is_number(low) and is_number(high)):
        return text, ""
    # Three digits are enough for a bound, and let four columns of intervals fit a terminal.
    digits = 0 if max(abs(low), abs(high)) >= 100 else digits
    return text, f"[{low:.{digits}f}, {high:.{digits}f}]"


def count_text(value: Any) -> str:
    """Return a count without decimals; a dash if there is none."""
    return f"{round(value)}" if is_number(value) else DASH


def _seed_note(row: Row) -> str:
    counts = {status: row.get(f"seeds_{status}", 0) for status in ("failed", "stopped", "missing")}
    notes = [f"{n:.0f} {status}" for status, n in counts.items() if is_number(n) and n > 0]
    return f"({', '.join(notes)})" if notes else ""


def _is_reference(lines: Mapping[str, Row]) -> bool:
    return all(line["learner"] == REFERENCE for line in lines.values())


def _rate_text(line: Row | None, name: str) -> str:
    return _fixed(100 * line[name], 1) if line else DASH


def _fixed(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if is_number(value) else DASH
