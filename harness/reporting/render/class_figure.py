"""Success per class as a heat map: a row per class, a group of columns per policy and learner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.reporting.render.blocks import clean
from harness.reporting.stats.aggregate import REFERENCE, Comparison
from harness.reporting.stats.classes import CLASS
from harness.reporting.stats.scores import ROW, Row

Column: TypeAlias = tuple[Row, int]
"""A row of the table and a number of shots."""
DARK = 0.6
"""Above this rate a square is too dark for black letters."""


def class_success(dist: str, table: Comparison) -> Figure | None:
    """Draw the success rate (%) of every class at every number of shots; None without classes."""
    if table.classes.empty or not (table.classes["task_dist"] == dist).any():
        return None
    lines = table.classes[table.classes["task_dist"] == dist]
    kinds = list(dict.fromkeys(lines[CLASS]))
    columns = _columns(table, lines)
    size = (2.6 + 0.52 * len(columns), 1.5 + 0.27 * len(kinds))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _squares(axes, _grid(lines, kinds, columns))
    axes.set_yticks(range(len(kinds)), [clean(str(kind)) for kind in kinds], fontsize=8)
    _groups(axes, columns)
    mark = "  (INCOMPLETE)" if table.missing else ""
    text = clean(f"{dist}: success rate (%) by {table.split} class{mark}")
    figure.suptitle(text, x=0.02, ha="left", fontsize=10, parse_math=False)
    return figure


def _columns(table: Comparison, lines: pd.DataFrame) -> list[Column]:
    """Return the columns in the table's order; a reference line has one for all shots."""
    known = set(lines[list(ROW)].itertuples(index=False, name=None))
    order = table.frame[list(ROW)].itertuples(index=False, name=None)
    return [
        (row, count)
        for row in map(tuple, order)
        if row in known
        for count in (table.shots[:1] if row[2] == REFERENCE else table.shots)
    ]


def _grid(lines: pd.DataFrame, kinds: Sequence[str], columns: Sequence[Column]) -> np.ndarray:
    """Return rates [classes, columns]; NaN where there is none."""
    by_key = lines.set_index([*ROW, CLASS]).to_dict("index")
    missing: dict[str, float] = {}
    return np.array(
        [
            [
                by_key.get((*row, kind), missing).get(f"success_{count}", np.nan)
                for row, count in columns
            ]
            for kind in kinds
        ],
        np.float64,
    )


def _squares(axes: Axes, grid: np.ndarray) -> None:
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), rate in np.ndenumerate(grid):
        text = f"{100 * rate:.0f}" if np.isfinite(rate) else "–"
        color = "white" if rate > DARK else "0.2" if rate > 0 else "0.7"
        axes.text(x, y, text, ha="center", va="center", fontsize=7.5, color=color)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _groups(axes: Axes, columns: Sequence[Column]) -> None:
    """Write whose columns these are above them, and the shots below."""
    ticks = ["" if row[2] == REFERENCE else str(count) for row, count in columns]
    axes.set_xticks(range(len(columns)), ticks, fontsize=8)
    axes.set_xlabel("shots", fontsize=8)
    several = len({row[2] for row, _ in columns} - {REFERENCE}) > 1
    for row in dict.fromkeys(row for row, _ in columns):
        places = [x for x, (owner, _) in enumerate(columns) if owner == row]
        words = row[1].split("-") if row[2] == REFERENCE else [row[1], row[2]][: 1 + several]
        label = "\n".join(map(clean, words))
        look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "parse_math": False}
        axes.text(float(np.mean(places)), -0.75, label, **look)
        axes.axvline(places[-1] + 0.5, color="white", linewidth=4)
