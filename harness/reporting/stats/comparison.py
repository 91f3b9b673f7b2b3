"""The comparison table: one row per policy, learner and adapter, from records and manifest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.reporting.stats.intervals import (
    NO_ESTIMATE,
    Array,
    Estimate,
    estimate,
    estimate_improvement,
    estimate_rate,
    wilson,
)
from harness.reporting.stats.scores import (
    ROW_KEY,
    RowKey,
    Scores,
    check_same_grid,
    scores,
    usable_records,
)
from harness.reporting.store.manifest import Manifest
from harness.types import REFERENCE
from task_distributions.base import class_of

CLASS = "class"
"""Column of a task's class: the part of its name before the ``/``."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table of a run as numbers, with title and caption."""

    frame: pd.DataFrame
    """One row per (task_dist, policy, learner, adapter), reference lines last. ``return_K``,
    ``gain_K``, ``success_K``, ``success_gain_K`` and ``improvement`` have columns ``_low`` and
    ``_high`` beside them; so has ``gap_K`` of the ``ood`` split, its distance from ``test``."""
    shots: tuple[int, ...]
    num_tasks: int
    split: str
    failed: dict[str, str]
    """Cell id (or ``reference`` and its name) -> reason. Their records are not in the frame."""
    missing: tuple[str, ...]
    """Ids of expected cells that have no result yet."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Id of a cell that a scheduler stopped early -> when. Their records are not in the frame."""
    title: str = ""
    caption: tuple[str, ...] = ()
    """One paragraph each; see ``render/captions.py``."""
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Success and return per class, as ``class_table`` returns them; empty without classes."""
    others: tuple[Comparison, ...] = ()
    """Tables of the other splits. Numbers of two splits never share a table."""

    @property
    def splits(self) -> tuple[Comparison, ...]:
        """This table and those of the other splits."""
        return (self, *self.others)

    @property
    def exit_code(self) -> int:
        """0 if complete, 4 if cells are missing (``--resume`` continues), 3 if cells failed."""
        if self.missing:
            return 4
        return 3 if self.failed else 0

    @property
    def has_success(self) -> bool:
        """Whether the tasks define success."""
        return "success_0" in self.frame.columns


def comparison_table(records: pd.DataFrame, manifest: Manifest) -> Comparison:
    """Return the tables of a run's complete cells, one per split, without captions.

    Raises:
        ArtefactError: records of a cell the manifest does not list, or cells that were not scored
            on the same tasks, shots and episodes.
    """
    parts = usable_records(records, manifest)
    tables = {split: _split_table(part, manifest, split) for split, part in parts.items()}
    if {"test", "ood"} <= tables.keys():
        tables["ood"] = _with_gap(tables["ood"], parts["test"], parts["ood"])
    first, *others = tables.values()
    return replace(first, others=tuple(others))


def _with_gap(table: Comparison, test: pd.DataFrame, ood: pd.DataFrame) -> Comparison:
    """Return the ``ood`` table with ``gap_K``: its return minus that on ``test``, seed by seed."""
    inside, outside = scores(test, "return_"), scores(ood, "return_")
    rows = []
    for row_key in table.frame[list(ROW_KEY)].itertuples(index=False, name=None):
        row: dict[str, float] = {}
        for count in table.shots:
            pair = [part.get(row_key, {}).get(count) for part in (inside, outside)]
            means = [np.nanmean(x, axis=1, keepdims=True) for x in pair if x is not None]
            paired = len(means) == 2 and len(means[0]) == len(means[1])
            gap = estimate(means[1] - means[0]) if paired else NO_ESTIMATE
            row |= gap.columns(f"gap_{count}")
        rows.append(row)
    gaps = pd.DataFrame(rows, index=table.frame.index)
    return replace(table, frame=pd.concat([table.frame, gaps], axis=1))


def _split_table(records: pd.DataFrame, manifest: Manifest, split: str) -> Comparison:
    check_same_grid(records)
    competing = records[records["learner"] != REFERENCE]
    shots = tuple(sorted({0, *(int(k) for k in competing["shots"])}))
    builder = _RowBuilder(records, manifest, scores(records, "return_"), shots, split)
    frame = pd.DataFrame([*builder.competitors(), *builder.references()])
    classes = pd.DataFrame()
    if bool(records["success"].any()) or any(dist.has_success for dist in manifest.distributions):
        frame = _insert_success(frame, scores(records, "success"), shots)
        classes = class_table(records, frame, shots)
    scored = set(competing["cell"])
    return Comparison(
        frame=frame,
        shots=shots,
        num_tasks=records["task"].nunique(),
        split=split,
        classes=classes,
        failed=manifest.failures(),
        missing=tuple(key for key in manifest.ids("pending", "running", "ok") if key not in scored),
        stopped={key: manifest.cells[key].reason for key in manifest.ids("stopped")},
    )


@dataclass(frozen=True, slots=True)
class _RowBuilder:
    """Builds the rows of one split's table."""

    records: pd.DataFrame
    manifest: Manifest
    scores: Scores
    shots: tuple[int, ...]
    split: str

    def competitors(self) -> Iterator[dict[str, Any]]:
        """Yield rows in the manifest's order, including those whose cells all failed."""
        groups: dict[RowKey, list[str]] = {}
        for key, state in self.manifest.cells.items():
            groups.setdefault((state.task_dist, state.policy, state.learner), []).append(key)
        for group, cells in groups.items():
            keys: Sequence[RowKey] = [key for key in self.scores if key[:3] == group]
            for row_key in keys or [(*group, "")]:
                yield self._competitor(row_key, cells)

    def _competitor(self, row_key: RowKey, cells: Sequence[str]) -> dict[str, Any]:
        matrices = self.scores.get(row_key, {})
        records = self._records(row_key)
        failed, stopped = (
            [key for key in cells if self.manifest.cells[key].status == status]
            for status in ("failed", "stopped")
        )
        row: dict[str, Any] = dict(zip(ROW_KEY, row_key, strict=True))
        row["seeds"] = records["seed"].nunique()
        row["seeds_failed"] = len(failed)
        row["seeds_missing"] = len(set(cells) - set(records["cell"]) - {*failed, *stopped})
        if self.manifest.ids("stopped"):
            row["seeds_stopped"] = len(stopped)
        for count in self.shots:
            value = estimate(matrices[count]) if count in matrices else NO_ESTIMATE
            row |= value.columns(f"return_{count}")
        for count in self.shots[1:]:
            paired = count in matrices and 0 in matrices
            value = estimate(matrices[count] - matrices[0]) if paired else NO_ESTIMATE
            row |= value.columns(f"gain_{count}")
        return row | self._improvement(row_key) | self._costs(records, cells)

    def _improvement(self, row_key: RowKey) -> dict[str, Any]:
        """Return the probability of improvement over the best other row after the most shots."""
        last = self.shots[-1]
        points = {
            other: estimate(matrices[last]).point
            for other, matrices in self.scores.items()
            if other[0] == row_key[0]
            and other != row_key
            and other[2] != REFERENCE
            and last in matrices
        }
        points = {other: point for other, point in points.items() if not math.isnan(point)}
        if not points or last not in self.scores.get(row_key, {}):
            return NO_ESTIMATE.columns("improvement") | {"improvement_over": ""}
        rival = max(points, key=lambda other: (points[other], other))
        value = estimate_improvement(self.scores[row_key][last], self.scores[rival][last])
        return value.columns("improvement") | {"improvement_over": " ".join(rival[1:])}

    def _costs(self, records: pd.DataFrame, cells: Sequence[str]) -> dict[str, Any]:
        """Return costs per cell, averaged over seeds, and the number of invalid episodes."""
        states = [self.manifest.cells[key] for key in cells if key in set(records["cell"])]
        seconds = [state.wall_seconds for state in states if state.wall_seconds is not None]
        per_cell = records.groupby("cell")[["num_params", "train_env_steps"]].max().mean()
        return {
            "num_params": per_cell["num_params"],
            "train_env_steps": per_cell["train_env_steps"],
            "wall_seconds": sum(seconds) / len(seconds) if seconds else float("nan"),
            "invalid_episodes": int(records["invalid"].sum()),
        }

    def references(self) -> Iterator[dict[str, Any]]:
        """Yield measured, failed and analytic reference lines: one value for every shot count."""
        for row_key, matrices in self.scores.items():
            if row_key[2] == REFERENCE:
                records = self._records(row_key)
                row: dict[str, Any] = dict(zip(ROW_KEY, row_key, strict=True))
                row["seeds"] = records["seed"].nunique()
                value = estimate(matrices[min(matrices)])
                for count in self.shots:
                    row |= value.columns(f"return_{count}")
                yield row | {"invalid_episodes": int(records["invalid"].sum())}
        for name in self.manifest.failed_references:
            names = dict(zip(ROW_KEY, (self.manifest.dist_name, name, REFERENCE, ""), strict=True))
            yield names | {"seeds": 0, "seeds_failed": 1}
        for dist in self.manifest.distributions:
            others = dist.other_references.get(self.split, {})
            lines = dist.references if self.split == "test" else others
            for name, constant in sorted(lines.items()):
                names = dict(zip(ROW_KEY, (dist.name, name, REFERENCE, "analytic"), strict=True))
                yield names | {f"return_{count}": constant for count in self.shots}

    def _records(self, row_key: RowKey) -> pd.DataFrame:
        records = self.records
        for column, value in zip(ROW_KEY, row_key, strict=True):
            records = records[records[column] == value]
        return records


