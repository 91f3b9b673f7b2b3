"""Scores per seed and task, from the records of query episodes.

Array letters: S seeds, T tasks.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd

from harness.errors import ArtefactError
from harness.reporting.stats.intervals import Array, Estimate, estimate
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.schema import UNIQUE
from harness.types import REFERENCE

ROW_KEY = ("task_dist", "policy", "learner", "adapter")
"""Columns that identify one row of a table."""

RowKey: TypeAlias = tuple[str, ...]
Scores: TypeAlias = dict[RowKey, dict[int, Array]]
"""Row -> shots -> [S, T] mean over valid query episodes; NaN if a task has none."""


def usable_records(records: pd.DataFrame, manifest: Manifest) -> dict[str, pd.DataFrame]:
    """Return the records of complete cells and reference lines by split, in canonical order.

    ``test`` comes first. If nothing was scored it is the only split, and empty.

    Raises:
        ArtefactError: records of a cell the manifest does not list.
    """
    reference = records["learner"].eq(REFERENCE)
    listed = reference | records["cell"].isin(list(manifest.cells))
    if not listed.all():
        unknown = records.loc[~listed, "cell"].iloc[0]
        raise ArtefactError(f"records of cell {unknown!r}, which the manifest does not list")
    usable = reference | records["cell"].isin(manifest.ids("ok"))
    splits = set(records["split"]) or {"test"}
    return {
        split: records[usable & records["split"].eq(split)].sort_values(
            list(UNIQUE), ignore_index=True
        )
        for split in sorted(splits, key=lambda split: (split != "test", split))
    }


def check_same_grid(records: pd.DataFrame) -> None:
    """Check that all cells of a distribution were scored on the same tasks, shots and episodes.

    Reference lines must have the same tasks.

    Raises:
        ArtefactError: two cells differ, so their numbers cannot be compared.
    """
    for name, group in records.groupby("task_dist"):
        reference = group["learner"].eq(REFERENCE)
        _check_equal(str(name), group[~reference], ["task", "shots", "query_episode"])
        if not reference.all():
            _check_equal(str(name), group, ["task"])


def _check_equal(name: str, records: pd.DataFrame, keys: list[str]) -> None:
    grids = {
        cell: frozenset(part[keys].itertuples(index=False, name=None))
        for cell, part in records.groupby("cell")
    }
    largest: frozenset = max(grids.values(), key=len, default=frozenset())
    for cell, grid in grids.items():
        if grid != largest:
            raise ArtefactError(
                f"cell {cell!r} of {name} was scored on {len(grid)} combinations of "
                f"({', '.join(keys)}), another cell on {len(largest)} different ones: "
                "they cannot be compared"
            )


def scores(records: pd.DataFrame, column: str) -> Scores:
    """Return the means of ``column`` over valid query episodes, by row, shots, seed and task."""
    values = records[column].astype(float).where(~records["invalid"])
    keys = [*ROW_KEY, "shots", "seed", "task"]
    means = values.groupby([records[key] for key in keys], sort=True).mean().unstack("task")
    seeds: dict[RowKey, dict[int, list[Array]]] = {}
    for key, per_task in zip(means.index.to_list(), means.to_numpy(np.float64), strict=True):
        row, shots = tuple(key[: len(ROW_KEY)]), int(key[len(ROW_KEY)])
        seeds.setdefault(row, {}).setdefault(shots, []).append(per_task)
    return {
        row: {shots: np.stack(matrix) for shots, matrix in by_shots.items()}
        for row, by_shots in seeds.items()
    }


class UnpairedError(ValueError):
    """Two rows were not scored on the same seeds and tasks."""


def paired_difference(
    records: pd.DataFrame, first: RowKey, second: RowKey, *, shots: tuple[int, int]
) -> Estimate:
    """Estimate ``first`` after ``shots[0]`` minus ``second`` after ``shots[1]``.

    Paired by seed and task. The two rows may be the same.

    Raises:
        UnpairedError: a row has no such records, or the two have different seeds or tasks.
    """
    both = []
    for row, count in zip((first, second), shots, strict=True):
        mask = records["shots"].eq(count)
        for key, value in zip(ROW_KEY, row, strict=True):
            mask &= records[key].eq(value)
        if not mask.any():
            raise UnpairedError(f"no records of {row} after {count} shots")
        both.append(records[mask].sort_values(list(UNIQUE)))
    pairs = [set(zip(part["seed"], part["task"], strict=True)) for part in both]
    if pairs[0] != pairs[1]:
        raise UnpairedError(f"{first} and {second} have different seeds or tasks")
    minuend, subtrahend = (
        scores(part, "return_")[row][count]
        for part, row, count in zip(both, (first, second), shots, strict=True)
    )
    return estimate(minuend - subtrahend)
