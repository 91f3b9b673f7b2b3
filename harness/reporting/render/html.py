"""Runs as one HTML page that needs no other file: tables that sort, figures, tasks, faults.

The same files of the runs give the same bytes. Names, labels and reasons may come from strangers:
the template escapes them all, and the page's content security policy runs no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
import pandas as pd
from matplotlib.ticker import EngFormatter

from harness.reporting.render.across import across_caption, across_grids, across_title
from harness.reporting.render.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    Chart,
    Line,
    chart,
)
from harness.reporting.render.paired import task_parameter
from harness.reporting.render.panels import MAX_LINES
from harness.reporting.render.style import MARKERS, Style, marker_path, styles_of
from harness.reporting.render.tables import (
    Grid,
    decimals,
    estimate_cell,
    grids,
    is_warning,
    reference_heights,
    row_label,
    rows_of,
    shot_label,
)
from harness.reporting.stats.across import Across
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.scores import of_row
from harness.reporting.store.manifest import Manifest
from harness.reporting.text import DASH, duration, printable, short_count, span
from harness.types import REFERENCE, Metrics

FOLDER = Path(__file__).parent
"""Where the template, its style and its script are."""
MAX_EVENTS = 300
"""Events listed; all are counted."""
MAX_TASKS = 100
"""With more tasks than this, they are listed and not drawn."""
MAX_MEDIA_BYTES = 5_000_000
"""Pictures and films of a page, before base64; those beyond it are named instead."""


@dataclass(frozen=True, slots=True)
class Section:
    """One table of a run and what is drawn and listed beside it."""

    table: Comparison
    manifest: Manifest
    """Of the table's cells alone."""
    curves: Mapping[str, Sequence[Metrics]]
    """Learning curve by cell."""


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or a film of a run."""

    name: str
    """Path in the run's folder."""
    caption: str
    kind: str
    """MIME type."""
    data: bytes


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a page shows of one run besides its tables."""

    name: str
    manifest: Manifest
    events: tuple[Mapping[str, Any], ...] = ()


def to_html(
    sections: Sequence[Section],
    runs: Sequence[RunReport],
    across: Sequence[Across] = (),
    media: Sequence[Media] = (),
) -> str:
    """Return the page of one run, or of several runs that share tables.

    Args:
        sections: the tables, each with the cells and curves it is made from.
        runs: the runs that the tables are made from.
        across: aggregates over several tables.
        media: pictures and films.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    script, style = ((FOLDER / f"report.{kind}").read_text("utf-8") for kind in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = [_run(f"run{number}", run) for number, run in enumerate(runs, 1)]
    return environment.get_template("report.html.j2").render(
        title=", ".join(run.name for run in runs),
        sections=[_section(f"table{number}", part) for number, part in enumerate(sections, 1)],
        across=[
            {
                "title": across_title(part),
                "grids": across_grids(part),
                "caption": across_caption(part),
            }
            for part in across
        ],
        runs=shown,
        media=list(_media(media)),
        invalid=list(_invalid(sections)),
        markers=list(map(marker_path, MARKERS)),
        script=script,
        script_hash=digest,
        style=style,
        box={
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bottom": HEIGHT - BOTTOM,
        },
        is_warning=is_warning,
    )


def _run(key: str, run: RunReport) -> dict[str, Any]:
    """Return what the template shows of one run."""
    manifest = run.manifest
    return {
        "id": key,
        "name": run.name,
        "facts": dict(_facts(manifest)),
        "cells": _cell_grid(manifest),
        "faults": _faults(manifest),
        "kinds": Counter(str(event.get("kind", "?")) for event in run.events),
        "events": [_event_row(event) for event in run.events[-MAX_EVENTS:]],
        "settings": {
            "Settings as given": _json_lines(manifest.given),
            "Settings of the first cell as resolved": _json_lines(manifest.config),
            "Scheduling": _json_lines(manifest.scheduling),
            "Versions": _json_lines(manifest.packages),
            "Host": _json_lines(manifest.host),
        },
    }


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what the overview says of a run: a term and its text."""
    cells = manifest.cells.values()
    states = Counter(cell.status for cell in cells)
    yield "Cells", ", ".join(f"{count} {status}" for status, count in sorted(states.items()))
    dists = (dist.versioned_name for dist in manifest.distributions)
    yield "Task distributions", ", ".join(dict.fromkeys(dists))
    yield "Policies", ", ".join(dict.fromkeys(cell.policy for cell in cells))
    yield "Learners", ", ".join(dict.fromkeys(cell.learner for cell in cells))
    yield "Seeds", ", ".join(map(str, manifest.seeds))
    yield "Created", manifest.created
    yield "Git revision", "unknown" if manifest.git is None else manifest.git.short
    yield "Configuration", manifest.config_hash[:12]
    yield "Command", shlex.join(manifest.command)


def _section(key: str, part: Section) -> dict[str, Any]:
    """Return what the template shows of one table."""
    table, found = part.table, grids(part.table)
    charts = [*_adaptation_charts(part), *_learning_charts(part)]
    return {
        "id": key,
        "title": table.title,
        "caption": table.caption,
        "charts": charts,
        "grids": [grid for grid in found if not grid.files_only],
        "large_grids": [grid for grid in found if grid.files_only],
        "tasks": [
            {"split": split.split, "rows": list(_task_rows(split, part.manifest))}
            for split in table.splits
        ],
    }


def _adaptation_charts(part: Section) -> Iterator[Chart]:
    """Yield return (and success) against shots with intervals, for every split."""
    if len(part.table.shots) < 2:
        return
    for table in part.table.splits:
        yield from _against_shots(part, table, "return", "return", 1.0)
        if table.has_success:
            yield from _against_shots(part, table, "success", "success rate (%)", 100.0)


def _against_shots(
    part: Section, table: Comparison, column: str, label: str, unit: float
) -> Iterator[Chart]:
    shots = table.shots
    competing = table.frame[(table.frame["learner"] != REFERENCE) & (table.frame["seeds"] > 0)]
    every = rows_of(competing)
    styles = styles_of([(row["policy"], row["learner"]) for row in every])
    for learner, rows in _panels(every):
        gap = min(0.012 * shots[-1], 0.5 / len(rows))
        lines = []
        for index, row in enumerate(rows):
            style = styles[row["policy"], row["learner"]]
            ends = [
                (unit * row[f"{column}_{count}_low"], unit * row[f"{column}_{count}_high"])
                for count in shots
            ]
            shift = gap * (index - (len(rows) - 1) / 2)
            name = ", ".join(filter(None, row_label(row)))
            texts = [_estimate_text(row, f"{column}_{count}", unit) for count in shots]
            tips = [
                f"{name}: {text} after {shot_label(k)}"
                for text, k in zip(texts, shots, strict=True)
            ]
            points = [(count + shift, unit * row[f"{column}_{count}"]) for count in shots]
            lines.append(_seed_dots(table, row, column, unit, style, shift))
            lines.append(Line(style.label, style.color, points, tips, ends, marker=style.marker))
        axes = Axes(
            title=f"{table.task_dist} {learner}by shots",
            x_label="shots (adaptation steps, each on new support episodes)",
            y_label=f"{label} on {table.split} tasks",
            note="small dots: seeds; bars: 95 % intervals",
            x_ticks=shots,
        )
        found = chart(axes, lines, reference_heights(table, column, unit))
        yield from [found] if found else []


def _seed_dots(
    table: Comparison, row: Mapping[str, Any], column: str, unit: float, style: Style, shift: float
) -> Line:
    """Return a dot for every seed and number of shots of a row."""
    own = of_row(table.seed_scores, row)
    scored = [(seed["shots"], unit * seed[column], seed["seed"]) for seed in rows_of(own)]
    tips = [
        f"{style.label}, seed {seed}: {y:.{decimals([y])}f} after {shot_label(count)}"
        for count, y, seed in scored
    ]
    points = [(count + shift, y) for count, y, _ in scored]
    return Line(style.label, style.color, points, tips, marker=style.marker, joined=False)


def _panels(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield learner (in brackets; '' for all) and rows of each chart."""
    if len({(row["policy"], row["learner"]) for row in rows}) <= MAX_LINES:
        yield "", list(rows)
        return
    for learner in dict.fromkeys(row["learner"] for row in rows):
        yield f"({learner}) ", [row for row in rows if row["learner"] == learner]


def _estimate_text(row: Mapping[str, Any], name: str, unit: float) -> str:
    scaled = {key: unit * row[key] for key in (name, f"{name}_low", f"{name}_high")}
    return " ".join(filter(None, estimate_cell(scaled, name, decimals([scaled[name]]))))


def _learning_charts(part: Section) -> Iterator[Chart]:
    """Yield return against steps of training, on training and on validation tasks."""
    cells: list[dict[str, Any]] = [
        {
            "task_dist": cell.task_dist,
            "policy": cell.policy,
            "learner": cell.learner,
            "key": key,
            "cell": cell,
        }
        for key, cell in part.manifest.cells.items()
        if cell.status != "failed" and part.curves.get(key)
    ]
    styles = styles_of([(entry["policy"], entry["learner"]) for entry in cells])
    for learner, shown in _panels(cells):
        for tasks, series in (("training", _in_training), ("validation", _on_validation)):
            lines = [
                line
                for entry in shown
                for line in _curve_lines(
                    styles[entry["policy"], entry["learner"]],
                    entry["cell"].seed,
                    series(part.curves[entry["key"]]),
                )
            ]
            dashed = any(line.dashed for line in lines)
            axes = Axes(
                title=f"{part.table.task_dist} {learner}in training",
                x_label="environment steps of training",
                y_label=f"return on {tasks} tasks",
                note="a line per seed" + "; dashed: before adaptation" * dashed,
                x_text=EngFormatter(sep="").format_eng,
                dots=False,
            )
            found = chart(axes, lines, reference_heights(part.table, "return", 1.0))
            yield from [found] if found else []


Curves: TypeAlias = dict[str, list[tuple[float, float]]]
"""When it was measured -> return at environment steps; the last entry is after adaptation."""


def _in_training(curve: Sequence[Metrics]) -> Curves:
    """Return the returns of training episodes, once where adaptation changes nothing."""
    found = {
        "before adaptation": [(float(row.env_steps), row.pre_return) for row in curve],
        "after adaptation": [(float(row.env_steps), row.post_return) for row in curve],
    }
    if all(_same(row.pre_return, row.post_return) for row in curve):
        del found["before adaptation"]
    return found


def _on_validation(curve: Sequence[Metrics]) -> Curves:
    """Return the returns on validation tasks after no shot and after the most."""
    counts = sorted(
        {int(name[7:]) for row in curve for name in row.validation if name.startswith("return_")}
    )
    return {
        f"on validation tasks after {shot_label(count)}": [
            (float(row.env_steps), row.validation[f"return_{count}"])
            for row in curve
            if f"return_{count}" in row.validation
        ]
        for count in dict.fromkeys((*counts[:1], *counts[-1:]))
    }


def _curve_lines(style: Style, seed: int, curves: Curves) -> Iterator[Line]:
    """Yield the lines of one cell."""
    for place, (when, points) in enumerate(curves.items(), 1):
        tips = [
            f"{style.label}, seed {seed}: {y:.{decimals([y])}f} {when}, {short_count(x)} steps"
            for x, y in points
        ]
        dashed = place < len(curves)
        yield Line(style.label, style.color, points, tips, dashed=dashed, marker=style.marker)


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _task_rows(table: Comparison, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield label, grid and chart of every row: its return on each task by shots."""
    scores = table.task_scores
    names = sorted(set(scores["task"]), key=_natural)
    parameter = what, values = task_parameter(table, manifest)
    for row in rows_of(table.frame):
        own = of_row(scores, row)
        if own.empty:
            continue
        means: pd.DataFrame = own.groupby(["task", "shots"])["return"].mean().unstack("shots")
        means = means.loc[names]
        digits = decimals(means.to_numpy().ravel().tolist())
        label = ", ".join(filter(None, row_label(row)))
        cells = [
            (
                (str(name), ""),
                *(((f"{values[name]:.3g}", ""),) if values else ()),
                *((f"{value:.{digits}f}", "") for value in line),
            )
            for name, line in zip(names, means.to_numpy(), strict=True)
        ]
        shown = [what] * bool(values) + [shot_label(int(count)) for count in means.columns]
        header = (("task", ""), *((text, "") for text in shown))
        seeds = span([own["seed"].nunique()], "seed")
        title = f"{label}: return on each {table.split} task, mean of {seeds}"
        yield {
            "label": label,
            "grid": Grid(title, header, tuple(cells)),
            "chart": _task_chart(label, table, means, parameter),
        }


def _natural(name: str) -> list[tuple[int, str]]:
    """Return the key that puts test/2 before test/10."""
    return [
        (int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)
    ]


def _task_chart(
    label: str, table: Comparison, means: pd.DataFrame, parameter: tuple[str, Mapping[str, float]]
) -> Chart | None:
    """Return the return on each task before and after the most shots."""
    if len(means) > MAX_TASKS:
        return None
    name, values = parameter
    if not values:
        name, values = f"{table.split} task", {task: at for at, task in enumerate(means.index)}
    means = means.loc[sorted(means.index, key=lambda task: values[task])]
    lines = []
    colors = {int(means.columns[-1]): "#0072B2", int(means.columns[0]): "#777777"}
    for count, color in reversed(colors.items()):
        heights = means[count].tolist()
        points = [(values[task], y) for task, y in zip(means.index, heights, strict=True)]
        tips = [
            f"{task} ({name} {x:.3g}): {y:.4g} after {shot_label(count)}"
            for task, (x, y) in zip(means.index, points, strict=True)
        ]
        lines.append(Line(shot_label(count), color, points, tips))
    axes = Axes(f"{label}, task by task", name, "return", max_marks=MAX_TASKS)
    return chart(axes, lines, {})


def _cell_grid(manifest: Manifest) -> Grid:
    """Return every cell with what became of it."""
    names = ("status", "seed", "iterations", "wall time", "configuration", "revision", "reason")
    varying = list(dict.fromkeys(name for c in manifest.cells.values() for name in c.settings))
    rows = [
        (
            (key, ""),
            *((str(cell.settings.get(name, DASH)), "") for name in varying),
            (cell.status, ""),
            (str(cell.seed), ""),
            (str(cell.iterations), ""),
            (duration(cell.wall_seconds), ""),
            (cell.config_hash[:12], ""),
            (cell.revision[:12] or DASH, ""),
            (cell.reason or DASH, ""),
        )
        for key, cell in manifest.entries.items()
    ]
    header = [("cell", ""), *((name, "") for name in (*varying, *names))]
    return Grid("Cells", tuple(header), tuple(rows))


def _faults(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the cells without a result, each with the reason."""
    found = list(manifest.failures().items())
    found += [(key, f"stopped: {manifest.cells[key].reason}") for key in manifest.ids("stopped")]
    found += [(key, "no result yet") for key in manifest.ids("pending", "running")]
    return found


def _invalid(sections: Sequence[Section]) -> Iterator[tuple[str, str]]:
    """Yield the rows with invalid episodes, and how many."""
    for part in sections:
        for table in part.table.splits:
            for row in rows_of(table.frame):
                if row.get("invalid_episodes", 0) > 0:
                    name = ", ".join(filter(None, row_label(row)))
                    count = f"{row['invalid_episodes']:.0f} invalid query episodes"
                    yield f"{name}, {table.split} tasks", count


def _event_row(event: Mapping[str, Any]) -> tuple[str, str, str]:
    rest = {key: value for key, value in event.items() if key not in ("time", "kind")}
    text = ", ".join(f"{key} {value}" for key, value in rest.items())
    return str(event.get("time", DASH)), str(event.get("kind", "?")), text[:500]


def _json_lines(value: Any) -> list[str]:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str).splitlines()


def _media(found: Sequence[Media]) -> Iterator[dict[str, str]]:
    """Yield pictures and films as data URLs, as long as they fit into the page."""
    room = MAX_MEDIA_BYTES
    for media in found:
        room -= len(media.data)
        data = base64.b64encode(media.data).decode() if room >= 0 else ""
        yield {
            "name": media.name,
            "caption": media.caption,
            "kind": media.kind.partition("/")[0],
            "url": f"data:{media.kind};base64,{data}" if data else "",
        }