def _insert_success(frame: pd.DataFrame, rates: Scores, shots: Sequence[int]) -> pd.DataFrame:
    """Return ``frame`` with success rates in [0, 1] after the returns."""
    rows = []
    for row_key in frame[list(ROW_KEY)].itertuples(index=False, name=None):
        matrices = rates.get(row_key, {})
        row: dict[str, float] = {}
        for count in shots:
            value = matrices.get(min(matrices) if row_key[2] == REFERENCE and matrices else count)
            found = NO_ESTIMATE if value is None else estimate_rate(value)
            row |= found.columns(f"success_{count}")
        for count in shots[1:]:
            paired = count in matrices and 0 in matrices
            gain = _rate_gain(matrices[count] - matrices[0]) if paired else NO_ESTIMATE
            row |= gain.columns(f"success_gain_{count}")
        rows.append(row)
    position = list(frame.columns).index(f"return_{shots[-1]}_high") + 1
    left, right = frame.iloc[:, :position], frame.iloc[:, position:]
    return pd.concat([left, pd.DataFrame(rows, index=frame.index), right], axis=1)


def _rate_gain(difference: Array) -> Estimate:
    """Return the gain; no interval if all gains are equal, since its bootstrap has no width."""
    gain = estimate(difference)
    return replace(gain, low=math.nan, high=math.nan) if gain.low == gain.high else gain


