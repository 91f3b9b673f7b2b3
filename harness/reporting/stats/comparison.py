"""The comparison table: one row per policy, learner and adapter, from records and manifest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.reporting.stats.intervals import (
    FEW_SEEDS,
    NO_ESTIMATE,
    Estimate,
    detectable_difference,
    estimate,
    estimate_improvement,
    estimate_rate,
    student,
    wilson,
)
from harness.reporting.stats.scores import (
    ROW_KEY,
    RowKey,
    ScoreMatrix,
    Scores,
    check_same_grid,
    difference,
    of_row,
    row_keys,
    scores,
    success_scores,
    usable_records,
)
from harness.reporting.store.manifest import Manifest
from harness.types import REFERENCE, TASK_SHOWN
from task_distributions.base import class_of

FLAT = ("none", TASK_SHOWN)
"""Adapters whose rows score the same at every number of shots."""

CLASS = "class"
"""Column of a task's class: the part of its name before the ``/``."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table of a run as numbers, with title and caption."""

    task_dist: str
    frame: pd.DataFrame
    """One row per (task_dist, policy, learner, adapter), reference lines last. ``return_K``,
    ``gain_K``, ``regret_K``, ``success_K`` and ``success_gain_K`` have columns ``_low`` and
    ``_high`` beside them; so has ``gap_K`` of the ``ood`` split, its distance from ``test``.
    ``test_steps_K`` are environment steps of support data per task."""
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
    seed_scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One line per row, seed and shots: ``return`` (and ``success``), means over tasks."""
    task_scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One line per row (reference lines too), seed, shots and task: the mean ``return`` of its
    query episodes."""
    rewards: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One line per row, seed, shots and part of an episode: mean ``reward`` per step of the first
    query episodes around ``step``."""
    improvement: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One line per ordered pair of rows without privilege (``policy``, …, ``over_policy``, …):
    ``probability`` that the first beats the second after the most shots."""
    privileged: frozenset[RowKey] = frozenset()
    """Rows that observe the task."""
    oracle: RowKey | None = None
    """The privileged row with the best return, to which regret is measured."""
    seed_sd: float = math.nan
    """Standard deviation between seeds after the most shots, pooled over rows."""
    detectable: float = math.nan
    """Difference between two rows that this many seeds would show; see ``intervals``."""
    others: tuple[Comparison, ...] = ()
    """Tables of the other splits. Numbers of two splits never share a table."""

    @property
    def splits(self) -> tuple[Comparison, ...]:
        """This table and those of the other splits."""
        return (self, *self.others)

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
    for row_key in row_keys(table.frame):
        row: dict[str, float] = {}
        line = row_key[2] == REFERENCE  # the same at every shot count, and not trained
        for count in table.shots:
            scored = 0 if line else count
            pair = [part.get(row_key, {}).get(scored) for part in (inside, outside)]
            found = [matrix for matrix in pair if matrix is not None]
            paired = len(found) == 2 and found[0].seeds == found[1].seeds
            gap = student(found[1].by_seed - found[0].by_seed) if paired else NO_ESTIMATE
            row |= (Estimate(gap.point) if line else gap).columns(f"gap_{count}")
        rows.append(row)
    gaps = pd.DataFrame(rows, index=table.frame.index)
    return replace(table, frame=pd.concat([table.frame, gaps], axis=1))


def _split_table(records: pd.DataFrame, manifest: Manifest, split: str) -> Comparison:
    check_same_grid(records)
    competing = records[records["learner"] != REFERENCE]
    shots = tuple(sorted({0, *(int(k) for k in competing["shots"])}))
    builder = _RowBuilder(records, manifest, scores(records, "return_"), shots, split)
    frame = pd.DataFrame([*builder.competitors(), *builder.references()])
    classes, seeds = pd.DataFrame(), _by_seed(builder.competing, "return")
    if bool(records["success"].any()) or any(dist.has_success for dist in manifest.distributions):
        rates = success_scores(records, split)
        frame = _insert_success(frame, rates, shots)
        classes = class_table(records, frame, shots)
        seeds = seeds.merge(_by_seed({key: rates[key] for key in builder.competing}, "success"))
    scored = set(competing["cell"])
    sd, detectable = _power(builder.competing, shots[-1])
    return Comparison(
        task_dist=manifest.dist_name,
        frame=frame,
        shots=shots,
        num_tasks=records["task"].nunique(),
        split=split,
        classes=classes,
        seed_scores=seeds,
        task_scores=_by_task(builder.scores),
        rewards=_rewards(competing),
        improvement=builder.improvement(),
        privileged=builder.privileged,
        oracle=builder.oracle,
        seed_sd=sd,
        detectable=detectable,
        failed=manifest.failures(),
        missing=tuple(key for key in manifest.ids("pending", "running", "ok") if key not in scored),
        stopped={key: manifest.cells[key].reason for key in manifest.ids("stopped")},
    )


