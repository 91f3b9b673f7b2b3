"""The tables of a sweep, from the records and manifests of its cells alone.

A cell is a run of its own; here the cells that were scored on the same things meet in one table.
Swept settings become part of the row's name and columns of the CSV.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType

from harness.reporting.aggregate import REFERENCE, Comparison, comparison_table
from harness.reporting.caption import caption, title
from harness.reporting.figures import write_figures
from harness.reporting.files import ArtefactError, write_atomically
from harness.reporting.manifest import CellState, Manifest
from harness.reporting.records import read_curves, read_records
from harness.reporting.schema import RECORD_SCHEMA
from harness.reporting.sweep_manifest import CELLS, SweepCell, SweepManifest
from harness.reporting.writers import classes_to_csv, render, to_csv, to_latex, to_markdown
from harness.types import Metrics

SCORING = ("env", "evaluation")
"""Sections whose settings change what is scored: cells that differ in them share no table."""


@dataclass(frozen=True, slots=True)
class Part:
    """Cells that were scored on the same things."""

    name: str
    """Of the task distribution, and of the swept settings that change what is scored."""
    cells: dict[str, SweepCell]
    states: dict[str, Manifest]
    """Of those cells that were begun."""


@dataclass(frozen=True, slots=True)
class SweepTables:
    """All tables of a sweep."""

    tables: dict[str, Comparison]
    """By the name of the part."""

    @property
    def exit_code(self) -> int:
        """4 if a cell is missing, else 3 if one failed, else 0."""
        codes = {table.exit_code for table in self.tables.values()}
        return next((code for code in (4, 3) if code in codes), 0)


def load_sweep(folder: Path) -> tuple[SweepManifest, list[Part]]:
    """Return the sweep in ``folder`` with its parts and what became of their cells.

    Raises:
        ValueError: there is no sweep.
        ArtefactError: one of its files is malformed, or of another sweep.
    """
    sweep = SweepManifest.load(folder)
    parts: dict[str, Part] = {}
    for key, cell in sweep.cells.items():
        name = _part_name(cell)
        part = parts.setdefault(name, Part(name, {}, {}))
        part.cells[key] = cell
        state = sweep.state(folder, key)
        if state is not None:
            part.states[key] = state
    return sweep, list(parts.values())


def _part_name(cell: SweepCell) -> str:
    return ", ".join([cell.task_dist, *_told(cell, scoring=True)])


def _told(cell: SweepCell, *, scoring: bool) -> Iterator[str]:
    """Yield a cell's swept settings as ``name=value``: those that change the scoring, or not."""
    for name, value in cell.settings.items():
        if (name.partition(".")[0] in SCORING) == scoring:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            yield f"{name.rpartition('.')[2]}={text}"


def row_learner(cell: SweepCell) -> str:
    """Return the learner of a cell with its swept settings: what its row is called."""
    return " ".join([cell.learner, *_told(cell, scoring=False)])


def sweep_tables(folder: Path) -> SweepTables:
    """Return the captioned tables of the sweep in ``folder``; write nothing.

    Raises:
        ValueError: there is no sweep.
        ArtefactError: one of its files is malformed.
    """
    sweep, parts = load_sweep(folder)
    return SweepTables({part.name: _table(folder, sweep, part)[0] for part in parts})


def rebuild_sweep(folder: Path) -> SweepTables:
    """Write ``table.{csv,md,tex}`` and the figures of every part; return the tables.

    Raises:
        ValueError: there is no sweep.
        ArtefactError: one of its files is malformed.
    """
    sweep, parts = load_sweep(folder)
    made = {part.name: (*_table(folder, sweep, part), part) for part in parts}
    tables = {name: table for name, (table, _, _) in made.items()}
    several = len(tables) > 1
    shutil.rmtree(folder / "figures", ignore_errors=True)
    for name, (table, merged, part) in made.items():
        figures = folder / "figures"
        if several:
            figures /= name.replace(", ", ".").replace("=", "-")
        figures.mkdir(parents=True)
        write_figures(table, merged, _curves(folder, part), figures)
    texts = {
        "csv": _one_csv([to_csv(table) for table in tables.values()]),
        "md": "\n".join(to_markdown(table) for table in tables.values()),
        "tex": "\n".join(to_latex(table) for table in tables.values()),
    }
    for suffix, text in texts.items():
        write_atomically(folder / f"table.{suffix}", text.encode())
    classes = [found for table in tables.values() if (found := classes_to_csv(table))]
    if classes:
        write_atomically(folder / "classes.csv", _one_csv(classes).encode())
    return SweepTables(tables)


