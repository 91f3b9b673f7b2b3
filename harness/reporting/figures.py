"""Learning curves, adaptation curves and success per class of a run, as PNG."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from harness.reporting.aggregate import REFERENCE, Comparison
from harness.reporting.blocks import clean
from harness.reporting.class_figure import class_success
from harness.reporting.files import write_atomically
from harness.reporting.manifest import Manifest
from harness.reporting.styles import Style, handle, styles_of
from harness.types import Metrics

DPI = 150


@dataclass(frozen=True, slots=True)
class Measure:
    """What an adaptation curve shows."""

    column: str
    label: str
    unit: float = 1.0
    """Factor from the table's number to the one shown."""


RETURN = Measure("return", "return")
SUCCESS = Measure("success", "success rate (%)", 100.0)
FIGURES = ("learning_curves", "adaptation_curve", "success_curve", "class_success")


def write_figures(
    table: Comparison,
    manifest: Manifest,
    curves: Mapping[str, Sequence[Metrics]],
    folder: Path,
) -> tuple[Path, ...]:
    """Write the figures there is data for into ``folder``; return their paths."""
    folder.mkdir(exist_ok=True)
    for name in FIGURES:  # a figure of older records must not outlive them
        for path in (*folder.glob(f"{name}.png"), *folder.glob(f"{name}.*.png")):
            path.unlink()
    written = []
    for dist in manifest.distributions:
        drawn = {"learning_curves": learning_curves(dist.name, table, manifest, curves)}
        for part in table.splits:
            mark = "" if part is table else f".{part.split}"
            drawn[f"adaptation_curve{mark}"] = adaptation_curve(dist.name, part, manifest)
            if part.has_success:
                drawn[f"success_curve{mark}"] = adaptation_curve(dist.name, part, manifest, SUCCESS)
                drawn[f"class_success{mark}"] = class_success(dist.name, part)
        for name, figure in drawn.items():
            several = len(manifest.distributions) > 1
            path = folder / (f"{name}.{dist.name}.png" if several else f"{name}.png")
            if figure is not None:
                write_atomically(path, _png(figure))
                written.append(path)
    return tuple(written)


