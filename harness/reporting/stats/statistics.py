"""Estimates with intervals, after Agarwal et al. 2021 (arXiv 2108.13264).

Array letters: S seeds, T tasks, R bootstrap replicates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

REPLICATES = 10_000
CONFIDENCE = 0.95
_Z = 1.959964
"""Quantile of the normal distribution that ``CONFIDENCE`` leaves 2.5 % above."""
MIN_SEEDS = 3
"""Fewest seeds that are resampled; below, the interval is over tasks."""
_BOOTSTRAP_SEED = 20210831
"""Fixed, so that a table made twice from the same records is the same table."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate with its 95 % interval; NaN where the data give none."""

    point: float
    low: float
    high: float


NOTHING = Estimate(np.nan, np.nan, np.nan)


def iqm(x: Float[np.ndarray, "*shape"], axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the interquartile mean: the mean after dropping ⌊n/4⌋ values at either end.

    With fewer than four values it is the mean. ``axis=None`` pools all values, as rliable does.
    """
    values = np.asarray(x, np.float64)
    axes = tuple(range(values.ndim)) if axis is None else np.atleast_1d(axis)
    axes = tuple(int(a) % values.ndim for a in axes)
    kept = [a for a in range(values.ndim) if a not in axes]
    pooled = values.transpose(*kept, *axes).reshape(*(values.shape[a] for a in kept), -1)
    cut = pooled.shape[-1] // 4
    return np.sort(pooled, axis=-1)[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def stratified_bootstrap(
    scores: Float[np.ndarray, "runs strata"],
    statistic: Callable[[Float[np.ndarray, "R runs strata"]], Float[np.ndarray, " R"]],
    replicates: int = REPLICATES,
) -> tuple[float, float]:
    """Return the percentile interval of ``statistic``, runs resampled within each stratum."""
    runs, strata = scores.shape
    draws = _draws(replicates, runs, strata)
    return _percentiles(statistic(scores[draws, np.arange(strata)]))


def probability_of_improvement(x: Float[np.ndarray, "Sx T"], y: Float[np.ndarray, "Sy T"]) -> float:
    """Return P(X > Y) on a task, ties counting half, averaged over tasks (Mann-Whitney U)."""
    return float(_wins(x, y).mean())


def estimate(values: Float[np.ndarray, "S T"]) -> Estimate:
    """Return the estimate of a row of the table from its score per seed and task.

    From ``MIN_SEEDS`` seeds on: mean over tasks within a seed, IQM over seeds, seeds resampled.
    Tasks of a seed are resampled together: they share one trained policy, so that resampling them
    apart would understate the spread. With fewer seeds: mean over seeds, then over tasks, tasks
    resampled. NaN marks a task without a valid episode; it is left out.
    """
    values = values[:, ~np.isnan(values).all(axis=0)]
    if not values.size or np.isnan(values).all(axis=1).any():
        return NOTHING
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
    """Return a rate in [0, 1]; its interval covers that of ``estimate`` and Wilson's.

    Near 0 and 1 the bootstrap promises too much: resampled failures are failures, and 0 of 20 would
    be known for certain. Wilson's interval takes a trial per task, whatever the number of episodes
    and seeds: they share the task's goal.
    """
    found = estimate(values)
    if np.isnan(found.point):
        return found
    trials = int((~np.isnan(values).all(axis=0)).sum())
    low, high = wilson(found.point, trials)
    return Estimate(found.point, float(np.fmin(low, found.low)), float(np.fmax(high, found.high)))


def wilson(rate: float, trials: int) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a rate seen in ``trials`` independent trials."""
    z2 = _Z**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z * np.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def estimate_improvement(x: Float[np.ndarray, "Sx T"], y: Float[np.ndarray, "Sy T"]) -> Estimate:
    """Return P(X > Y) with its interval, over seeds or tasks by the rule of ``estimate``."""
    good = ~(np.isnan(x).any(axis=0) | np.isnan(y).any(axis=0))
    if not good.any() or not len(x) or not len(y):
        return NOTHING
    wins = _wins(x[:, good], y[:, good])
    point = float(wins.mean())
    if min(len(x), len(y)) >= MIN_SEEDS:
        by_seeds = wins.mean(axis=2)
        first, second = _draws(REPLICATES, len(x), 1), _draws(REPLICATES, len(y), 1, salt=1)
        return Estimate(
            point, *_percentiles(by_seeds[first, second.transpose(0, 2, 1)].mean((1, 2)))
        )
    if wins.shape[2] < 2:
        return Estimate(point, np.nan, np.nan)
    by_task = wins.mean(axis=(0, 1))[:, None]
    return Estimate(point, *stratified_bootstrap(by_task, lambda draws: draws.mean(axis=(1, 2))))


def _wins(x: Array, y: Array) -> Array:
    """Return [Sx, Sy, T]: 1 where x is larger, 1/2 where equal."""
    difference = x[:, None, :] - y[None, :, :]
    return np.where(difference == 0, 0.5, difference > 0).astype(np.float64)


@functools.lru_cache(maxsize=16)
def _draws(
    replicates: int, runs: int, strata: int, salt: int = 0
) -> Int[np.ndarray, "R runs strata"]:
    rng = np.random.Generator(np.random.PCG64([_BOOTSTRAP_SEED, salt]))
    draws = rng.integers(runs, size=(replicates, runs, strata))
    draws.flags.writeable = False
    return draws


def _percentiles(values: Float[np.ndarray, " R"]) -> tuple[float, float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
