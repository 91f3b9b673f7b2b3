"""Figures of a run as PNG and PDF: learning, adaptation, task parameter, differences, classes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import offset_copy

from harness.errors import UsageError
from harness.reporting.render.paired import differences_figure, parameter_figure
from harness.reporting.render.panels import RETURN, SUCCESS, Measure, Panels
from harness.reporting.render.style import SETTINGS, LineKey, Style, save, styles_of
from harness.reporting.render.success import class_success
from harness.reporting.render.tables import rows_of, shot_label
from harness.reporting.stats.comparison import FLAT, Comparison
from harness.reporting.stats.scores import of_row
from harness.reporting.store.manifest import Manifest
from harness.reporting.text import span
from harness.types import REFERENCE, Metrics

Point: TypeAlias = tuple[float, float, float | None]
"""Environment steps, return after and return before adaptation."""
VISIBLE = 0.02
"""Smallest mean distance of two lines that are both drawn, as a part of the height they span."""


def write_figures(
    table: Comparison,
    manifest: Manifest,
    curves: Mapping[str, Sequence[Metrics]],
    folder: Path,
) -> None:
    """Write every figure there is data for into ``folder``."""
    with mpl.rc_context(SETTINGS):
        for name, draw in _figures(table, manifest, curves):
            if (drawn := draw()) is not None:
                save(drawn, folder / name)


def figure(
    wanted: str, table: Comparison, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Figure:
    """Return the figure of this name.

    Raises:
        UsageError: there is none, or no data for it; names those that there are.
    """
    found = dict(_figures(table, manifest, curves))
    with mpl.rc_context(SETTINGS):
        drawn = found[wanted]() if wanted in found else None
        if drawn is None:
            names = ", ".join(name for name, draw in found.items() if draw() is not None)
            raise UsageError(f"no figure {wanted!r} can be drawn of this run; choose from: {names}")
    return drawn


def _figures(
    table: Comparison, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """Yield the name of each figure, and what draws it or returns None without data."""
    yield "learning_curves", partial(learning_curves, table, manifest, curves)
    yield "validation_curves", partial(validation_curves, table, manifest, curves)
    for part in table.splits:
        suffix = "" if part is table else f".{part.split}"
        yield f"adaptation_curve{suffix}", partial(adaptation_curve, part)
        yield f"test_steps{suffix}", partial(steps_curve, part)
        yield f"first_episodes{suffix}", partial(first_episodes, part)
        yield f"task_parameter{suffix}", partial(parameter_figure, part, manifest)
        yield f"differences{suffix}", partial(differences_figure, part)
        if part.has_success:
            yield f"success_curve{suffix}", partial(adaptation_curve, part, SUCCESS)
            yield f"class_success{suffix}", partial(class_success, part)


def learning_curves(
    table: Comparison, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Figure | None:
    """Draw return on the training tasks just drawn against environment steps of training.

    None without a curve.
    """
    groups = dict(_curve_groups(manifest, curves, _training_points))
    names = ("after adaptation", "before adaptation")
    return _draw_curves(table, groups, "return of training episodes", names)


def validation_curves(
    table: Comparison, manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> Figure | None:
    """Draw return on validation tasks, after the most shots, against environment steps of training.

    None if they were not scored while training.
    """
    groups = dict(_curve_groups(manifest, curves, _validation_points))
    names = (shot_label(table.shots[-1]), "0 shots")
    return _draw_curves(table, groups, "return on validation tasks", names)


def _draw_curves(
    table: Comparison,
    groups: Mapping[LineKey, np.ndarray],
    label: str,
    names: tuple[str, str],
) -> Figure | None:
    """Draw a line per policy and learner from [seeds, points, 3]: steps, after and before."""
    if not groups:
        return None
    panels, styles = Panels.create(list(groups)), styles_of(list(groups))
    adapts = False
    for key, points in groups.items():
        adapts |= _draw_curve(panels.by_learner[key[1]], styles[key], points)
    panels.axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels.label("environment steps (of training)", label)
    counts = [len(points) for points in groups.values()]
    what = "lines: mean of the seeds, thin lines: each seed" if max(counts) > 1 else "lines"
    note = f"{what} ({span(counts, 'seed')}); dotted: {table.split} tasks"
    extra = [
        Line2D([], [], color="0.35", linestyle=style, label=text)
        for style, text in zip(("-", "--"), names, strict=True)
    ]
    panels.finish(table, note)
    panels.add_legend(styles, extra if adapts else ())
    return panels.figure


def _draw_curve(axes: Axes, style: Style, points: np.ndarray) -> bool:
    """Draw the line after adaptation, and dashed the one before if it differs; return that."""
    x, post, pre = np.moveaxis(points, -1, 0)
    every = max(1, x.shape[1] // 8)
    for line in range(len(post)) if len(post) > 1 else ():
        axes.plot(x[line], post[line], color=style.color, linewidth=0.5, alpha=0.45)
    mean = x.mean(axis=0)
    look = style.look | {"markersize": 4, "markevery": every}
    axes.plot(mean, post.mean(axis=0), linewidth=1.5, **look)
    height = np.nanmax(post) - np.nanmin(post)
    if not np.nanmean(np.abs(pre - post)) > VISIBLE * height:
        return False
    axes.plot(mean, pre.mean(axis=0), color=style.color, linestyle="--", linewidth=1.0)
    return True


def _curve_groups(
    manifest: Manifest,
    curves: Mapping[str, Sequence[Metrics]],
    points_of: Callable[[Sequence[Metrics]], list[Point]],
) -> Iterator[tuple[LineKey, np.ndarray]]:
    """Yield the points [seeds, points, 3] of every policy and learner, without failed cells.

    Seeds are cut to the points they all have: a mean over a changing set of seeds would jump.
    """
    groups: dict[LineKey, list[list[Point]]] = {}
    for key, state in manifest.cells.items():
        if state.status != "failed":
            points = points_of(curves.get(key, ()))
            if points:
                groups.setdefault((state.policy, state.learner), []).append(points)
    for line, runs in groups.items():
        length = min(map(len, runs))
        yield line, np.array([run[:length] for run in runs], float)


def _training_points(curve: Sequence[Metrics]) -> list[Point]:
    return [(m.env_steps, m.post_return, m.pre_return) for m in curve]


def _validation_points(curve: Sequence[Metrics]) -> list[Point]:
    scored = [(m.env_steps, m.validation_return, m.validation.get("return_0")) for m in curve]
    return [(steps, after, before) for steps, after, before in scored if after is not None]


def adaptation_curve(table: Comparison, measure: Measure = RETURN) -> Figure | None:
    """Draw a measure against shots, with every seed; None if only one shot count was scored."""
    rows = _rows(table)
    if len(table.shots) < 2 or not rows:
        return None
    moving = [row for row in rows if row["adapter"] not in FLAT]
    panels, styles = _panels(rows, moving)
    offsets = _offsets([_key(row) for row in moving], table.shots, panels.split)
    for row in moving:
        shift = offsets[_key(row)]
        x = {count: count + shift for count in table.shots}
        _draw_row(panels.by_learner[row["learner"]], row, styles[_key(row)], x, table, measure)
    _draw_flat(panels, rows, styles, table, measure)
    panels.axes[0].set_xticks(table.shots, [str(count) for count in table.shots])
    panels.label(
        "shots (adaptation steps, each on new support episodes)",
        f"{measure.label} on {table.split} tasks",
    )
    panels.finish(table, interval_note(rows), measure)
    panels.add_legend(styles)
    return panels.figure


def steps_curve(table: Comparison) -> Figure | None:
    """Draw return against environment steps on the test task, one axis for every adapter.

    None if no row took any.
    """
    rows = _rows(table)
    names = [f"test_steps_{count}" for count in table.shots]
    moving = [row for row in rows if row["adapter"] not in FLAT and row[names[-1]] > 0]
    if not moving:
        return None
    panels, styles = _panels(rows, moving)
    positive = [row[name] for row in moving for name in names if row[name] > 0]
    panels.axes[0].set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    panels.axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    for row in moving:
        x = {count: row[f"test_steps_{count}"] for count in table.shots}
        _draw_row(panels.by_learner[row["learner"]], row, styles[_key(row)], x, table, RETURN)
    _draw_flat(panels, rows, styles, table, RETURN)
    panels.label(
        "steps on the task (environment steps before it is scored)",
        f"return on {table.split} tasks",
    )
    panels.finish(table, interval_note(rows), RETURN)
    panels.add_legend(styles)
    return panels.figure


def first_episodes(table: Comparison) -> Figure | None:
    """Draw reward per step within an episode, before and after the first shots.

    None if the records do not hold rewards.
    """
    rows = _rows(table)
    if table.rewards.empty or not rows:
        return None
    keys = [_key(row) for row in rows]
    panels, styles = Panels.create(keys), styles_of(keys)
    later = False
    for row in rows:
        shots = table.shots[:1] if row["adapter"] in FLAT else table.shots[:2]
        for count, line in zip(shots, ("-", "--"), strict=False):
            part = of_row(table.rewards[table.rewards["shots"] == count], row)
            means = part.groupby("step")["reward"].mean()
            look = styles[_key(row)].look | {"linestyle": line, "markevery": 4, "markersize": 4}
            panels.by_learner[row["learner"]].plot(means.index, means, linewidth=1.4, **look)
            later |= count > 0
    panels.label("step (within the episode)", f"reward per step on {table.split} tasks")
    note = f"first query episode of each task, mean of {span([r['seeds'] for r in rows], 'seed')}"
    panels.set_titles(table, note)
    names = [("-", "0 shots")]
    names += [("--", shot_label(table.shots[1]))] if later else []
    extra = [Line2D([], [], color="0.35", linestyle=line, label=text) for line, text in names]
    panels.add_legend(styles, extra if later else ())
    return panels.figure


def _rows(table: Comparison) -> list[dict[str, Any]]:
    frame = table.frame[table.frame["seeds"] > 0]
    return rows_of(frame[frame["learner"] != REFERENCE])


def _key(row: Mapping[str, Any]) -> LineKey:
    return str(row["policy"]), str(row["learner"])


def _panels(
    rows: Sequence[Mapping[str, Any]], moving: Sequence[Mapping[str, Any]]
) -> tuple[Panels, dict[LineKey, Style]]:
    panels = Panels.create([_key(row) for row in moving], flat=len(rows) - len(moving))
    return panels, styles_of([_key(row) for row in rows])


def _draw_row(
    axes: Axes,
    row: Mapping[str, Any],
    style: Style,
    places: Mapping[int, float],
    table: Comparison,
    measure: Measure,
) -> None:
    """Draw one row: mean and interval at each place, and a dot for each seed."""
    y, bars = _bars(row, list(places), measure)
    x = list(places.values())
    axes.errorbar(x, y, bars, capsize=2, linewidth=1.4, markersize=4.5, **style.look)
    # Beside the bar, whatever the scale of the axis.
    beside = offset_copy(axes.transData, axes.get_figure(root=True), x=5, units="points")
    for count, place in places.items():
        dots = _seed_values(table, row, count, measure)
        if len(dots) > 1:
            look: dict[str, Any] = {"alpha": 0.6, "markersize": 4, "transform": beside}
            axes.plot([place] * len(dots), dots, ".", color=style.color, **look)


def _draw_flat(
    panels: Panels,
    rows: Sequence[Mapping[str, Any]],
    styles: Mapping[LineKey, Style],
    table: Comparison,
    measure: Measure,
) -> None:
    """Draw the rows that score the same at every number of shots, once, beside each other."""
    if panels.flat is None:
        return
    flat = [row for row in rows if row["adapter"] in FLAT]
    for place, row in enumerate(flat):
        _draw_row(panels.flat, row, styles[_key(row)], {0: float(place)}, table, measure)
    panels.flat.set_xticks([])
    panels.flat.set_xlim(-0.6, len(flat) - 0.4)
    panels.flat.tick_params(labelleft=panels.split)


def _bars(
    row: Mapping[str, Any], counts: Sequence[int], measure: Measure
) -> tuple[np.ndarray, np.ndarray]:
    """Return means [K] and the lengths [2, K] of their intervals."""
    y, low, high = (
        measure.unit * np.array([row[f"{measure.column}_{count}{end}"] for count in counts], float)
        for end in ("", "_low", "_high")
    )
    return y, np.maximum(np.nan_to_num(np.stack([y - low, high - y])), 0.0)


def _seed_values(
    table: Comparison, row: Mapping[str, Any], shots: int, measure: Measure
) -> list[float]:
    lines = of_row(table.seed_scores[table.seed_scores["shots"] == shots], row)
    values: list[float] = (measure.unit * lines[measure.column]).tolist()
    return values


def interval_note(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Return what is drawn, over how many seeds."""
    counts = [int(row["seeds"]) for row in rows]
    if max(counts) < 2:
        return "mean over tasks of one seed; no interval"
    return f"mean of {span(counts, 'seed')}, bars: 95 % interval (Student's t), dots: seeds"


def _offsets(keys: Sequence[LineKey], shots: Sequence[int], split: bool) -> dict[LineKey, float]:
    """Return a small shift along the x-axis for every line, so that bars do not overlap."""
    neighbors = {key: key[:1] if split else key for key in keys}
    order = list(dict.fromkeys(neighbors.values()))
    gap = min(b - a for a, b in itertools.pairwise(shots))
    step = min(0.02 * shots[-1], 0.6 * gap / max(1, len(order)))
    center = (len(order) - 1) / 2
    return {key: step * (order.index(neighbors[key]) - center) for key in keys}
