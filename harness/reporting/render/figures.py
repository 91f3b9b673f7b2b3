"""Learning curves, adaptation curves and success per class of a run, as PNG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from harness.reporting.render.class_figure import class_success
from harness.reporting.render.panels import RETURN, SUCCESS, Measure, board
from harness.reporting.render.styles import Style, styles_of
from harness.reporting.stats.aggregate import REFERENCE, Comparison
from harness.reporting.store.files import write_atomically
from harness.reporting.store.manifest import Manifest
from harness.types import Metrics

DPI = 150


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
    drawn, every = board([key for key, _ in lines]), styles_of(manifest)
    styles = {key: every[key] for key, _ in lines}
    adapts = False
    for key, group in lines:
        x = group["env_steps"].mean(axis=0)
        adapts |= _draw_curve(drawn.panels[key[1]], styles[key], x, group)
    drawn.axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    drawn.label("environment steps of training", "mean return of training episodes")
    extra = []
    if adapts:
        extra = [
            Line2D([], [], color="0.35", linestyle="-", label="after adaptation"),
            Line2D([], [], color="0.35", linestyle="--", label="before adaptation"),
        ]
    several = any(len(group["post_return"]) > 1 for _, group in lines)
    band = "band: all seeds; " if several else ""
    note = f"{band}dotted lines: {table.split} tasks"
    drawn.finish(styles, table, dist, note, extra=extra)
    return drawn.figure


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
    pairs = [(row["policy"], row["learner"]) for row in rows]
    drawn, every = board(pairs), styles_of(manifest)
    styles = {pair: every[pair] for pair in pairs}
    gap = min(b - a for a, b in itertools.pairwise(table.shots))
    seats = _seats(pairs, split=drawn.split)
    crowd = max(seats.values()) + 1
    dodge = min(0.012 * table.shots[-1], 0.5 * gap / crowd)
    for pair, row in zip(pairs, rows, strict=True):
        style, axes = styles[pair], drawn.panels[pair[1]]
        x = np.array(table.shots) + dodge * (seats[pair] - (crowd - 1) / 2)
        y, low, high = (
            measure.unit
            * np.array([row[f"{measure.column}_{count}{part}"] for count in table.shots], float)
            for part in ("", "_low", "_high")
        )
        # A percentile interval may leave its point estimate out by a hair; bars have no sign.
        bars = np.maximum(np.nan_to_num(np.stack([y - low, high - y])), 0.0)
        look: dict[str, Any] = {"color": style.color, "marker": style.marker}
        axes.errorbar(x, y, bars, capsize=3, linewidth=1.8, markersize=5, **look)
    drawn.axes[0].set_xticks(table.shots, [str(count) for count in table.shots])
    drawn.label(
        "shots (adaptation steps, each on its own support episodes)",
        f"{measure.label} on {table.split} tasks",
    )
    drawn.finish(styles, table, dist, "bars: 95 % interval", measure)
    return drawn.figure


def _seats(pairs: Sequence[tuple[str, str]], *, split: bool) -> dict[tuple[str, str], int]:
    """Return the place of every line among those beside it, so that bars do not hide each other."""
    if not split:
        return {pair: place for place, pair in enumerate(pairs)}
    order = list(dict.fromkeys(policy for policy, _ in pairs))
    return {pair: order.index(pair[0]) for pair in pairs}


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


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()
