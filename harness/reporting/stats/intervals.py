"""Point estimates with 95 % intervals (Agarwal et al. 2021, arXiv 2108.13264).

Array letters: S seeds, T tasks, R bootstrap replicates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int

REPLICATES = 10_000
CONFIDENCE = 0.95
MIN_SEEDS = 3
"""With fewer seeds the interval is over tasks instead of seeds."""
_BOOTSTRAP_SEED = 20210831
"""Fixed, so the same records always give the same table."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate with its 95 % interval; NaN where the data give none."""

    point: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float]:
        """Return the table columns ``name``, ``name_low`` and ``name_high``."""
        return {name: self.point, f"{name}_low": self.low, f"{name}_high": self.high}


NO_ESTIMATE = Estimate(np.nan, np.nan, np.nan)


def iqm(x: Float[np.ndarray, "*shape"], axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the interquartile mean: the mean without the ⌊n/4⌋ lowest and highest values.

    With fewer than four values this is the mean. ``axis=None`` pools all values.
    """
    from scipy.stats import trim_mean  # takes half a second, which most commands need not spend

    return trim_mean(x, 0.25, axis=axis)


def stratified_bootstrap(
    scores: Float[np.ndarray, "runs strata"],
    statistic: Callable[[Float[np.ndarray, "R runs strata"]], Float[np.ndarray, " R"]],
    replicates: int = REPLICATES,
) -> tuple[float, float]:
    """Return the percentile interval of ``statistic``, resampling runs within each stratum."""
    runs, strata = scores.shape
    draws = _draws(replicates, runs, strata)
    return _percentiles(statistic(scores[draws, np.arange(strata)]))


def estimate(values: Float[np.ndarray, "S T"]) -> Estimate:
    """Return the estimate for one row of the table from its score per seed and task.

    With ``MIN_SEEDS`` seeds or more: mean over tasks within each seed, then IQM over seeds, with
    seeds resampled. All tasks of a seed share one trained policy, so resampling tasks as well
    would understate the spread. With fewer seeds: mean over seeds and tasks, with tasks resampled.
    Tasks that are NaN (no valid episode) are left out.
    """
    values = values[:, ~np.isnan(values).all(axis=0)]
    if not values.size or np.isnan(values).all(axis=1).any():
        return NO_ESTIMATE
    if len(values) >= MIN_SEEDS:
        scores = np.nanmean(values, axis=1)[:, None]
        low, high = stratified_bootstrap(scores, lambda draws: iqm(draws, axis=(1, 2)))
        return Estimate(float(iqm(scores)), low, high)
    scores = np.nanmean(values, axis=0)[:, None]
    if len(scores) < 2:
        return Estimate(float(scores.mean()), np.nan, np.nan)
    low, high = stratified_bootstrap(scores, lambda draws: draws.mean(axis=(1, 2)))
    return Estimate(float(scores.mean()), low, high)


def estimate_rate(values: Float[np.ndarray, "S T"]) -> Estimate:
    """Return a rate in [0, 1]; its interval is the union of the bootstrap's and Wilson's.

    Near 0 and 1 the bootstrap alone is too narrow: resampling 0 of 20 successes gives an interval
    of zero width. Wilson's interval counts one trial per task, however many episodes and seeds
    were run on it, because they share the task's goal.
    """
    bootstrap = estimate(values)
    if np.isnan(bootstrap.point):
        return bootstrap
    trials = int((~np.isnan(values).all(axis=0)).sum())
    low, high = wilson(bootstrap.point, trials)
    return Estimate(
        bootstrap.point,
        float(np.fmin(low, bootstrap.low)),
        float(np.fmax(high, bootstrap.high)),
    )


def wilson(rate: float, trials: int) -> tuple[float, float]:
    """Return Wilson's score interval (1927) for ``rate`` in ``trials`` independent trials.

    ``scipy.stats.binomtest`` needs an integer count; ``rate`` may be a mean over seeds.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    center = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    return 0.0 if rate == 0 else float(center - half), 1.0 if rate == 1 else float(center + half)


def estimate_improvement(x: Float[np.ndarray, "Sx T"], y: Float[np.ndarray, "Sy T"]) -> Estimate:
    """Return P(X > Y) on a task, averaged over tasks; ties count one half (Mann-Whitney U).

    The interval resamples seeds or tasks by the same rule as ``estimate``.
    """
    valid = ~(np.isnan(x).any(axis=0) | np.isnan(y).any(axis=0))
    if not valid.any() or not len(x) or not len(y):
        return NO_ESTIMATE
    difference = x[:, None, valid] - y[None, :, valid]
    wins = np.where(difference == 0, 0.5, difference > 0)  # [Sx, Sy, T]
    point = float(wins.mean())
    if min(len(x), len(y)) >= MIN_SEEDS:
        by_seed = wins.mean(axis=2)
        first, second = _draws(REPLICATES, len(x), 1), _draws(REPLICATES, len(y), 1, stream=1)
        resampled = by_seed[first, second.transpose(0, 2, 1)]
        return Estimate(point, *_percentiles(resampled.mean(axis=(1, 2))))
    if wins.shape[2] < 2:
        return Estimate(point, np.nan, np.nan)
    by_task = wins.mean(axis=(0, 1))[:, None]
    return Estimate(point, *stratified_bootstrap(by_task, lambda draws: draws.mean(axis=(1, 2))))


@functools.lru_cache(maxsize=16)
def _draws(
    replicates: int, runs: int, strata: int, stream: int = 0
) -> Int[np.ndarray, "R runs strata"]:
    """Return the run drawn at each place of each replicate; cached, because rows share them."""
    rng = np.random.Generator(np.random.PCG64([_BOOTSTRAP_SEED, stream]))
    draws = rng.integers(runs, size=(replicates, runs, strata))
    draws.flags.writeable = False
    return draws


def _percentiles(values: Float[np.ndarray, " R"]) -> tuple[float, float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
