"""Figures of a run as PNG: learning curves, adaptation curves and success by class."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

import policies
from harness.reporting.render.success import class_success
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import MIN_SEEDS
from harness.reporting.store.files import write_atomically
from harness.reporting.store.manifest import Manifest
from harness.reporting.text import printable
from harness.types import REFERENCE, Metrics

DPI = 150
MAX_LINES = 8
"""More lines than this on one pair of axes cannot be told apart; each learner gets a panel."""
MAX_COLUMNS = 3
INCHES_PER_LETTER, INCHES_PER_HANDLE = 0.085, 0.6
"""Upper estimates of the width of a legend entry."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's colors, distinguishable with any kind of color vision."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""One per learner."""

LineKey: TypeAlias = tuple[str, str]
"""Policy and learner."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The quantity on a figure's y-axis."""

    column: str
    label: str
    unit: float = 1.0
    """Factor from the table's number to the one drawn."""


RETURN = Measure("return", "return")
SUCCESS = Measure("success", "success rate (%)", 100.0)


def write_figures(
    table: Comparison,
    manifest: Manifest,
    curves: Mapping[str, Sequence[Metrics]],
    folder: Path,
) -> tuple[Path, ...]:
    """Write every figure there is data for into ``folder``; return the paths."""
    written = []
    for dist in manifest.distributions:
        figures = {"learning_curves": learning_curves(dist.name, table, manifest, curves)}
        for part in table.splits:
            suffix = "" if part is table else f".{part.split}"
            figures[f"adaptation_curve{suffix}"] = adaptation_curve(dist.name, part, manifest)
            if part.has_success:
                success = adaptation_curve(dist.name, part, manifest, SUCCESS)
                figures[f"success_curve{suffix}"] = success
                figures[f"class_success{suffix}"] = class_success(dist.name, part)
        for name, figure in figures.items():
            suffix = f".{dist.name}" if len(manifest.distributions) > 1 else ""
            if figure is not None:
                path = folder / f"{name}{suffix}.png"
                write_atomically(path, _png(figure))
                written.append(path)
    return tuple(written)