def class_table(records: pd.DataFrame, table: pd.DataFrame, shots: Sequence[int]) -> pd.DataFrame:
    """Return ``success_K`` and ``return_K`` per class and row of ``table``.

    Means are over seeds, goals and episodes. ``success_K_low`` and ``_high`` are Wilson's interval
    with one trial per goal, which is wide because a class has few goals. Rows without records are
    left out.
    """
    classes = records["task"].map(class_of)
    lines = []
    for name in dict.fromkeys(classes.sort_values()):
        part = records[classes == name]
        rates, returns = scores(part, "success"), scores(part, "return_")
        for row_key in table[list(ROW_KEY)].itertuples(index=False, name=None):
            if row_key in rates:
                line = {CLASS: name} | dict(zip(ROW_KEY, row_key, strict=True))
                line["goals"] = next(iter(rates[row_key].values())).shape[1]
                for count in shots:
                    source = 0 if row_key[2] == REFERENCE else count
                    line |= _class_rate(rates[row_key].get(source)).columns(f"success_{count}")
                    line[f"return_{count}"] = _mean(returns[row_key].get(source))
                lines.append(line)
    return pd.DataFrame(lines)


def _class_rate(rates: Array | None) -> Estimate:
    point = _mean(rates)
    trials = 0 if rates is None else int((~np.isnan(rates).all(axis=0)).sum())
    return Estimate(point, *wilson(point, trials)) if trials else NO_ESTIMATE


def _mean(values: Array | None) -> float:
    """Return the mean over seeds and tasks that have a valid episode."""
    if values is None or np.isnan(values).all():
        return float("nan")
    return float(np.nanmean(values))
