"""Point estimates with 95 % intervals.

The unit is the seed: all tasks of a seed share one trained policy, so the spread between tasks says
nothing about another training run. Array letters: S seeds, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

CONFIDENCE = 0.95
FEW_SEEDS = 3
"""Seeds that an oracle should have to be a measure for others."""
POWER = 0.8
"""Probability with which ``detectable_difference`` is found."""
REPLICATES = 5_000
"""Bootstrap replicates."""
MANY = 10
"""Fewest runs that are resampled. Fewer have too few distinct resamples for a bootstrap."""
_BOOTSTRAP_SEED = 20210831
"""Fixed, so the same records always give the same table."""

# scipy.stats takes half a second to import, so it is imported where it is used.

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate with its 95 % interval; NaN where the data give none."""

    point: float
    low: float = math.nan
    high: float = math.nan

    def columns(self, name: str) -> dict[str, float]:
        """Return the table columns ``name``, ``name_low`` and ``name_high``."""
        return {name: self.point, f"{name}_low": self.low, f"{name}_high": self.high}


NO_ESTIMATE = Estimate(math.nan)


def common_tasks(values: Float[np.ndarray, "S T"]) -> Bool[np.ndarray, " T"]:
    """Return which tasks have a valid episode of every seed that has any."""
    alive = ~np.isnan(values).all(axis=1)
    common: np.ndarray = ~np.isnan(values[alive]).any(axis=0)
    return common


def seed_means(values: Float[np.ndarray, "S T"]) -> Float[np.ndarray, " S"]:
    """Return the mean over tasks of each seed.

    A task that some seed has no valid episode of (NaN) is left out for all of them, so that the
    means are over the same tasks. A seed without any valid episode is NaN.
    """
    alive, common = ~np.isnan(values).all(axis=1), common_tasks(values)
    means: Array = np.full(len(values), math.nan)
    if common.any():
        means[alive] = values[alive][:, common].mean(axis=1)
    return means


def student(means: Float[np.ndarray, " S"]) -> Estimate:
    """Return the mean of the seeds with Student's t interval; no interval for one seed.

    Seeds that are all equal are copies, such as the returns of fixed actions from a fixed start, or
    the gains of a policy that does not adapt: they have no interval either. One seed without a
    valid episode makes the estimate NaN: the others are not a sample of all.
    """
    seeds = len(means)
    if not seeds or np.isnan(means).any():
        return NO_ESTIMATE
    point = float(means.mean())
    if seeds < 2 or not np.ptp(means):
        return Estimate(point)
    quantile = special.stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)
    half = float(quantile * means.std(ddof=1) / math.sqrt(seeds))
    return Estimate(point, point - half, point + half)


def estimate(values: Float[np.ndarray, "S T"]) -> Estimate:
    """Return the estimate for one row of the table: mean over tasks, then over seeds."""
    return student(seed_means(values))