def learning_curves(
    dist: str, table: Comparison, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Figure | None:
    """Draw return against environment steps of training; None without a curve."""
    groups = dict(_curve_groups(dist, manifest, curves))
    if not groups:
        return None
    panels, styles = Panels.create(list(groups)), styles_of(manifest)
    adapts = False
    for key, columns in groups.items():
        adapts |= _draw_curve(panels.by_learner[key[1]], styles[key], columns)
    panels.axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels.label("environment steps of training", "mean return of training episodes")
    several = any(len(columns["post_return"]) > 1 for columns in groups.values())
    note = f"{'band: all seeds; ' * several}dotted lines: {table.split} tasks"
    lines = (("-", "after adaptation"), ("--", "before adaptation")) if adapts else ()
    extra = [Line2D([], [], color="0.35", linestyle=style, label=text) for style, text in lines]
    panels.finish(table, dist, note)
    panels.add_legend({key: styles[key] for key in groups}, extra)
    return panels.figure


def _draw_curve(axes: Axes, style: Style, columns: Mapping[str, np.ndarray]) -> bool:
    """Draw the line after adaptation, and dashed the one before if it differs; return that."""
    x, post, pre = (columns[name] for name in ("env_steps", "post_return", "pre_return"))
    x = x.mean(axis=0)
    look: dict[str, Any] = {"color": style.color, "marker": style.marker}
    every = max(1, len(x) // 8)
    axes.plot(x, post.mean(axis=0), linewidth=1.8, markersize=4.5, markevery=every, **look)
    if len(post) > 1:
        low, high = post.min(axis=0), post.max(axis=0)
        axes.fill_between(x, low, high, color=style.color, alpha=0.15, linewidth=0)
    if np.array_equal(pre, post, equal_nan=True):
        return False
    axes.plot(x, pre.mean(axis=0), color=style.color, linestyle="--", linewidth=1.2)
    return True


def _curve_groups(
    dist: str, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Iterator[tuple[LineKey, dict[str, np.ndarray]]]:
    """Yield the columns [seeds, iterations] of every policy and learner, without failed cells.

    Seeds are cut to the iterations they all have: a mean over a changing set of seeds would jump.
    """
    groups: dict[LineKey, list[Sequence[Metrics]]] = {}
    for key, state in manifest.cells.items():
        if state.task_dist == dist and state.status != "failed" and curves.get(key):
            groups.setdefault((state.policy, state.learner), []).append(curves[key])
    names = ("env_steps", "pre_return", "post_return")
    for line, runs in groups.items():
        length = min(map(len, runs))
        yield (
            line,
            {
                name: np.array([[getattr(m, name) for m in run[:length]] for run in runs])
                for name in names
            },
        )


def adaptation_curve(
    dist: str, table: Comparison, manifest: Manifest, measure: Measure = RETURN
) -> Figure | None:
    """Draw a measure against shots with intervals; None if only one shot count was scored."""
    frame = table.frame[(table.frame["task_dist"] == dist) & (table.frame["seeds"] > 0)]
    rows = frame[frame["learner"] != REFERENCE].to_dict("records")
    if len(table.shots) < 2 or not rows:
        return None
    keys = [(row["policy"], row["learner"]) for row in rows]
    panels, styles = Panels.create(keys), styles_of(manifest)
    offsets = _offsets(keys, table.shots, panels.split)
    for key, row in zip(keys, rows, strict=True):
        y, low, high = (
            measure.unit
            * np.array([row[f"{measure.column}_{count}{end}"] for count in table.shots], float)
            for end in ("", "_low", "_high")
        )
        # A percentile interval may exclude its point estimate by a hair; bars cannot be negative.
        bars = np.maximum(np.nan_to_num(np.stack([y - low, high - y])), 0.0)
        x = np.array(table.shots) + offsets[key]
        look: dict[str, Any] = {"color": styles[key].color, "marker": styles[key].marker}
        axes = panels.by_learner[key[1]]
        axes.errorbar(x, y, bars, capsize=3, linewidth=1.8, markersize=5, **look)
    panels.axes[0].set_xticks(table.shots, [str(count) for count in table.shots])
    panels.label(
        "shots (adaptation steps, each on new support episodes)",
        f"{measure.label} on {table.split} tasks",
    )
    panels.finish(table, dist, _interval_note(table, rows), measure)
    panels.add_legend({key: styles[key] for key in keys})
    return panels.figure


def _interval_note(table: Comparison, rows: Sequence[Mapping[Any, Any]]) -> str:
    """Return what the bars of a figure are, and over how many seeds or tasks."""
    fewest, most = (int(pick(row["seeds"] for row in rows)) for pick in (min, max))
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    if most < MIN_SEEDS:
        return f"bars: 95 % interval over {table.num_tasks} tasks"
    tasks = f" or, below {MIN_SEEDS} seeds, {table.num_tasks} tasks" if fewest < MIN_SEEDS else ""
    return f"bars: 95 % interval over {seeds}{tasks}"


def _offsets(keys: Sequence[LineKey], shots: Sequence[int], split: bool) -> dict[LineKey, float]:
    """Return a small shift along the x-axis for every line, so that bars do not overlap."""
    neighbors = {key: key[:1] if split else key for key in keys}
    order = list(dict.fromkeys(neighbors.values()))
    gap = min(b - a for a, b in itertools.pairwise(shots))
    step = min(0.012 * shots[-1], 0.5 * gap / len(order))
    center = (len(order) - 1) / 2
    return {key: step * (order.index(neighbors[key]) - center) for key in keys}


@dataclass(frozen=True, slots=True)
class Style:
    """Look of one policy and learner, the same in every figure."""

    label: str
    color: str
    marker: str

    def handle(self) -> Line2D:
        """Return the legend entry."""
        return Line2D([], [], color=self.color, marker=self.marker, markersize=5, label=self.label)


def styles_of(manifest: Manifest) -> dict[LineKey, Style]:
    """Return the style of each policy and learner of a run.

    A registered policy has the same color in every run. In a run with a single policy the colors
    distinguish learners instead.
    """
    keys = list(dict.fromkeys((s.policy, s.learner) for s in manifest.cells.values()))
    order = list(dict.fromkeys([*policies.names(), *(policy for policy, _ in keys)]))
    learners = list(dict.fromkeys(learner for _, learner in keys))
    one_policy = len({policy for policy, _ in keys}) == 1 and len(learners) > 1
    styles = {}
    for policy, learner in keys:
        color = learners.index(learner) if one_policy else order.index(policy)
        styles[policy, learner] = Style(
            printable(f"{policy}, {learner}" if len(learners) > 1 else policy),
            PALETTE[color % len(PALETTE)],
            MARKERS[learners.index(learner) % len(MARKERS)],
        )
    return styles


@dataclass(frozen=True, slots=True)
class Panels:
    """A figure and the axes on which each learner is drawn."""

    figure: Figure
    by_learner: dict[str, Axes]
    """The same axes for every learner unless ``split``."""

    @classmethod
    def create(cls, keys: Sequence[LineKey]) -> Panels:
        """Return empty axes for these lines: one pair, or one per learner for many lines."""
        learners = list(dict.fromkeys(learner for _, learner in keys))
        count = len(learners) if len(keys) > MAX_LINES else 1
        columns = min(MAX_COLUMNS, count)
        rows = -(-count // columns)
        size = (7.6, 4.8) if count == 1 else (3.3 * columns + 1.2, 2.7 * rows + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes: list[Axes] = []
        for index in range(1, count + 1):
            first = axes[0] if axes else None
            panel = figure.add_subplot(rows, columns, index, sharex=first, sharey=first)
            panel.grid(True, color="0.9", linewidth=0.8)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
            panel.yaxis.set_major_locator(MaxNLocator(8))
            axes.append(panel)
        return cls(figure, dict(zip(learners, itertools.cycle(axes), strict=False)))

    @property
    def axes(self) -> tuple[Axes, ...]:
        """Every pair of axes once, in order."""
        return tuple(dict.fromkeys(self.by_learner.values()))

    @property
    def split(self) -> bool:
        """Whether every learner has its own panel."""
        return len(self.axes) > 1

    def label(self, x: str, y: str) -> None:
        """Label the axes, once for all panels."""
        if not self.split:
            self.axes[0].set_xlabel(x)
            self.axes[0].set_ylabel(y)
            return
        for axes in self.axes[-MAX_COLUMNS:]:  # the panels with nothing below them
            axes.set_xlabel(x.partition(" (")[0], fontsize=9)
        self.figure.supylabel(y, fontsize=10)

    def finish(self, table: Comparison, dist: str, note: str, measure: Measure = RETURN) -> None:
        """Add titles and reference lines, which are named at the right of each row of panels."""
        right = self.axes[MAX_COLUMNS - 1 :: MAX_COLUMNS] or self.axes[-1:]
        for axes in self.axes:
            _draw_references(axes, table, dist, measure, named=axes in right)
        title = printable(f"{dist}{'  (INCOMPLETE)' if table.missing else ''}")
        if self.split:
            for learner, axes in self.by_learner.items():
                axes.set_title(printable(learner), loc="left", fontsize=10, parse_math=False)
            text = f"{title}      {note}"
            self.figure.suptitle(text, x=0.02, ha="left", fontsize=10, parse_math=False)
        else:
            self.axes[0].set_title(title, loc="left", fontsize=11, parse_math=False)
            self.axes[0].set_title(note, loc="right", fontsize=8, color="0.4")

    def add_legend(self, styles: Mapping[LineKey, Style], extra: Sequence[Line2D] = ()) -> None:
        """Add a legend below the figure; in split panels it names policies only."""
        if self.split:
            colors = {policy: style.color for (policy, _), style in styles.items()}
            shown = [Style(printable(name), color, "o") for name, color in colors.items()]
        else:
            shown = list(styles.values())
        handles = [*(style.handle() for style in shown), *extra]
        longest = max(len(str(line.get_label())) for line in handles)
        width = INCHES_PER_LETTER * longest + INCHES_PER_HANDLE
        fitting = int(self.figure.get_figwidth() / width)
        columns = max(1, min(6 if self.split else 4, len(handles), fitting))
        self.figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False
        )


def _draw_references(
    axes: Axes, table: Comparison, dist: str, measure: Measure, *, named: bool
) -> None:
    frame = table.frame
    lines = frame[(frame["learner"] == REFERENCE) & (frame["task_dist"] == dist)]
    column = f"{measure.column}_0"
    values = {str(row["policy"]): measure.unit * row[column] for row in lines.to_dict("records")}
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    for value in values.values():
        axes.axhline(value, color="0.45", linestyle=":", linewidth=1.3, zorder=1)
    axes.margins(y=0.06)
    axes.autoscale_view()
    bottom, top = axes.get_ylim()
    for name, height in spread(values, 0.045 * (top - bottom)).items() if named else ():
        axes.text(
            1.01, height, printable(name), transform=axes.get_yaxis_transform(), va="center",
            fontsize=8, color="0.35", parse_math=False,
        )  # fmt: skip


def spread(values: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return label heights in the order of ``values``, at least ``gap`` apart."""
    heights: dict[str, float] = {}
    previous = -math.inf
    for name, value in sorted(values.items(), key=lambda item: (item[1], item[0])):
        previous = heights[name] = max(value, previous + gap)
    return heights


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()