def _by_seed(competing: Scores, name: str) -> pd.DataFrame:
    lines = [
        dict(zip(ROW_KEY, row, strict=True)) | {"seed": seed, "shots": shots, name: float(value)}
        for row, matrices in competing.items()
        for shots, matrix in matrices.items()
        for seed, value in zip(matrix.seeds, matrix.by_seed, strict=True)
    ]
    return pd.DataFrame(lines, columns=[*ROW_KEY, "seed", "shots", name])


def _by_task(found: Scores) -> pd.DataFrame:
    lines = [
        (*row, seed, shots, task, value)
        for row, matrices in found.items()
        for shots, matrix in matrices.items()
        for seed, line in zip(matrix.seeds, matrix.values.tolist(), strict=True)
        for task, value in zip(matrix.tasks, line, strict=True)
    ]
    return pd.DataFrame(lines, columns=[*ROW_KEY, "seed", "shots", "task", "return"])


def _rewards(records: pd.DataFrame) -> pd.DataFrame:
    held = records[records["rewards"].map(len) > 0]
    lines = held.assign(part=held["rewards"].map(lambda values: range(len(values))))
    lines = lines.explode(["rewards", "part"]).astype({"rewards": float})
    keys = [*ROW_KEY, "seed", "shots", "part"]
    means = lines.groupby(keys)["rewards"].mean().rename("reward").reset_index()
    parts = held["rewards"].map(len).max()
    means["step"] = (means["part"].astype(float) + 0.5) * held["length_steps"].max() / parts
    return means.drop(columns="part")


def _power(competing: Scores, shots: int) -> tuple[float, float]:
    """Return the standard deviation between seeds and what difference they could have shown.

    Both are NaN unless some row has two seeds that differ. The fewest seeds of a row count.
    """
    means = [matrices[shots].by_seed for matrices in competing.values() if shots in matrices]
    means = [row for row in means if len(row) > 1 and np.ptp(row) > 0]  # not where one is NaN
    if not means:
        return math.nan, math.nan
    freedom = sum(len(row) - 1 for row in means)
    sd = math.sqrt(sum(float(np.var(row)) * len(row) for row in means) / freedom)
    return sd, detectable_difference(sd, min(map(len, means)))


@dataclass(frozen=True, slots=True)
class _RowBuilder:
    """Builds the rows of one split's table."""

    records: pd.DataFrame
    manifest: Manifest
    scores: Scores
    shots: tuple[int, ...]
    split: str

    @property
    def competing(self) -> Scores:
        """Scores of all rows but reference lines."""
        return {row: found for row, found in self.scores.items() if row[2] != REFERENCE}

    @property
    def privileged(self) -> frozenset[RowKey]:
        """The rows that observe the task."""
        cells = self.manifest.cells.values()
        names = {(c.task_dist, c.policy, c.learner) for c in cells if c.observes_task}
        rows = self.competing
        return frozenset(row for row in rows if row[:3] in names or row[3].startswith(TASK_SHOWN))

    @property
    def oracle(self) -> RowKey | None:
        """The privileged row with the best return after the most shots.

        Of those with ``FEW_SEEDS``, or of those with the most: the best of single seeds is luck.
        """
        last = self.shots[-1]
        found = {r: self.scores[r][last] for r in self.privileged if last in self.scores[r]}
        means = {row: estimate(matrix.values).point for row, matrix in found.items()}
        seeds = {row: len(found[row].seeds) for row, mean in means.items() if not math.isnan(mean)}
        enough = min(FEW_SEEDS, max(seeds.values(), default=0))
        rows = [row for row, count in seeds.items() if count >= enough]
        return max(rows, key=lambda row: (means[row], row), default=None)

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
        records = of_row(self.records, row_key)
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
        row |= self._returns(row_key, matrices)
        return row | self._costs(records, cells)

    def _returns(self, row_key: RowKey, matrices: Mapping[int, ScoreMatrix]) -> dict[str, Any]:
        """Return the columns of returns, gains over 0 shots and regret to the oracle."""
        row: dict[str, Any] = {}
        for count in self.shots:
            value = estimate(matrices[count].values) if count in matrices else NO_ESTIMATE
            row |= value.columns(f"return_{count}")
        for count in self.shots[1:]:
            paired = count in matrices and 0 in matrices
            value = difference(matrices[count], matrices[0]) if paired else NO_ESTIMATE
            row |= value.columns(f"gain_{count}")
        if (best := self.oracle) is not None:
            oracle = self.scores[best]
            for count in self.shots:
                compared = row_key != best and count in matrices and count in oracle
                value = difference(oracle[count], matrices[count]) if compared else NO_ESTIMATE
                row |= value.columns(f"regret_{count}")
        return row

    def improvement(self) -> pd.DataFrame:
        """Return the probability of improvement of each row over each other one.

        Rows with one seed and privileged rows are left out.
        """
        last = self.shots[-1]
        rows = {
            key: found[last].values
            for key, found in self.competing.items()
            if last in found and key not in self.privileged and len(found[last].seeds) > 1
        }
        lines = [
            dict(zip(ROW_KEY, first, strict=True))
            | {f"over_{name}": value for name, value in zip(ROW_KEY[1:], second[1:], strict=True)}
            | estimate_improvement(rows[first], rows[second]).columns("probability")
            for first, second in itertools.permutations(rows, 2)
        ]
        return pd.DataFrame(lines)

    def _costs(self, records: pd.DataFrame, cells: Sequence[str]) -> dict[str, Any]:
        """Return costs per cell, averaged over seeds, and the number of invalid episodes."""
        states = [self.manifest.cells[key] for key in cells if key in set(records["cell"])]
        seconds = [state.wall_seconds for state in states if state.wall_seconds is not None]
        per_cell = records.groupby("cell")[["num_params", "train_env_steps"]].max().mean()
        support = records.groupby("shots")["support_env_steps"].mean()
        return {
            "num_params": per_cell["num_params"],
            "train_env_steps": per_cell["train_env_steps"],
            "wall_seconds": sum(seconds) / len(seconds) if seconds else float("nan"),
            "invalid_episodes": int(records["invalid"].sum()),
        } | {f"test_steps_{count}": float(support.get(count, np.nan)) for count in self.shots}

    def references(self) -> Iterator[dict[str, Any]]:
        """Yield measured, failed and analytic reference lines: one value for every shot count."""
        for row_key, matrices in self.scores.items():
            if row_key[2] == REFERENCE:
                records = of_row(self.records, row_key)
                row: dict[str, Any] = dict(zip(ROW_KEY, row_key, strict=True))
                row["seeds"] = records["seed"].nunique()
                value = Estimate(estimate(matrices[min(matrices)].values).point)
                for count in self.shots:
                    row |= value.columns(f"return_{count}")
                yield row | {"invalid_episodes": int(records["invalid"].sum())}
        for name in self.manifest.failed_references:
            names = dict(zip(ROW_KEY, (self.manifest.dist_name, name, REFERENCE, ""), strict=True))
            yield names | {"seeds": 0, "seeds_failed": 1}
        (dist,) = self.manifest.distributions
        others = dist.other_references.get(self.split, {})
        lines = dist.references if self.split == "test" else others
        for name, constant in sorted(lines.items()):
            names = dict(zip(ROW_KEY, (dist.name, name, REFERENCE, "analytic"), strict=True))
            yield names | {f"return_{count}": constant for count in self.shots}


