"""What figures are drawn on: one pair of axes, or a panel per learner where lines would be many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.reporting.render.blocks import clean
from harness.reporting.render.styles import Style, handle
from harness.reporting.stats.aggregate import REFERENCE, Comparison

CROWD = 8
"""Most lines that can be told apart on one pair of axes."""
COLUMNS = 3
INCHES_PER_LETTER, INCHES_PER_HANDLE = 0.085, 0.6
"""What an entry of the legend takes, on the generous side."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a curve shows."""

    column: str
    label: str
    unit: float = 1.0
    """Factor from the table's number to the one shown."""


RETURN = Measure("return", "return")
SUCCESS = Measure("success", "success rate (%)", 100.0)


@dataclass(frozen=True, slots=True)
class Board:
    """A figure, and the axes each learner is drawn on."""

    figure: Figure
    panels: dict[str, Axes]
    """By learner; the same axes for all of them where they share one."""

    @property
    def axes(self) -> tuple[Axes, ...]:
        """Return every pair of axes once, in order."""
        return tuple(dict.fromkeys(self.panels.values()))

    @property
    def split(self) -> bool:
        """Whether every learner has a panel of its own."""
        return len(self.axes) > 1

    def label(self, x: str, y: str) -> None:
        """Name the axes, once."""
        if not self.split:
            self.axes[0].set_xlabel(x)
            self.axes[0].set_ylabel(y)
            return
        for axes in self.axes[-COLUMNS:]:  # nothing stands below them
            axes.set_xlabel(x.partition(" (")[0], fontsize=9)
        self.figure.supylabel(y, fontsize=10)

    def finish(
        self,
        styles: Mapping[tuple[str, str], Style],
        table: Comparison,
        dist: str,
        note: str,
        measure: Measure = RETURN,
        extra: Sequence[Line2D] = (),
    ) -> None:
        """Add title, reference lines and legend: of ``styles``, then ``extra``."""
        right = self.axes[COLUMNS - 1 :: COLUMNS] or self.axes[-1:]
        for axes in self.axes:
            _reference_lines(axes, table, dist, measure, named=axes in right)
        title = clean(f"{dist}{'  (INCOMPLETE)' if table.missing else ''}")
        if self.split:
            for learner, axes in self.panels.items():
                axes.set_title(clean(learner), loc="left", fontsize=10, parse_math=False)
            text = f"{title}      {note}"
            self.figure.suptitle(text, x=0.02, ha="left", fontsize=10, parse_math=False)
        else:
            self.axes[0].set_title(title, loc="left", fontsize=11, parse_math=False)
            self.axes[0].set_title(note, loc="right", fontsize=8, color="0.4")
        handles = [*self._handles(styles), *extra]
        self.figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=self._columns([str(line.get_label()) for line in handles]),
            frameon=False,
        )

    def _columns(self, labels: Sequence[str]) -> int:
        """Return how many of ``labels`` fit side by side below the figure."""
        each = INCHES_PER_LETTER * max(len(label) for label in labels) + INCHES_PER_HANDLE
        most = min(6 if self.split else 4, len(labels))
        return max(1, min(most, int(self.figure.get_figwidth() / each)))

    def _handles(self, styles: Mapping[tuple[str, str], Style]) -> list[Line2D]:
        if not self.split:
            return [handle(style) for style in styles.values()]
        colors = {policy: style.color for (policy, _), style in styles.items()}
        return [handle(Style(clean(policy), color, "o")) for policy, color in colors.items()]


def board(pairs: Sequence[tuple[str, str]]) -> Board:
    """Return an empty board for lines of these (policy, learner)."""
    learners = list(dict.fromkeys(learner for _, learner in pairs))
    count = len(learners) if len(pairs) > CROWD else 1
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    size = (7.6, 4.8) if count == 1 else (3.3 * columns + 1.2, 2.7 * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid: list[Axes] = []
    for place in range(1, count + 1):
        first = grid[0] if grid else None
        axes = figure.add_subplot(rows, columns, place, sharex=first, sharey=first)
        axes.grid(True, color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(8))
        grid.append(axes)
    return Board(
        figure, dict(zip(learners, grid if count > 1 else grid * len(learners), strict=True))
    )


def _reference_lines(
    axes: Axes, table: Comparison, dist: str, measure: Measure, *, named: bool
) -> None:
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
    for name, place in spread(values, 0.045 * (top - bottom)).items() if named else ():
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
