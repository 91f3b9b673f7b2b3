"""Scores across distributions: normalised, then aggregated over distributions and seeds.

The definitions are those of Agarwal et al. 2021 (arXiv 2108.13264), whose "tasks" are our
distributions: one run is one seed, its score the mean over a distribution's test tasks. Array
letters: S seeds, D distributions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.intervals import (
    FEW_SEEDS,
    MANY,
    NO_ESTIMATE,
    Array,
    Estimate,
    improvement_by_seed,
    stratified_bootstrap,
)
from harness.reporting.stats.scores import ROW_KEY, RowKey

CONSTANTS_FILE = Path(__file__).with_name("normalization.yaml")

_LOCOMOTION = (
    "halfcheetah-vel", "ant-vel", "walker2d-vel", "ant-dir", "halfcheetah-gravity", "ant-mass",
)  # fmt: skip
_METAWORLD, _IMUJOCO = ("metaworld-ml10", "metaworld-ml45"), ("imujoco-halfcheetah", "imujoco-ant")
SUITES: dict[str, tuple[str, ...]] = {
    "locomotion": _LOCOMOTION,
    "metaworld": _METAWORLD,
    "imujoco": _IMUJOCO,
    "all": (*_LOCOMOTION, *_METAWORLD, *_IMUJOCO),
}
"""Names of distributions that are aggregated together."""
THRESHOLDS = np.linspace(0.0, 1.2, 61)
"""Normalised scores at which a performance profile is drawn."""


class Constant(BaseModel):
    """A normalised score's 0 or 1, and how it was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    row: str
    """What was measured, e.g. ``mlp oracle``."""
    seeds: int | None = None
    """None where the value is a definition."""
    env_steps: float | None = None
    """Training budget."""
    source: str
    """Published folder, command or definition."""


class Normalization(BaseModel):
    """What 0 and 1 mean for one version of a distribution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: Literal["return", "success"] = "return"
    zero: Constant
    one: Constant

    @property
    def provisional(self) -> bool:
        """Whether the 1 was measured on too few seeds."""
        return self.one.seeds is not None and self.one.seeds < FEW_SEEDS

    def apply(self, scores: Array) -> Array:
        """Return normalised scores."""
        normalised: Array = (scores - self.zero.value) / (self.one.value - self.zero.value)
        return normalised


class Constants(BaseModel):
    """The file of constants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    constants: dict[str, Normalization]
    """By ``name@version``."""


@functools.cache
def constants() -> Constants:
    """Return the constants of this version of the code."""
    return Constants.model_validate(yaml.safe_load(CONSTANTS_FILE.read_text(encoding="utf-8")))


def iqm(scores: Float[np.ndarray, "... S D"]) -> Any:
    """Return the interquartile mean: the mean without the ⌊n/4⌋ lowest and highest of n = S·D."""
    from scipy import stats

    pooled = scores.reshape(*scores.shape[:-2], -1)
    return stats.trim_mean(pooled, 0.25, axis=-1)


def optimality_gap(scores: Float[np.ndarray, "... S D"]) -> Any:
    """Return how far scores fall short of 1 on average; those above 1 count as 1."""
    return 1.0 - np.minimum(scores, 1.0).mean(axis=(-2, -1))


