"""Heat map of success by class: one row per class, one group of columns per table row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reporting.render.style import new_figure
from harness.reporting.stats.comparison import CLASS, Comparison
from harness.reporting.stats.scores import ROW_KEY, RowKey, row_keys
from harness.reporting.text import DASH, printable, span
from harness.types import REFERENCE

Column: TypeAlias = tuple[RowKey, int]
"""A row of the table and a shot count."""
DARK = 0.6
"""Squares with a higher rate are too dark for black text."""


def class_success(table: Comparison) -> Figure | None:
    """Draw the success rate (%) of every class at every shot count; None without classes."""
    lines = table.classes
    if lines.empty:
        return None
    classes = list(dict.fromkeys(lines[CLASS]))
    columns = _columns(table, lines)
    figure = new_figure(2.6 + 0.52 * len(columns), 1.5 + 0.27 * len(classes))
    axes = figure.add_subplot()
    _draw_rates(axes, _rates(lines, classes, columns))
    axes.set_yticks(range(len(classes)), [printable(str(name)) for name in classes], fontsize=8)
    _label_columns(axes, columns)
    mark = " (INCOMPLETE)" if table.missing else ""
    rows = table.frame[table.frame["seeds"] > 0]
    title = printable(f"{table.task_dist}: success rate (%) by {table.split} class{mark}")
    title += f"\neach square: {span(lines['goals'], 'goal')}, {span(rows['seeds'], 'seed')}"
    figure.suptitle(title, x=0.02, ha="left", fontsize=10, parse_math=False)
    return figure


def _columns(table: Comparison, lines: pd.DataFrame) -> list[Column]:
    """Return the columns in the table's order; a reference line has one for all shot counts."""
    present = set(row_keys(lines))
    return [
        (row, count)
        for row in row_keys(table.frame)
        if row in present
        for count in (table.shots[:1] if row[2] == REFERENCE else table.shots)
    ]


def _rates(lines: pd.DataFrame, classes: Sequence[str], columns: Sequence[Column]) -> np.ndarray:
    """Return rates [classes, columns]; NaN where there is none."""
    by_key = lines.set_index([*ROW_KEY, CLASS]).to_dict("index")
    missing: dict[str, float] = {}
    return np.array(
        [
            [
                by_key.get((*row, name), missing).get(f"success_{count}", np.nan)
                for row, count in columns
            ]
            for name in classes
        ],
        np.float64,
    )


def _draw_rates(axes: Axes, rates: np.ndarray) -> None:
    axes.imshow(rates, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), rate in np.ndenumerate(rates):
        text = f"{100 * rate:.0f}" if np.isfinite(rate) else DASH
        color = "white" if rate > DARK else "0.2" if rate > 0 else "0.7"
        axes.text(x, y, text, ha="center", va="center", fontsize=7.5, color=color)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _label_columns(axes: Axes, columns: Sequence[Column]) -> None:
    """Write the row names above their columns and the shot counts below."""
    ticks = ["" if row[2] == REFERENCE else str(count) for row, count in columns]
    axes.set_xticks(range(len(columns)), ticks, fontsize=8)
    axes.set_xlabel("shots", fontsize=8)
    several = len({row[2] for row, _ in columns} - {REFERENCE}) > 1
    for row in dict.fromkeys(row for row, _ in columns):
        positions = [x for x, (owner, _) in enumerate(columns) if owner == row]
        words = row[1].split("-") if row[2] == REFERENCE else [row[1], row[2]][: 1 + several]
        label = "\n".join(map(printable, words))
        look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "parse_math": False}
        axes.text(float(np.mean(positions)), -0.75, label, **look)
        axes.axvline(positions[-1] + 0.5, color="white", linewidth=4)
