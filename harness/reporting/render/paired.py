"""Figures of paired findings: differences between rows, and return against the task's parameter."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import task_distributions
from harness.reporting.render.panels import add_legend, columns_of
from harness.reporting.render.style import LineKey, Style, headline, new_figure, plain, styles_of
from harness.reporting.render.tables import shot_label
from harness.reporting.stats.comparison import FLAT, Comparison
from harness.reporting.stats.intervals import Estimate, seed_means
from harness.reporting.stats.scores import (
    ROW_KEY,
    RowKey,
    difference,
    of_row,
    row_keys,
    seed_matrix,
)
from harness.reporting.store.manifest import Manifest
from harness.reporting.text import printable, span
from harness.types import REFERENCE
from task_distributions.base import Split

CONTROL = "multitask"
"""Learner of the rows that others are drawn against: it does not adapt."""
MAX_PANELS = 9
ZERO, ORACLE = ("zero action", ":", "0.6"), ("oracle", "-", "0.35")
"""Name, line and gray of the lines behind the tasks of a row."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a difference plot."""

    row: RowKey
    estimate: Estimate
    seeds: tuple[float, ...]
    """Differences of each seed; empty where the two have different seeds."""


def _control_of(row: RowKey, controls: Sequence[RowKey]) -> RowKey | None:
    """Return what a row is compared with.

    That is the control of its policy, or of the only policy that has one; of several, that of the
    same settings or run.
    """
    one_policy = len({control[1] for control in controls}) == 1
    own = [control for control in controls if one_policy or control[1] == row[1]]
    if len(own) > 1:
        own = [each for each in own if each[2].partition(" ")[2] == row[2].partition(" ")[2]]
    return own[0] if own else None


def differences_figure(table: Comparison) -> Figure | None:
    """Draw gains from adaptation, and each row minus the control; None without.

    If several policies have a control, a row is compared with that of its own policy.
    """
    rows = _rows(table)
    last = table.shots[-1]
    adapting = [row for row in rows if row[3] not in FLAT] if last else []
    gains = [difference_of(table, (row, last), (row, 0)) for row in adapting]
    controls = [row for row in rows if row[2].partition(" ")[0] == CONTROL]
    only = controls[0] if len(controls) == 1 else None
    rivals = [
        difference_of(table, (row, last), (control, last))
        for row in rows
        if row not in controls and (control := _control_of(row, controls))
    ]
    shots = shot_label(last)
    against = " ".join(only[1:3]) if only else f"{CONTROL}, same policy"
    parts = [
        (f"{shots} minus 0 shots", gains),
        (printable(f"{shots} minus {against}"), rivals),
    ]
    parts = [(title, lines) for title, lines in parts if lines]
    if not parts:
        return None
    height = 0.9 + 0.26 * max(len(lines) for _, lines in parts)
    figure = new_figure(3.5 * len(parts) + 0.8, max(1.8, height))
    styles = styles_of([line_key(row) for row in rows])
    for axes, (title, lines) in zip(
        figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True
    ):
        _draw_differences(axes, lines, styles)
        axes.set_title(title, loc="left")
        axes.set_xlabel("difference in return")
    note = _interval_note([line for _, lines in parts for line in lines])
    text = printable(f"{table.task_dist}, {table.split} tasks: {note}")
    headline(figure, text)
    return figure


def _interval_note(lines: Sequence[Difference]) -> str:
    """Return what the bars of these lines are."""
    counts = sorted({len(line.seeds) for line in lines if len(line.seeds) > 1})
    kinds = []
    if counts:
        kinds.append(f"Student's t on differences of {' or '.join(map(str, counts))} seeds")
    if any(not line.seeds and not math.isnan(line.estimate.low) for line in lines):
        kinds.append("Welch's where the two have different seeds")
    if not kinds:
        return "one seed, no interval"
    return f"mean and 95 % interval ({'; '.join(kinds)}), dots: seeds"


def difference_of(
    table: Comparison, first: tuple[RowKey, int], second: tuple[RowKey, int]
) -> Difference:
    """Return the difference in return of two rows after so many shots."""
    x, y = (
        seed_matrix(of_row(table.task_scores[table.task_scores["shots"] == shots], row))
        for row, shots in (first, second)
    )
    by_seed = tuple(seed_means(x.values - y.values).tolist()) if x.seeds == y.seeds else ()
    return Difference(first[0], difference(x, y), by_seed)


def _draw_differences(
    axes: Axes, lines: Sequence[Difference], styles: Mapping[LineKey, Style]
) -> None:
    axes.axvline(0, color="0.5", linewidth=0.8)
    for place, line in enumerate(lines):
        style = styles[line_key(line.row)]
        value = line.estimate
        ends = [[value.point - value.low], [value.high - value.point]]
        bars = np.maximum(np.nan_to_num(ends), 0)
        axes.errorbar([value.point], [place], xerr=bars, capsize=2, markersize=5, **style.look)
        height = [place + 0.22] * len(line.seeds)
        axes.plot(line.seeds, height, ".", color=style.color, alpha=0.55, markersize=4)
    names = [", ".join(line.row[1:3]) for line in lines]
    axes.set_yticks(range(len(lines)), [printable(name) for name in names])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    plain(axes, "x")


