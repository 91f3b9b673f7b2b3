"""Scores per seed and task, from the records of query episodes.

Array letters: S seeds, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from harness.errors import ArtefactError
from harness.reporting.stats.intervals import Array, Estimate, estimate_difference, seed_means
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.schema import UNIQUE
from harness.types import REFERENCE
from task_distributions.base import class_of

ROW_KEY = ("task_dist", "policy", "learner", "adapter")
"""Columns that identify one row of a table."""

RowKey: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoreMatrix:
    """Means over the valid query episodes of one row at one number of shots."""

    values: Array
    """[S, T]; NaN if a task has no valid episode."""
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    """Names of the tasks, or of classes of tasks."""

    @property
    def by_seed(self) -> Array:
        """Mean over tasks of each seed, [S]."""
        return seed_means(self.values)


def row_keys(frame: pd.DataFrame) -> list[RowKey]:
    """Return the key of the row of a table that each line of ``frame`` is about."""
    return list(frame[list(ROW_KEY)].itertuples(index=False, name=None))


def of_row(frame: pd.DataFrame, row: RowKey | Mapping[str, Any]) -> pd.DataFrame:
    """Return the lines of ``frame`` about one row of a table, given by its key or its columns."""
    names = row if isinstance(row, Mapping) else dict(zip(ROW_KEY, row, strict=True))
    return frame[np.logical_and.reduce([frame[key] == names[key] for key in ROW_KEY])]


Scores: TypeAlias = dict[RowKey, dict[int, ScoreMatrix]]
"""Row -> shots -> scores."""


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
    """Check that all cells were scored on the same tasks, shots and episodes.

    Reference lines must have the same tasks.

    Raises:
        ArtefactError: two cells differ, so their numbers cannot be compared.
    """
    reference = records["learner"].eq(REFERENCE)
    _check_equal(records[~reference], ["task", "shots", "query_episode"])
    if not reference.all():
        _check_equal(records, ["task"])


def _check_equal(records: pd.DataFrame, keys: list[str]) -> None:
    grids = {
        cell: frozenset(part[keys].itertuples(index=False, name=None))
        for cell, part in records.groupby("cell")
    }
    largest: frozenset = max(grids.values(), key=len, default=frozenset())
    # Where nothing is left to chance one episode is played: the others would repeat it.
    once = frozenset(row for row in largest if "query_episode" not in keys or row[-1] == 0)
    first = records.groupby("cell")[list(ROW_KEY)].first()
    rows = dict(zip(first.index, row_keys(first), strict=True))
    of_row = {rows[cell]: grid for cell, grid in grids.items()}
    for cell, grid in grids.items():
        if grid not in (largest, once) or grid != of_row[rows[cell]]:  # all seeds are alike in it
            raise ArtefactError(
                f"cell {cell!r} was scored on {len(grid)} combinations of "
                f"({', '.join(keys)}), another cell on {len(largest)} different ones: "
                "they cannot be compared"
            )


def scores(records: pd.DataFrame, column: str) -> Scores:
    """Return the means of ``column`` over valid query episodes, by row, shots, seed and task."""
    values = records[column].astype(float).where(~records["invalid"])
    keys = [*ROW_KEY, "shots", "seed", "task"]
    means = values.groupby([records[key] for key in keys], sort=True).mean().unstack("task")
    found: Scores = {}
    for key, part in means.groupby(level=[*ROW_KEY, "shots"], sort=True):
        *names, count = map(str, key)
        row, shots = tuple(names), int(count)
        seeds = tuple(map(int, part.index.get_level_values("seed")))
        matrix = ScoreMatrix(part.to_numpy(np.float64), seeds, tuple(map(str, part.columns)))
        found.setdefault(row, {})[shots] = matrix
    return found


def success_scores(records: pd.DataFrame, split: str) -> Scores:
    """Return success rates as ``scores`` does, by class where the tasks of ``split`` have classes.

    A class counts once, however many of its tasks were scored.
    """
    found = scores(records, "success")
    return {
        row: {shots: _by_class(matrix, split) for shots, matrix in matrices.items()}
        for row, matrices in found.items()
    }


def _by_class(matrix: ScoreMatrix, split: str) -> ScoreMatrix:
    # Without classes, the part of a name before the slash is the split.
    names = [task if class_of(task) in ("", split) else class_of(task) for task in matrix.tasks]
    classes, places = np.unique(names, return_inverse=True)
    means = [seed_means(matrix.values[:, places == place]) for place in range(len(classes))]
    return ScoreMatrix(np.stack(means, axis=1), matrix.seeds, tuple(map(str, classes)))


def difference(first: ScoreMatrix, second: ScoreMatrix) -> Estimate:
    """Estimate ``first`` minus ``second``: paired if they have the same seeds, else Welch's.

    Raises:
        ValueError: they were not scored on the same tasks.
    """
    if first.tasks != second.tasks:
        raise ValueError("scored on different tasks")
    paired = first.seeds == second.seeds
    return estimate_difference(first.values, second.values, paired=paired)


def seed_matrix(lines: pd.DataFrame) -> ScoreMatrix:
    """Return the returns of one row at one number of shots, from a table's scores by task.

    Raises:
        ValueError: they are of several rows.
    """
    values = lines.pivot(index="seed", columns="task", values="return")
    return ScoreMatrix(values.to_numpy(np.float64), tuple(values.index), tuple(values.columns))
