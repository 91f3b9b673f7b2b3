"""Axes of a figure: one pair, or one per learner, with reference lines and a legend below."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from harness.reporting.render.style import (
    LineKey,
    Style,
    headline,
    new_figure,
    plain,
    policy_colors,
)
from harness.reporting.render.tables import reference_heights
from harness.reporting.stats.comparison import Comparison
from harness.reporting.text import printable

MAX_LINES = 8
"""More lines than this on one pair of axes cannot be told apart; each learner gets a panel."""
MAX_COLUMNS = 3
MAX_LEGEND_ROWS = 4
INCHES_PER_LETTER, INCHES_PER_HANDLE = 0.068, 0.5
"""Upper estimates of the width of a legend entry."""
FLAT_TITLE = "no adaptation"
"""Title of the panel of rows that score the same at every number of shots."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The quantity on a figure's y-axis."""

    column: str
    label: str
    unit: float = 1.0
    """Factor from the table's number to the one drawn."""


RETURN = Measure("return", "return")
SUCCESS = Measure("success", "success rate (%)", 100.0)


@dataclass(frozen=True, slots=True)
class Panels:
    """A figure and the axes on which each learner is drawn."""

    figure: Figure
    by_learner: dict[str, Axes]
    """The same axes for every learner unless ``split``."""
    flat: Axes | None = None
    """Narrow axes at the right for rows that do not adapt."""

    @classmethod
    def create(cls, keys: Sequence[LineKey], flat: int = 0) -> Panels:
        """Return empty axes for these lines: one pair, or one per learner for many lines.

        Args:
            keys: the lines.
            flat: rows that do not adapt; they share one more pair of axes.
        """
        learners = list(dict.fromkeys(learner for _, learner in keys))
        count = max(1, len(learners)) if len(keys) > MAX_LINES else 1
        total = count + bool(flat) if count > 1 else 1
        columns = columns_of(total)
        rows = -(-total // columns)
        narrow = [1, min(0.5, 0.09 * flat + 0.07)] if flat and count == 1 else [1] * columns
        size = (6.4, 3.9) if count == 1 else (2.3 * columns + 0.8, 2.1 * rows + 0.7)
        figure = new_figure(*size)
        grid = figure.add_gridspec(rows, len(narrow), width_ratios=narrow)
        axes: list[Axes] = []
        for index in range(count + bool(flat)):
            first, last = (axes[0] if axes else None), bool(flat) and index == count
            panel = figure.add_subplot(
                grid[divmod(index, len(narrow))], sharex=None if last else first, sharey=first
            )
            plain(panel)
            panel.set_axisbelow(True)
            panel.yaxis.set_major_locator(MaxNLocator(8))
            axes.append(panel)
        own = axes[:count]
        by_learner = dict(zip(learners, itertools.cycle(own), strict=False)) or {"": own[0]}
        return cls(figure, by_learner, axes[count] if flat else None)

    @property
    def axes(self) -> tuple[Axes, ...]:
        """Every pair of axes once, in order, without that of flat rows."""
        return tuple(dict.fromkeys(self.by_learner.values()))

    @property
    def split(self) -> bool:
        """Whether every learner has its own panel."""
        return len(self.axes) > 1

    def label(self, x: str, y: str) -> None:
        """Label the axes; in split panels without what is in brackets."""
        if not self.split:
            self.axes[0].set_xlabel(x)
            self.axes[0].set_ylabel(y)
            return
        columns = columns_of(len(self.axes) + (self.flat is not None))
        for axes in self.axes[-columns:]:  # the panels with no other below them
            axes.set_xlabel(x.partition(" (")[0])
        self.figure.supylabel(y, fontsize=8)

    def finish(self, table: Comparison, note: str, measure: Measure = RETURN) -> None:
        """Add titles and reference lines, which are named at the right of each row of panels."""
        drawn = [*self.axes, *([self.flat] if self.flat is not None else [])]
        columns = columns_of(len(drawn)) if self.split else len(drawn)
        for index, axes in enumerate(drawn):
            outer = index % columns == columns - 1
            names = _draw_references(axes, table, measure, named=outer or axes is drawn[-1])
            for label in names if not outer else ():
                label.set_in_layout(False)  # it stands where the next panel would be
        self.set_titles(table, note)

    def set_titles(self, table: Comparison, note: str) -> None:
        """Write what is drawn above the figure, and in split panels the learner above each."""
        mark = " (INCOMPLETE)" if table.missing else ""
        if self.split:
            for learner, axes in self.by_learner.items():
                axes.set_title(printable(learner), loc="left", parse_math=False)
        if self.flat is not None:
            self.flat.set_title(FLAT_TITLE, loc="left", fontsize=8, color="0.3")
        text = printable(f"{table.task_dist}{mark}: {note}")
        headline(self.figure, text)

    def add_legend(self, styles: Mapping[LineKey, Style], extra: Sequence[Line2D] = ()) -> None:
        """Add a legend below the figure.

        In split panels, colors name policies and markers learners, each once.
        """
        add_legend(self.figure, [*legend_handles(styles, split=self.split), *extra])


def legend_handles(styles: Mapping[LineKey, Style], *, split: bool) -> list[Line2D]:
    """Return one entry per line; for split panels, one per policy and one per learner."""
    if not split:
        return [style.handle() for style in styles.values()]
    colors = policy_colors(policy for policy, _ in styles)
    learners = {learner: style for (_, learner), style in styles.items()}
    handles = [
        Line2D([], [], color=color, linewidth=3, label=printable(name))
        for name, color in colors.items()
    ]
    return handles + [
        style.handle(color="0.4", linestyle="none", label=printable(name))
        for name, style in learners.items()
    ]


def add_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Add a legend below ``figure`` of at most ``MAX_LEGEND_ROWS`` rows if the width allows it."""
    longest = max(len(str(line.get_label())) for line in handles)
    width = INCHES_PER_LETTER * longest + INCHES_PER_HANDLE
    fitting = max(1, int(figure.get_figwidth() / width))
    rows = -(-len(handles) // fitting)
    if rows > MAX_LEGEND_ROWS:  # long labels of many rows: smaller letters before more rows
        fitting = max(fitting, int(figure.get_figwidth() / (0.75 * width)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(fitting, len(handles)),
        frameon=False,
        fontsize=7.5 if rows <= MAX_LEGEND_ROWS else 5.5,
    )


def columns_of(panels: int) -> int:
    """Return the columns for a number of panels that leave no cell empty, if possible."""
    return 2 if panels == 4 else min(MAX_COLUMNS, panels)


def _draw_references(axes: Axes, table: Comparison, measure: Measure, *, named: bool) -> list[Text]:
    """Draw a dotted line for each reference; return the texts that name them at the right."""
    values = reference_heights(table, measure.column, measure.unit)
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    for value in values.values():
        axes.axhline(value, color="0.45", linestyle=":", linewidth=1.1, zorder=1)
    axes.margins(y=0.06)
    axes.autoscale_view()
    bottom, top = axes.get_ylim()
    heights = spread(values, 0.05 * (top - bottom)) if named else {}
    return [
        axes.text(
            1.01, height, printable(name), transform=axes.get_yaxis_transform(), va="center",
            fontsize=7, color="0.35", parse_math=False,
        )
        for name, height in heights.items()
    ]  # fmt: skip


def spread(values: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return label heights in the order of ``values``, at least ``gap`` apart."""
    heights: dict[str, float] = {}
    previous = -math.inf
    for name, value in sorted(values.items(), key=lambda item: (item[1], item[0])):
        previous = heights[name] = max(value, previous + gap)
    return heights
