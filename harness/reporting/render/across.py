"""Aggregates across distributions as tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.text import Text

from harness.reporting.render.formats import grids_to_markdown, grids_to_rich, to_csv_text
from harness.reporting.render.panels import add_legend
from harness.reporting.render.style import SETTINGS, headline, new_figure, plain, save, styles_of
from harness.reporting.render.tables import (
    ROW_HEADER,
    Grid,
    TextCell,
    count_text,
    estimate_cell,
    improvement_grid,
    rows_of,
    shot_label,
)
from harness.reporting.stats.across import CONSTANTS_FILE, THRESHOLDS, Across
from harness.reporting.stats.intervals import CONFIDENCE, MANY
from harness.reporting.stats.scores import ROW_KEY
from harness.reporting.text import printable, span


def across_title(part: Across) -> str:
    """Return what was aggregated."""
    return f"Across distributions, {part.suite}: {', '.join(part.distributions)}"


def across_grids(part: Across) -> list[Grid]:
    """Return the aggregates and the matrix of probabilities of improvement."""
    header = [(f"IQM, {shot_label(count)}", "") for count in part.shots]
    last = shot_label(part.shots[-1])
    header += [(f"mean, {last}", ""), (f"optimality gap, {last}", ""), ("seeds", "runs")]
    names = [*(f"iqm_{count}" for count in part.shots), "mean", "optimality_gap"]
    rows = tuple(
        (
            (
                printable(row["policy"]),
                printable(", ".join(filter(None, (row["learner"], row["adapter"])))),
            ),
            *(estimate_cell(row, name, 2) for name in names),
            (count_text(row["seeds"]), count_text(row["runs"])),
        )
        for row in rows_of(part.frame)
    )
    found = [Grid("Normalised score", (ROW_HEADER, *header), rows)]
    if not part.improvement.empty:
        labels: dict[tuple[str, ...], TextCell] = {
            (row["policy"], row["learner"], row["adapter"]): cells[0]
            for row, cells in zip(rows_of(part.frame), rows, strict=True)
        }
        found.append(improvement_grid(part.improvement, labels, f"on a distribution at {last}"))
    return found


def across_caption(part: Across) -> tuple[str, ...]:
    """Return how the numbers were made."""
    return tuple(_paragraphs(part))


def _paragraphs(part: Across) -> Iterator[str]:
    yield (
        "Score of a run: mean over a distribution's test tasks, with the zero action at 0 and the "
        "better oracle at 1 (Meta-World: success rate), by the constants of "
        f"{CONSTANTS_FILE.name}, version {part.version}. IQM: mean of the middle half of all runs, "
        "seeds and distributions pooled. Optimality gap: mean distance below 1, lower is better "
        "(arXiv 2108.13264)."
    )
    yield (
        f"Intervals: {CONFIDENCE:.0%}, stratified bootstrap over the seeds of each distribution, "
        "widened by √(S/(S − 1)) for S seeds, because S seeds show only that part of their "
        f"variance. None for one seed or fewer than {MANY} runs."
    )
    if part.provisional:
        yield (
            "Provisional: the 1 was measured on fewer than three seeds for "
            f"{', '.join(part.provisional)}."
        )
    if part.left_out:
        yield f"Left out: {'; '.join(part.left_out)}."


def across_to_markdown(part: Across) -> str:
    """Return one aggregate as GitHub Markdown."""
    return grids_to_markdown(across_title(part), across_grids(part), across_caption(part))


def across_to_rich(part: Across) -> RenderableType:
    """Return one aggregate for the console."""
    texts = (Text(printable(text), style="dim") for text in across_caption(part))
    title = Text(printable(across_title(part)), style="bold")
    return Group(Text(), title, grids_to_rich(across_grids(part)), Text(), *texts)


def across_to_csv(parts: Sequence[Across]) -> str:
    """Return the numbers of all aggregates, one line per suite and row."""
    frames = [part.frame.assign(suite=part.suite) for part in parts if not part.frame.empty]
    if not frames:
        return ""
    whole = pd.concat(frames)
    return to_csv_text(whole[["suite", *whole.columns.drop("suite")]])


def write_across_figures(part: Across, folder: Path) -> None:
    """Write the aggregates and the performance profiles of a suite."""
    if not part.frame.empty:
        with mpl.rc_context(SETTINGS):
            save(aggregate_figure(part), folder / "aggregates")
            save(profile_figure(part), folder / "performance_profiles")


def aggregate_figure(part: Across) -> Figure:
    """Draw IQM, mean and optimality gap of each row, with the score of every run."""
    rows = rows_of(part.frame)
    styles = styles_of([(row["policy"], row["learner"]) for row in rows])
    names = {f"iqm_{part.shots[-1]}": "IQM", "mean": "mean", "optimality_gap": "optimality gap"}
    figure = new_figure(7.2, 1.1 + 0.3 * len(rows))
    panels = figure.subplots(1, len(names), sharey=True)
    for axes, (name, title) in zip(panels, names.items(), strict=True):
        for place, row in enumerate(rows):
            style = styles[row["policy"], row["learner"]]
            point, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
            bars = np.maximum(np.nan_to_num([[point - low], [high - point]]), 0)
            axes.errorbar([point], [place], xerr=bars, capsize=2, markersize=5, **style.look)
            if name != "optimality_gap":
                runs = part.scores[tuple(row[key] for key in ROW_KEY[1:])].ravel()
                axes.plot(
                    runs,
                    [place + 0.25] * len(runs),
                    ".",
                    color=style.color,
                    alpha=0.5,
                    markersize=3,
                )
        axes.set_title(title, loc="left")
        axes.set_xlabel("normalised score" if name != "optimality_gap" else "lower is better")
        plain(axes, "x")
    labels = [printable(f"{row['policy']}, {row['learner']}") for row in rows]
    panels[0].set_yticks(range(len(rows)), labels)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    headline(figure, _note(part))
    return figure


def profile_figure(part: Across) -> Figure:
    """Draw the fraction of runs above each normalised score."""
    styles = styles_of([(policy, learner) for policy, learner, _ in part.profiles])
    figure = new_figure(4.8, 3.2)
    axes = figure.add_subplot()
    for (policy, learner, _), profile in part.profiles.items():
        look = styles[policy, learner].look | {"markevery": 10, "markersize": 4}
        axes.step(THRESHOLDS, profile, where="post", linewidth=1.3, **look)
    axes.set_xlabel("normalised score τ")
    axes.set_ylabel("fraction of runs above τ")
    axes.set_ylim(-0.02, 1.02)
    plain(axes)
    add_legend(figure, [style.handle() for style in styles.values()])
    headline(figure, _what(part))
    return figure


def _note(part: Across) -> str:
    enough = [len(values) > 1 and values.size >= MANY for values in part.scores.values()]
    some = "" if all(enough) else f", of rows with two seeds and {MANY} runs"
    bars = f"bars: 95 % interval (stratified bootstrap){some}" if any(enough) else "no intervals"
    return f"{_what(part)}; {bars}, dots: runs"


def _what(part: Across) -> str:
    seeds = span([len(values) for values in part.scores.values()], "seed")
    shots = shot_label(part.shots[-1])
    return printable(f"{part.suite}: {len(part.distributions)} distributions × {seeds}, {shots}")
