"""From query episodes to the comparison table: pure functions of records and manifest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from harness.reporting.stats.classes import class_table
from harness.reporting.stats.scores import (
    REFERENCE,
    ROW,
    Row,
    Scores,
    check_same_grid,
    paired_difference,
    scores,
    usable_records,
)
from harness.reporting.stats.statistics import (
    NOTHING,
    Array,
    Estimate,
    estimate,
    estimate_improvement,
    estimate_rate,
    iqm,
    probability_of_improvement,
    stratified_bootstrap,
)
from harness.reporting.store.manifest import Manifest

__all__ = [
    "REFERENCE",
    "Comparison",
    "Estimate",
    "comparison_table",
    "estimate",
    "iqm",
    "paired_difference",
    "probability_of_improvement",
    "stratified_bootstrap",
]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table of a run in numbers, with what a reader must know beside it."""

    frame: pd.DataFrame
    """One row per (task_dist, policy, learner, adapter), reference lines last; ``return_K``,
    ``gain_K``, ``success_K``, ``success_gain_K`` and ``improvement`` columns, each with ``_low``
    and ``_high``."""
    shots: tuple[int, ...]
    num_tasks: int
    split: str
    failed: dict[str, str]
    """Cell id, or ``reference`` and its name, -> reason. None of their records is in the frame."""
    missing: tuple[str, ...]
    """Ids of expected cells without a result yet."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Id of a cell that a scheduler stopped early -> when; none of them is in the frame either."""
    title: str = ""
    caption: tuple[str, ...] = ()
    """What the numbers are, one paragraph each; see caption.py."""
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Success and return per class; see classes.py. Empty where there are none."""
    others: tuple[Comparison, ...] = ()
    """The tables of the other splits: numbers of two splits never meet in one."""

    @property
    def splits(self) -> tuple[Comparison, ...]:
        """This table and those of the other splits."""
        return (self, *self.others)

    @property
    def exit_code(self) -> int:
        """0 complete, 4 cells are missing (``--resume`` continues), 3 cells failed."""
        if self.missing:
            return 4
        return 3 if self.failed else 0

    @property
    def has_success(self) -> bool:
        """Whether these tasks tell success from failure."""
        return "success_0" in self.frame.columns


def comparison_table(records: pd.DataFrame, manifest: Manifest) -> Comparison:
    """Return the tables of the complete cells of a run, without caption: a table per split.

    Raises:
        ArtefactError: records of a cell the manifest does not expect, or cells that were not
            scored on the same tasks, shots and episodes.
    """
    first, *others = (
        _comparison(part, manifest, split)
        for split, part in usable_records(records, manifest).items()
    )
    return replace(first, others=tuple(others))


def _comparison(records: pd.DataFrame, manifest: Manifest, split: str) -> Comparison:
    check_same_grid(records)
    competing = records[records["learner"] != REFERENCE]
    shots = tuple(sorted({0, *(int(k) for k in competing["shots"])}))
    table = _Table(records, manifest, scores(records, "return_"), shots, split)
    lines = [*table.competitors(), *table.references()]
    frame, classes = pd.DataFrame(lines), pd.DataFrame()
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
class _Table:
    records: pd.DataFrame
    manifest: Manifest
    scores: Scores
    shots: tuple[int, ...]
    split: str

    def competitors(self) -> Iterator[dict[str, Any]]:
        """Yield a line per row, cells that all failed included, in the manifest's order."""
        groups: dict[Row, list[str]] = {}
        for key, state in self.manifest.cells.items():
            groups.setdefault((state.task_dist, state.policy, state.learner), []).append(key)
        for group, cells in groups.items():
            rows: Sequence[Row] = [row for row in self.scores if row[:3] == group]
            for row in rows or [(*group, "")]:
                yield self._competitor(row, cells)

    def _competitor(self, row: Row, cells: Sequence[str]) -> dict[str, Any]:
        matrices = self.scores.get(row, {})
        part = self._part(row)
        scored = set(part["cell"])
        failed, stopped = (
            [key for key in cells if self.manifest.cells[key].status == status]
            for status in ("failed", "stopped")
        )
        line: dict[str, Any] = dict(zip(ROW, row, strict=True))
        line["seeds"] = part["seed"].nunique()
        line["seeds_failed"] = len(failed)
        line["seeds_missing"] = len(set(cells) - scored - {*failed, *stopped})
        if self.manifest.ids("stopped"):
            line["seeds_stopped"] = len(stopped)
        for count in self.shots:
            value = estimate(matrices[count]) if count in matrices else NOTHING
            line |= _columns(f"return_{count}", value)
        for count in self.shots[1:]:
            paired = count in matrices and 0 in matrices
            value = estimate(matrices[count] - matrices[0]) if paired else NOTHING
            line |= _columns(f"gain_{count}", value)
        return line | self._improvement(row) | self._costs(part, cells)

    def _improvement(self, row: Row) -> dict[str, Any]:
        """Probability of improvement over the best other row after the most shots."""
        last = self.shots[-1]
        points = {
            other: estimate(matrices[last]).point
            for other, matrices in self.scores.items()
            if other[0] == row[0] and other != row and other[2] != REFERENCE and last in matrices
        }
        points = {other: point for other, point in points.items() if not math.isnan(point)}
        if not points or last not in self.scores.get(row, {}):
            return _columns("improvement", NOTHING) | {"improvement_over": ""}
        rival = max(points, key=lambda other: (points[other], other))
        value = estimate_improvement(self.scores[row][last], self.scores[rival][last])
        return _columns("improvement", value) | {"improvement_over": " ".join(rival[1:])}

    def _costs(self, part: pd.DataFrame, cells: Sequence[str]) -> dict[str, Any]:
        """Per seed and averaged over seeds, but for the count of invalid episodes."""
        states = [self.manifest.cells[key] for key in cells if key in set(part["cell"])]
        seconds = [state.wall_seconds for state in states if state.wall_seconds is not None]
        per_cell = part.groupby("cell")[["num_params", "train_env_steps"]].max().mean()
        return {
            "num_params": per_cell["num_params"],
            "train_env_steps": per_cell["train_env_steps"],
            "wall_seconds": sum(seconds) / len(seconds) if seconds else float("nan"),
            "invalid_episodes": int(part["invalid"].sum()),
        }

    def references(self) -> Iterator[dict[str, Any]]:
        """Yield measured lines, failed ones, analytic ones; the same value at every shot count."""
        for row, matrices in self.scores.items():
            if row[2] == REFERENCE:
                part = self._part(row)
                line: dict[str, Any] = dict(zip(ROW, row, strict=True))
                line["seeds"] = part["seed"].nunique()
                for count in self.shots:
                    line |= _columns(f"return_{count}", estimate(matrices[min(matrices)]))
                yield line | {"invalid_episodes": int(part["invalid"].sum())}
        for name in self.manifest.failed_references:
            known = dict(zip(ROW, (self.manifest.dist_name, name, REFERENCE, ""), strict=True))
            yield known | {"seeds": 0, "seeds_failed": 1}
        for dist in self.manifest.distributions:
            lines = dist.references if self.split == "test" else dist.train_references
            for name, value in sorted(lines.items()):
                known = dict(zip(ROW, (dist.name, name, REFERENCE, "analytic"), strict=True))
                yield known | {f"return_{count}": value for count in self.shots}

    def _part(self, row: Row) -> pd.DataFrame:
        part = self.records
        for key, value in zip(ROW, row, strict=True):
            part = part[part[key] == value]
        return part


