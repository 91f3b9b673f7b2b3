"""Line charts as geometry, which ``report.html.j2`` draws as inline SVG with text on hover."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from harness.reporting.render.panels import spread
from harness.reporting.render.style import MARKERS
from harness.reporting.text import printable

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 66, 122, 14, 48
LABEL_GAP = 17
"""Least distance between the names of two reference lines."""
MAX_VERTICES = 200
"""A longer line is drawn with every n-th of its points, and its last."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart, in the units of the data."""

    label: str
    """Name in the legend; lines of the same label share an entry."""
    color: str
    points: Sequence[tuple[float, float]]
    tips: Sequence[str]
    """One text per point, shown on hover."""
    bars: Sequence[tuple[float, float]] = ()
    """Lower and upper end of an interval per point; NaN for none."""
    dashed: bool = False
    marker: str = "o"
    """One of ``style.MARKERS``."""
    joined: bool = True
    """Whether a line joins the points; if not, they are drawn small."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a line, in pixels."""

    x: float
    y: float
    tip: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """A line in pixels."""

    series: int
    """Index of its legend entry."""
    color: str
    marker: int
    """Its place among ``style.MARKERS``."""
    dashed: bool
    vertices: str
    """The ``points`` attribute of a polyline; empty for separate points."""
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A grid line or a reference line with its label, in pixels."""

    at: float
    text: str
    text_at: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything to draw, in pixels of a ``WIDTH`` by ``HEIGHT`` box."""

    title: str
    note: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    references: tuple[Tick, ...]
    legend: tuple[tuple[str, str, int], ...]
    """Label, color and marker of every series."""
    paths: tuple[Path, ...]
    dots: bool
    """Whether the points with texts are drawn when the pointer is elsewhere."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Titles and ticks of a chart."""

    title: str
    x_label: str
    y_label: str
    note: str = ""
    x_ticks: Sequence[float] | None = None
    """Values to mark on the x-axis; round numbers if not given."""
    x_text: Callable[[float], str] = "{:g}".format
    max_marks: int = 40
    """Points of a line that show a text on hover."""
    dots: bool = True
    """Whether those points are drawn when the pointer is elsewhere."""


def chart(axes: Axes, lines: Sequence[Line], references: Mapping[str, float]) -> Chart | None:
    """Return the chart of the finite points of ``lines``; None if there are none.

    Args:
        axes: titles and ticks.
        lines: what is drawn, in order.
        references: name of a reference line -> its height.
    """
    finite = [point for line in lines for point in line.points if _finite(point)]
    if not finite:
        return None
    heights = [y for _, y in finite] + [y for y in references.values() if math.isfinite(y)]
    heights += [end for line in lines for bar in line.bars for end in bar if math.isfinite(end)]
    x_scale = _scale([x for x, _ in finite], LEFT + 10, WIDTH - RIGHT - 10)
    y_scale = _scale(heights, HEIGHT - BOTTOM, TOP, room=0.04)
    x_values = axes.x_ticks or _round_values([x for x, _ in finite])
    legend = list(dict.fromkeys(map(_entry, lines)))
    return Chart(
        title=axes.title,
        note=axes.note,
        x_label=axes.x_label,
        y_label=axes.y_label,
        x_ticks=tuple(Tick(x_scale(x), axes.x_text(x), x_scale(x)) for x in x_values),
        y_ticks=tuple(
            Tick(y_scale(y), f"{y:g}".replace("-", "−"), y_scale(y)) for y in _round_values(heights)
        ),
        references=_references(references, y_scale),
        legend=tuple(legend),
        dots=axes.dots,
        paths=tuple(
            _path(line, legend.index(_entry(line)), x_scale, y_scale, axes)
            for line in lines
            if any(map(_finite, line.points))
        ),
    )


def _entry(line: Line) -> tuple[str, str, int]:
    """Return the legend entry of a line."""
    return printable(line.label), line.color, MARKERS.index(line.marker)


def _references(
    references: Mapping[str, float], y_scale: Callable[[float], float]
) -> tuple[Tick, ...]:
    at = {name: y_scale(value) for name, value in references.items() if math.isfinite(value)}
    texts = spread(at, LABEL_GAP)
    return tuple(Tick(height, printable(name), texts[name]) for name, height in at.items())


def _path(
    line: Line,
    series: int,
    x_scale: Callable[[float], float],
    y_scale: Callable[[float], float],
    axes: Axes,
) -> Path:
    shown = [index for index, point in enumerate(line.points) if _finite(point)]
    drawn = [(x_scale(line.points[i][0]), y_scale(line.points[i][1])) for i in shown]
    marks = []
    for place in _every(len(shown), axes.max_marks if line.joined else MAX_VERTICES):
        low, high = line.bars[shown[place]] if line.bars else (math.nan, math.nan)
        ends = (y_scale(low), y_scale(high)) if _finite((low, high)) else (None, None)
        marks.append(Mark(*drawn[place], printable(line.tips[shown[place]]), *ends))
    joined = _every(len(shown), MAX_VERTICES) if line.joined else ()
    vertices = " ".join("{:g},{:g}".format(*drawn[place]) for place in joined)
    return Path(series, *_entry(line)[1:], line.dashed, vertices, tuple(marks))


def _every(count: int, most: int) -> list[int]:
    """Return evenly spaced indices below ``count``, at most about ``most``, with the last."""
    step = -(-count // most)
    return sorted({*range(0, count, step), count - 1})


def _scale(
    values: Sequence[float], start: float, end: float, room: float = 0.0
) -> Callable[[float], float]:
    """Return the map of the range of ``values``, with some room, to pixels."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 1, high + 1
    margin = room * (high - low)
    factor = (end - start) / (high - low + 2 * margin)
    return lambda value: round(start + (value - low + margin) * factor, 1)


def _round_values(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    if low == high:
        return [low]
    ticks = map(float, MaxNLocator(6).tick_values(low, high))
    return [0.0 if abs(tick) < 1e-12 else tick for tick in ticks if low <= tick <= high]


def _finite(values: tuple[float, float]) -> bool:
    return all(map(math.isfinite, values))