def parameter_figure(table: Comparison, manifest: Manifest) -> Figure | None:
    """Draw return against the task's parameter, before and after adaptation, a panel per row.

    None where tasks have no single continuous parameter or their definition is not installed.
    """
    name, values = task_parameter(table, manifest)
    found = [row for row in _rows(table) if row[3] not in FLAT]
    rows = found[:MAX_PANELS]
    last = table.shots[-1]
    if not values or not rows or not last:
        return None
    columns = columns_of(len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(2.4 * columns + 0.8, 2.1 * lines + 0.7)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    styles = styles_of([line_key(row) for row in _rows(table)])
    zero = (table.task_dist, "zero-action", REFERENCE, "none")
    background = [(zero, *ZERO), *([(table.oracle, *ORACLE)] if table.oracle else [])]
    for axes, row in zip(panels, rows, strict=False):
        for other, _, line, gray in background:
            axes.plot(*_points(table, other, 0, values), line, color=gray, linewidth=0.9)
        _draw_tasks(axes, table, row, styles[line_key(row)], values)
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(rows) - columns) : len(rows)]:
        axes.set_xlabel(name)
        axes.tick_params(labelbottom=True)
    for axes in panels[::columns]:
        axes.set_ylabel("return")
    dot: dict[str, Any] = {"color": "0.3", "marker": "o", "linestyle": "none", "markersize": 4}
    handles = [
        Line2D([], [], markerfacecolor="white", label="0 shots", **dot),
        Line2D([], [], label=shot_label(last), **dot),
    ]
    handles += [
        Line2D([], [], linestyle=line, color=gray, label=text) for _, text, line, gray in background
    ]
    add_legend(figure, handles)
    counts = table.frame.set_index(list(ROW_KEY))["seeds"]
    seeds = span([counts[row] for row in rows], "seed")
    note = f"each {table.split} task, mean of {seeds}"
    note += f"; {len(rows)} of {len(found)} rows" if len(rows) < len(found) else ""
    text = printable(f"{table.task_dist}: {note}")
    headline(figure, text)
    return figure


def _draw_tasks(
    axes: Axes, table: Comparison, row: RowKey, style: Style, values: Mapping[str, float]
) -> None:
    """Draw one row: an open marker before adaptation, a filled one after, for every task."""
    x, before = _points(table, row, 0, values)
    _, after = _points(table, row, table.shots[-1], values)
    axes.vlines(x, before, after, color=style.color, alpha=0.35, linewidth=0.8)
    for y, inside in ((before, "white"), (after, style.color)):
        look: dict[str, Any] = {"color": style.color, "markerfacecolor": inside}
        axes.plot(x, y, style.marker, markersize=3.5, **look)
    axes.set_title(printable(f"{row[1]}, {row[2]}"), loc="left", parse_math=False)
    plain(axes)


def task_parameter(table: Comparison, manifest: Manifest) -> tuple[str, dict[str, float]]:
    """Return the name of the tasks' parameter and its value by task; no value if there is none.

    A goal on a plane has its angle as the parameter.
    """
    (info,) = manifest.distributions
    found = None
    with contextlib.suppress(ImportError, ValueError):  # an extra or a plug-in is not installed
        found = task_distributions.load(info.versioned_name)
    if found is None or found.version != info.version:
        return "", {}
    tasks = {task.name: dict(task.params) for task in found.tasks(cast(Split, table.split))}
    scored = set(table.task_scores["task"])
    params = {name: values for name, values in tasks.items() if name in scored}
    names = {tuple(values) for values in params.values()}
    if len(names) != 1 or set(params) != scored:
        return "", {}
    (keys,) = names
    if len(keys) == 1:
        return keys[0].replace("_", " "), {name: v[keys[0]] for name, v in params.items()}
    if keys == ("goal_x", "goal_y"):
        angles = {name: math.atan2(v["goal_y"], v["goal_x"]) for name, v in params.items()}
        return "angle of the goal", angles
    return "", {}


def _points(
    table: Comparison, row: RowKey, shots: int, values: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return parameter and mean return of each task, ordered by parameter."""
    lines = of_row(table.task_scores[table.task_scores["shots"] == shots], row)
    means = lines.groupby("task")["return"].mean()
    x = means.index.map(values).to_numpy(float)
    order = np.argsort(x)
    return x[order], means.to_numpy(float)[order]


def line_key(row: RowKey) -> LineKey:
    """Return policy and learner of a row."""
    return row[1], row[2]


def _rows(table: Comparison) -> list[RowKey]:
    frame = table.frame[table.frame["seeds"] > 0]
    own = frame[frame["learner"] != REFERENCE]
    return row_keys(own)