def render_sweep(tables: SweepTables) -> RenderableType:
    """Return all tables for a rich console."""
    return Group(*(render(table) for table in tables.tables.values()))


def _one_csv(texts: Sequence[str]) -> str:
    """Return several tables as one, where they have the same columns, else one below the other."""
    heads = {text.partition("\n")[0] for text in texts}
    if len(heads) > 1:
        return "\n".join(texts)
    return texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])


def _table(folder: Path, sweep: SweepManifest, part: Part) -> tuple[Comparison, Manifest]:
    merged = _merged(sweep, part)
    table = comparison_table(_records(folder, part), merged)
    splits = [_with_settings(split, part) for split in table.splits]
    table = dataclasses.replace(splits[0], others=tuple(splits[1:]))
    extra = part.name.partition(", ")[2]
    head = title(table, merged) + (f", {extra}" if extra else "")
    text = (*_replays(folder, table), *caption(table, merged))
    return dataclasses.replace(table, title=head, caption=text), merged


def _replays(folder: Path, table: Comparison) -> Iterator[str]:
    """Yield how to see each failure happen again."""
    for key in table.failed:
        settings = folder / CELLS / key / "cell.yaml"
        if settings.is_file():
            yield f"Replay {key}: python -m harness.run --config {settings} --backend local"


def _merged(sweep: SweepManifest, part: Part) -> Manifest:
    """Return one manifest for the cells of a part, as if they were one run's.

    Raises:
        ArtefactError: two cells were scored on two versions of the distribution.
    """
    cells = {key: _state(part, key) for key in part.cells}
    states = list(part.states.values())
    known = {dist.model_dump_json(): dist for state in states for dist in state.distributions}
    if len(known) > 1:
        raise ArtefactError(
            f"the cells of {part.name} do not agree on what it is: {', '.join(known)}"
        )
    first = next(iter(part.cells.values()))
    # Versions and commit are those of the cells; where none was begun, there is nothing to cite.
    base = (
        states[0]
        if states
        else Manifest.create((), {}, config_given={}, cells=(), distributions=())
    )
    return base.model_copy(
        update={
            "created": sweep.created,
            "config": first.config,
            "config_hash": sweep.sweep_hash,
            "distributions": tuple(known.values()),
            "seeds": tuple(dict.fromkeys(cell.seed for cell in part.cells.values())),
            "cells": cells,
        }
    )


def _state(part: Part, key: str) -> CellState:
    """Return a cell's state under the name of its row."""
    cell, state = part.cells[key], part.states.get(key)
    named: Mapping[str, Any] = {
        "task_dist": cell.task_dist,
        "policy": cell.policy,
        "learner": row_learner(cell),
        "seed": cell.seed,
    }
    found = state.cells[cell.cell.id] if state else None
    return found.model_copy(update=dict(named)) if found else CellState(**named)


def _records(folder: Path, part: Part) -> pd.DataFrame:
    """Return the records of a part's cells and reference lines, under the names of their rows."""
    frames: list[pd.DataFrame] = [RECORD_SCHEMA.empty_table().to_pandas()]
    for key in part.states:
        frame = read_records(folder / CELLS / key)
        own = frame["learner"].ne(REFERENCE)
        strangers = set(frame.loc[own, "cell"]) - {part.cells[key].cell.id}
        if strangers:
            raise ArtefactError(f"cells/{key} holds records of another cell: {min(strangers)}")
        frame.loc[own, "cell"] = key
        frame.loc[own, "learner"] = row_learner(part.cells[key])
        frames.append(frame)
    return pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)


def _curves(folder: Path, part: Part) -> dict[str, tuple[Metrics, ...]]:
    found = {}
    for key in part.states:
        curves = read_curves(folder / CELLS / key)
        if part.cells[key].cell.id in curves:
            found[key] = curves[part.cells[key].cell.id]
    return found


def _with_settings(table: Comparison, part: Part) -> Comparison:
    """Return the table with a column for every swept setting, behind the names of the row."""
    frame = table.frame.copy()
    settings: dict[str, dict[str, Any]] = {row_learner(c): c.settings for c in part.cells.values()}
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    for place, name in enumerate(names, list(frame.columns).index("adapter") + 1):
        column = [_plain(settings.get(learner, {}).get(name)) for learner in frame["learner"]]
        frame.insert(place, name, pd.Series(column, index=frame.index, dtype=object))
    return dataclasses.replace(table, frame=frame)


def _plain(value: Any) -> Any:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if value is None or numeric else str(value)