def performance_profile(
    scores: Float[np.ndarray, "S D"], thresholds: Float[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Return the fraction of runs that score above each threshold."""
    profile: Array = (scores[..., None] > thresholds).mean(axis=(0, 1))
    return profile


def aggregate(
    scores: Float[np.ndarray, "S D"],
    statistic: Callable[[Float[np.ndarray, "... S D"]], Float[np.ndarray, ...]],
) -> Estimate:
    """Return a statistic of normalised scores with its 95 % interval.

    The stratified bootstrap resamples the seeds of each distribution. S seeds show only (S − 1)/S
    of their variance, so the interval is widened by √(S/(S − 1)). No interval for one seed, or for
    fewer than ``MANY`` runs.
    """
    point, seeds = float(statistic(scores)), len(scores)
    if seeds < 2 or scores.size < MANY:
        return Estimate(point)
    low, high = stratified_bootstrap(scores, statistic)
    wider = math.sqrt(seeds / (seeds - 1))
    return Estimate(point, point + wider * (low - point), point + wider * (high - point))


def improvement(x: Float[np.ndarray, "Sx D"], y: Float[np.ndarray, "Sy D"]) -> Estimate:
    """Return P(X > Y) on a distribution, averaged over distributions."""
    wins = improvement_by_seed(x, y)
    return Estimate(float(wins.mean())) if wins.size else NO_ESTIMATE


@dataclass(frozen=True, slots=True)
class Across:
    """Rows that were scored on every distribution of a suite, aggregated."""

    suite: str
    distributions: tuple[str, ...]
    """``name@version`` each."""
    shots: tuple[int, ...]
    """Numbers of shots after which all distributions were scored."""
    frame: pd.DataFrame
    """One row per policy, learner and adapter: ``iqm_K``, and ``mean`` and ``optimality_gap`` after
    the most shots, with ``_low`` and ``_high``; ``seeds`` and ``runs``."""
    improvement: pd.DataFrame
    """One line per ordered pair of rows without privilege, as ``Comparison.improvement``."""
    profiles: dict[RowKey, Array]
    """Row (policy, learner, adapter) -> fraction of runs above each of ``THRESHOLDS``."""
    scores: dict[RowKey, Array]
    """Row -> normalised scores [S, D] after the most shots."""
    version: int
    """Of the constants."""
    provisional: tuple[str, ...]
    """Distributions whose 1 was measured on fewer than three seeds."""
    left_out: tuple[str, ...]
    """Rows that were not scored on every distribution, and seeds that were cut, as text."""


def across(tables: Mapping[str, Comparison]) -> list[Across]:
    """Return an aggregate for each suite whose distributions are all there, and for all of them.

    Args:
        tables: ``name@version`` -> its table. Those without constants are not aggregated.
    """
    known = [name for name in tables if name in constants().constants]
    by_name = {name.partition("@")[0]: name for name in sorted(known)}  # the newest version
    wanted = {
        suite: [by_name[name] for name in names]
        for suite, names in SUITES.items()
        if all(name in by_name for name in names)
    }
    if len(known) > 1 and sorted(known) not in (sorted(names) for names in wanted.values()):
        wanted["these"] = known
    return [
        _across(suite, {name: tables[name] for name in names}) for suite, names in wanted.items()
    ]


def _across(suite: str, tables: Mapping[str, Comparison]) -> Across:
    shots = tuple(sorted(set.intersection(*(set(table.shots) for table in tables.values()))))
    last, left_out = shots[-1], []
    rows = list(dict.fromkeys(row for table in tables.values() for row in _rows(table)))
    lines, scores = [], {}
    for row in rows:
        by_count = {count: _matrix(tables, row, count) for count in shots}
        found = by_count[last]
        if found is None:
            left_out.append(f"{' '.join(filter(None, row))} (not scored on every distribution)")
            continue
        matrix, cut = found
        if cut:
            left_out.append(f"{cut} further seeds of {' '.join(filter(None, row))}")
        scores[row] = matrix
        line: dict[str, Any] = dict(zip(ROW_KEY[1:], row, strict=True))
        line |= {"seeds": len(matrix), "runs": matrix.size}
        for count, part in by_count.items():
            line |= (NO_ESTIMATE if part is None else aggregate(part[0], iqm)).columns(
                f"iqm_{count}"
            )
        line |= aggregate(matrix, lambda values: values.mean(axis=(-2, -1))).columns("mean")
        lines.append(line | aggregate(matrix, optimality_gap).columns("optimality_gap"))
    privileged = {row[1:] for table in tables.values() for row in table.privileged}
    return Across(
        suite=suite,
        distributions=tuple(tables),
        shots=shots,
        frame=pd.DataFrame(lines),
        improvement=_pairs({row: part for row, part in scores.items() if row not in privileged}),
        profiles={row: performance_profile(part, THRESHOLDS) for row, part in scores.items()},
        scores=scores,
        version=constants().version,
        provisional=tuple(n for n in tables if constants().constants[n].provisional),
        left_out=tuple(left_out),
    )


def _rows(table: Comparison) -> list[RowKey]:
    keys = table.seed_scores[list(ROW_KEY[1:])].drop_duplicates()
    return [tuple(map(str, key)) for key in keys.itertuples(index=False, name=None)]


def _matrix(tables: Mapping[str, Comparison], row: RowKey, shots: int) -> tuple[Array, int] | None:
    """Return the normalised scores [S, D] of a row, and how many seeds did not fit in.

    Every distribution counts as many seeds as the one with the fewest has, in ascending order. None
    if some distribution has no score of the row, or a seed of it has no valid episode.
    """
    columns = []
    for name, table in tables.items():
        constant = constants().constants[name]
        lines = table.seed_scores[table.seed_scores["shots"] == shots]
        for key, value in zip(ROW_KEY[1:], row, strict=True):
            lines = lines[lines[key] == value]
        values = lines.sort_values("seed")[constant.measure].to_numpy(np.float64)
        columns.append(constant.apply(values))
    seeds = min(map(len, columns))
    if not seeds or any(np.isnan(values).any() for values in columns):
        return None
    matrix = np.stack([values[:seeds] for values in columns], axis=1)
    return matrix, sum(map(len, columns)) - matrix.size


def _pairs(scores: Mapping[RowKey, Array]) -> pd.DataFrame:
    lines = [
        dict(zip(ROW_KEY[1:], first, strict=True))
        | {f"over_{name}": value for name, value in zip(ROW_KEY[1:], second, strict=True)}
        | improvement(scores[first], scores[second]).columns("probability")
        for first, second in permutations(scores, 2)
    ]
    return pd.DataFrame(lines)