def estimate_difference(
    first: Float[np.ndarray, "Sx T"], second: Float[np.ndarray, "Sy T"], *, paired: bool
) -> Estimate:
    """Return the mean of ``first`` minus that of ``second`` over the same T tasks.

    Args:
        first: scores by seed and task.
        second: scores by seed and task, of the same seeds if ``paired``.
        paired: take differences seed by seed, with Student's interval; else Welch's interval.
    """
    if paired:
        return estimate(first - second)
    common = common_tasks(first) & common_tasks(second)
    x, y = seed_means(first[:, common]), seed_means(second[:, common])
    point = float(x.mean() - y.mean())
    if math.isnan(point) or min(len(x), len(y)) < 2 or not (np.ptp(x) or np.ptp(y)):
        return Estimate(point)
    from scipy import stats

    interval = stats.ttest_ind(x, y, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(point, float(interval.low), float(interval.high))


def estimate_rate(values: Float[np.ndarray, "S C"]) -> Estimate:
    """Return a rate in [0, 1], the mean over classes, then over seeds.

    The interval is Student's over seeds, cut to [0, 1]. Where all seeds agree (mostly at 0 or 1),
    it is Wilson's with one trial per class: tasks of a class succeed or fail together.

    Args:
        values: rate by seed and class; NaN without a valid episode.
    """
    found = estimate(values)
    if math.isnan(found.point) or len(values) < 2:
        return found
    if math.isnan(found.low):
        trials = int((~np.isnan(values).all(axis=0)).sum())
        return Estimate(found.point, *wilson(found.point, trials))
    return Estimate(found.point, max(found.low, 0.0), min(found.high, 1.0))


def wilson(rate: float, trials: int) -> tuple[float, float]:
    """Return Wilson's score interval (1927) for ``rate`` in ``trials`` independent trials.

    ``scipy.stats.binomtest`` needs an integer count; ``rate`` may be a mean over seeds.
    """
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    center = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    return 0.0 if rate == 0 else float(center - half), 1.0 if rate == 1 else float(center + half)


def detectable_difference(sd: float, seeds: int) -> float:
    """Return the difference between two rows that a two-sided paired t test finds with ``POWER``.

    That is the test of ``estimate_difference`` for rows of the same seeds. The scores of a seed in
    both rows are taken as independent.

    Args:
        sd: standard deviation between seeds, of either row.
        seeds: seeds of each row; NaN is returned for fewer than two.
    """
    if seeds < 2 or not math.isfinite(sd):
        return math.nan
    critical = special.stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)
    # The noncentrality at which the statistic exceeds its critical value so often.
    shift = special.nctdtrinc(seeds - 1, 1 - POWER, critical)
    return float(sd * shift * math.sqrt(2 / seeds))


def improvement_by_seed(
    x: Float[np.ndarray, "Sx T"], y: Float[np.ndarray, "Sy T"]
) -> Float[np.ndarray, "Sx Sy T"]:
    """Return 1 where a seed of ``x`` beats a seed of ``y`` on a task, 0 where not, ½ for a tie.

    A task that some seed has no valid episode of is left out. The mean over seeds is Mann and
    Whitney's U statistic; that over tasks too is the probability of improvement (arXiv 2108.13264).
    """
    valid: Bool[np.ndarray, " T"] = ~(np.isnan(x).any(axis=0) | np.isnan(y).any(axis=0))
    difference = x[:, None, valid] - y[None, :, valid]
    return np.where(difference == 0, 0.5, difference > 0)


def estimate_improvement(x: Float[np.ndarray, "Sx T"], y: Float[np.ndarray, "Sy T"]) -> Estimate:
    """Return P(X > Y) on a task, averaged over tasks that share their seeds' policies.

    The interval resamples the seeds of both; none with fewer than ``MANY`` seeds on a side.
    """
    wins = improvement_by_seed(x, y)
    if not wins.size:
        return NO_ESTIMATE
    by_seed = wins.mean(axis=2)
    point = float(by_seed.mean())
    if min(by_seed.shape) < MANY:
        return Estimate(point)
    places = tuple(np.arange(count) for count in by_seed.shape)

    def mean(first: Any, second: Any, axis: int) -> Array:
        chosen: Array = by_seed[first[..., :, None], second[..., None, :]].mean(axis=(-2, -1))
        return chosen

    return Estimate(point, *_percentile_interval(places, mean))


def stratified_bootstrap(
    scores: Float[np.ndarray, "runs strata"],
    statistic: Callable[[Float[np.ndarray, "... runs strata"]], Float[np.ndarray, ...]],
) -> tuple[float, float]:
    """Return the percentile interval of ``statistic``, resampling runs within each stratum."""

    def on_strata(*strata: Array, axis: int) -> Array:
        return statistic(np.stack(strata, axis=-1))

    return _percentile_interval(tuple(scores.T), on_strata)


def _percentile_interval(
    samples: tuple[np.ndarray, ...], statistic: Callable[..., Array]
) -> tuple[float, float]:
    from scipy import stats

    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=REPLICATES,
        batch=500,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_BOOTSTRAP_SEED),
    )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)