def _columns(name: str, value: Estimate) -> dict[str, float]:
    return {name: value.point, f"{name}_low": value.low, f"{name}_high": value.high}


def _rate_gain(difference: Array) -> Estimate:
    """Return the gain; without an interval where all gains agree: their bootstrap has no width."""
    found = estimate(difference)
    return replace(found, low=math.nan, high=math.nan) if found.low == found.high else found


def _insert_success(frame: pd.DataFrame, rates: Scores, shots: Sequence[int]) -> pd.DataFrame:
    """Return ``frame`` with success rates in [0, 1] behind the returns."""
    lines = []
    for row in frame[list(ROW)].itertuples(index=False, name=None):
        matrices = rates.get(row, {})
        line: dict[str, float] = {}
        for count in shots:
            value = matrices.get(min(matrices) if row[2] == REFERENCE and matrices else count)
            line |= _columns(f"success_{count}", NOTHING if value is None else estimate_rate(value))
        for count in shots[1:]:
            paired = count in matrices and 0 in matrices
            gain = _rate_gain(matrices[count] - matrices[0]) if paired else NOTHING
            line |= _columns(f"success_gain_{count}", gain)
        lines.append(line)
    place = list(frame.columns).index(f"return_{shots[-1]}_high") + 1
    left, right = frame.iloc[:, :place], frame.iloc[:, place:]
    return pd.concat([left, pd.DataFrame(lines, index=frame.index), right], axis=1)