def _insert_success(frame: pd.DataFrame, rates: Scores, shots: Sequence[int]) -> pd.DataFrame:
    """Return ``frame`` with success rates in [0, 1] after the returns."""
    rows = []
    for row_key in row_keys(frame):
        matrices = rates.get(row_key, {})
        row: dict[str, float] = {}
        for count in shots:
            value = matrices.get(min(matrices) if row_key[2] == REFERENCE and matrices else count)
            found = NO_ESTIMATE if value is None else estimate_rate(value.values)
            # Reference lines are not trained: another seed of theirs is no other training.
            found = Estimate(found.point) if row_key[2] == REFERENCE else found
            row |= found.columns(f"success_{count}")
        for count in shots[1:]:
            paired = count in matrices and 0 in matrices
            gain = difference(matrices[count], matrices[0]) if paired else NO_ESTIMATE
            row |= gain.columns(f"success_gain_{count}")
        rows.append(row)
    position = list(frame.columns).index(f"return_{shots[-1]}_high") + 1
    left, right = frame.iloc[:, :position], frame.iloc[:, position:]
    return pd.concat([left, pd.DataFrame(rows, index=frame.index), right], axis=1)


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
        for row_key in row_keys(table):
            if row_key in rates:
                line = {CLASS: name} | dict(zip(ROW_KEY, row_key, strict=True))
                line["goals"] = len(next(iter(rates[row_key].values())).tasks)
                for count in shots:
                    source = 0 if row_key[2] == REFERENCE else count
                    line |= _class_rate(rates[row_key].get(source)).columns(f"success_{count}")
                    line[f"return_{count}"] = _mean(returns[row_key].get(source))
                lines.append(line)
    return pd.DataFrame(lines)


def _class_rate(rates: ScoreMatrix | None) -> Estimate:
    point = _mean(rates)
    trials = 0 if rates is None else int((~np.isnan(rates.values).all(axis=0)).sum())
    return Estimate(point, *wilson(point, trials)) if trials else NO_ESTIMATE


def _mean(matrix: ScoreMatrix | None) -> float:
    """Return the mean over seeds and tasks that have a valid episode."""
    if matrix is None or np.isnan(matrix.values).all():
        return float("nan")
    return float(np.nanmean(matrix.values))
