"""The cells of a sweep that belong in one table: their manifests, records and curves as one run's.

Swept settings become part of the learner's name, so that each way is a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import ArtefactError
from harness.reporting.stats.scores import REFERENCE
from harness.reporting.store.manifest import CellState, Manifest
from harness.reporting.store.records import read_curves, read_records
from harness.reporting.store.schema import RECORD_SCHEMA
from harness.reporting.store.sweep_manifest import CELLS, SweepCell, SweepManifest
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


def merged(sweep: SweepManifest, part: Part) -> Manifest:
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
    # Versions and commit are those of the cells, if any was begun.
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
            "failed_references": _failed_references(part),
        }
    )


def _failed_references(part: Part) -> dict[str, str]:
    """Return what the cell that was to score the part's reference lines says of them."""
    return {
        name: f"{reason} (scored by {key})"
        for key, state in part.states.items()
        for name, reason in state.failed_references.items()
    }


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


def records(folder: Path, part: Part) -> pd.DataFrame:
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


def curves(folder: Path, part: Part) -> dict[str, tuple[Metrics, ...]]:
    """Return the learning curves of a part's cells, by key."""
    found = {}
    for key in part.states:
        own = read_curves(folder / CELLS / key)
        if part.cells[key].cell.id in own:
            found[key] = own[part.cells[key].cell.id]
    return found
