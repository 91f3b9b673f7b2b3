"""Scores per seed and task: what the statistics of a table are computed from.

Array letters: S seeds, T tasks.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd

from harness.errors import ArtefactError
from harness.reporting.stats.statistics import Array, Estimate, estimate
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.schema import UNIQUE

REFERENCE = "reference"
"""Learner of the rows that are reference lines, not competitors."""
ROW = ("task_dist", "policy", "learner", "adapter")
"""What makes one row of the table."""

Row: TypeAlias = tuple[str, ...]
Scores: TypeAlias = dict[Row, dict[int, Array]]
"""Row -> shots -> [S, T] mean over the valid query episodes; NaN where a task has none."""


def usable_records(records: pd.DataFrame, manifest: Manifest) -> dict[str, pd.DataFrame]:
    """Return the rows of complete cells and reference lines by split, in canonical order.

    ``test`` comes first; it is there, empty, if nothing was scored at all.

    Raises:
        ArtefactError: records of a cell the manifest does not expect.
    """
    reference = records["learner"].eq(REFERENCE)
    known = reference | records["cell"].isin(list(manifest.cells))
    if not known.all():
        stranger = records.loc[~known, "cell"].iloc[0]
        raise ArtefactError(f"records of cell {stranger!r}, which the manifest does not expect")
    good = reference | records["cell"].isin(manifest.ids("ok"))
    found = set(records["split"]) or {"test"}
    return {
        split: records[good & records["split"].eq(split)].sort_values(
            list(UNIQUE), ignore_index=True
        )
        for split in sorted(found, key=lambda split: (split != "test", split))
    }


def check_same_grid(records: pd.DataFrame) -> None:
    """Raise ArtefactError unless all cells of a distribution were scored on the same things.

    Competitors on the same tasks, shots and episodes; reference lines on the same tasks.
    """
    for name, group in records.groupby("task_dist"):
        lines = group["learner"].eq(REFERENCE)
        _check_equal(str(name), group[~lines], ["task", "shots", "query_episode"])
        if not lines.all():
            _check_equal(str(name), group, ["task"])


def _check_equal(name: str, records: pd.DataFrame, keys: list[str]) -> None:
    grids = {
        cell: frozenset(part[keys].itertuples(index=False, name=None))
        for cell, part in records.groupby("cell")
    }
    full: frozenset = max(grids.values(), key=len, default=frozenset())
    for cell, grid in grids.items():
        if grid != full:
            raise ArtefactError(
                f"cell {cell!r} was scored on {len(grid)} ({', '.join(keys)}) of {name}, another "
                f"cell on {len(full)}, not the same ones: their numbers cannot be compared"
            )


def scores(records: pd.DataFrame, column: str) -> Scores:
    """Return the means of ``column`` over valid query episodes, by row, shots, seed and task."""
    values = records[column].astype(float).where(~records["invalid"])
    keys = [*ROW, "shots", "seed", "task"]
    means = values.groupby([records[key] for key in keys], sort=True).mean().unstack("task")
    seeds: dict[Row, dict[int, list[Array]]] = {}
    for key, per_task in zip(means.index.to_list(), means.to_numpy(np.float64), strict=True):
        row, count = tuple(key[: len(ROW)]), int(key[len(ROW)])
        seeds.setdefault(row, {}).setdefault(count, []).append(per_task)
    return {
        row: {count: np.stack(matrix) for count, matrix in by_count.items()}
        for row, by_count in seeds.items()
    }


class UnpairedError(ValueError):
    """Two rows were not both scored on the same seeds and tasks after these shots."""


def paired_difference(
    records: pd.DataFrame, first: Row, second: Row, *, shots: tuple[int, int]
) -> Estimate:
    """Return the estimate of ``first`` after ``shots[0]`` minus ``second`` after ``shots[1]``.

    Paired by (seed, task); rows are (task_dist, policy, learner, adapter), which may be the same.

    Raises:
        UnpairedError: the records hold no such row, or the two have different seeds or tasks.
    """
    both = []
    for row, count in zip((first, second), shots, strict=True):
        mask = records["shots"].eq(count)
        for key, value in zip(ROW, row, strict=True):
            mask &= records[key].eq(value)
        if not mask.any():
            raise UnpairedError(f"no records of {row} after {count} shots")
        both.append(records[mask].sort_values(list(UNIQUE)))
    pairs = [set(zip(part["seed"], part["task"], strict=True)) for part in both]
    if pairs[0] != pairs[1]:
        raise UnpairedError(f"{first} and {second} differ in seeds or tasks: nothing to pair")
    minuend, subtrahend = (
        scores(part, "return_")[row][count]
        for part, row, count in zip(both, (first, second), shots, strict=True)
    )
    return estimate(minuend - subtrahend)