def learning_curves(
    dist: str, table: Comparison, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Figure | None:
    """Draw return against environment steps of training; None without a curve."""
    lines = list(_grouped_curves(dist, manifest, curves))
    if not lines:
        return None
    figure, axes = _canvas()
    styles = styles_of(manifest)
    adapts = False
    for key, group in lines:
        style, x = styles[key], group["env_steps"].mean(axis=0)
        adapts |= _draw_curve(axes, style, x, group)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps of training")
    axes.set_ylabel("mean return of training episodes")
    handles = [handle(styles[key]) for key, _ in lines]
    if adapts:
        handles += [
            Line2D([], [], color="0.35", linestyle="-", label="after adaptation"),
            Line2D([], [], color="0.35", linestyle="--", label="before adaptation"),
        ]
    several = any(len(group["post_return"]) > 1 for _, group in lines)
    band = "band: all seeds; " if several else ""
    _finish(figure, axes, handles, table, dist, f"{band}dotted lines: {table.split} tasks")
    return figure


def _draw_curve(axes: Axes, style: Style, x: np.ndarray, group: Mapping[str, np.ndarray]) -> bool:
    """Draw one line, a dashed one too where adaptation makes a difference; return whether so."""
    post, pre = group["post_return"], group["pre_return"]
    every = max(1, len(x) // 8)
    look: dict[str, Any] = {"color": style.color, "marker": style.marker, "markevery": every}
    axes.plot(x, post.mean(axis=0), linewidth=1.8, markersize=4.5, **look)
    if len(post) > 1:
        axes.fill_between(
            x, post.min(axis=0), post.max(axis=0), color=style.color, alpha=0.15, linewidth=0
        )
    if np.array_equal(pre, post, equal_nan=True):
        return False
    axes.plot(x, pre.mean(axis=0), color=style.color, linestyle="--", linewidth=1.2)
    return True


def adaptation_curve(
    dist: str, table: Comparison, manifest: Manifest, measure: Measure = RETURN
) -> Figure | None:
    """Draw a measure against shots with intervals; None where only one number was scored."""
    frame = table.frame[(table.frame["task_dist"] == dist) & (table.frame["seeds"] > 0)]
    rows = frame[frame["learner"] != REFERENCE].to_dict("records")
    if len(table.shots) < 2 or not rows:
        return None
    figure, axes = _canvas()
    styles = styles_of(manifest)
    gap = min(b - a for a, b in itertools.pairwise(table.shots))
    dodge = min(0.012 * table.shots[-1], 0.5 * gap / len(rows))
    for place, row in enumerate(rows):
        style = styles[(row["policy"], row["learner"])]
        x = np.array(table.shots) + dodge * (place - (len(rows) - 1) / 2)
        y, low, high = (
            measure.unit
            * np.array([row[f"{measure.column}_{count}{part}"] for count in table.shots], float)
            for part in ("", "_low", "_high")
        )
        # A percentile interval may leave its point estimate out by a hair; bars have no sign.
        bars = np.maximum(np.nan_to_num(np.stack([y - low, high - y])), 0.0)
        look: dict[str, Any] = {"color": style.color, "marker": style.marker}
        axes.errorbar(x, y, bars, capsize=3, linewidth=1.8, markersize=5, **look)
    axes.set_xticks(table.shots, [str(count) for count in table.shots])
    axes.set_xlabel("shots (adaptation steps, each on its own support episodes)")
    axes.set_ylabel(f"{measure.label} on {table.split} tasks")
    handles = [handle(styles[(row["policy"], row["learner"])]) for row in rows]
    _finish(figure, axes, handles, table, dist, "bars: 95 % interval", measure)
    return figure


def _grouped_curves(
    dist: str, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Iterator[tuple[tuple[str, str], dict[str, np.ndarray]]]:
    """Yield (policy, learner) and its columns [seeds, iterations], failed cells left out.

    Seeds are cut to the iterations they all have: a mean over changing seeds would jump.
    """
    groups: dict[tuple[str, str], list[Sequence[Metrics]]] = {}
    for key, state in manifest.cells.items():
        if state.task_dist == dist and state.status != "failed" and curves.get(key):
            groups.setdefault((state.policy, state.learner), []).append(curves[key])
    for name, runs in groups.items():
        length = min(map(len, runs))
        columns = ("env_steps", "pre_return", "post_return")
        yield (
            name,
            {
                column: np.array([[getattr(m, column) for m in run[:length]] for run in runs])
                for column in columns
            },
        )


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(8))
    return figure, axes


def _finish(
    figure: Figure,
    axes: Axes,
    handles: Sequence[Line2D],
    table: Comparison,
    dist: str,
    note: str,
    measure: Measure = RETURN,
) -> None:
    _reference_lines(axes, table, dist, measure)
    mark = "  (INCOMPLETE)" if table.missing else ""
    axes.set_title(clean(f"{dist}{mark}"), loc="left", fontsize=11, parse_math=False)
    if note:
        axes.set_title(note, loc="right", fontsize=8, color="0.4")
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False
    )


def _reference_lines(axes: Axes, table: Comparison, dist: str, measure: Measure) -> None:
    frame = table.frame
    lines = frame[(frame["learner"] == REFERENCE) & (frame["task_dist"] == dist)]
    column = f"{measure.column}_0"
    values = {str(r["policy"]): measure.unit * r[column] for r in lines.to_dict("records")}
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    for value in values.values():
        axes.axhline(value, color="0.45", linestyle=":", linewidth=1.3, zorder=1)
    axes.margins(y=0.06)
    axes.autoscale_view()
    bottom, top = axes.get_ylim()
    for name, place in spread(values, 0.045 * (top - bottom)).items():
        axes.text(
            1.01, place, clean(name), transform=axes.get_yaxis_transform(), va="center",
            fontsize=8, color="0.35", parse_math=False,
        )  # fmt: skip


def spread(values: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return heights for labels of ``values``, in their order and at least ``gap`` apart."""
    places: dict[str, float] = {}
    previous = -math.inf
    for name, value in sorted(values.items(), key=lambda item: (item[1], item[0])):
        previous = places[name] = max(value, previous + gap)
    return places


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()
