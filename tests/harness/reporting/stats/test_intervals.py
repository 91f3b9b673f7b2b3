"""Intervals cover what they say they cover, and are absent where there is nothing to go by."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from harness.reporting.stats.intervals import (
    MANY,
    detectable_difference,
    estimate,
    estimate_difference,
    estimate_improvement,
    estimate_rate,
    seed_means,
    stratified_bootstrap,
    wilson,
)

FINITE = st.floats(-1e6, 1e6)
MATRICES = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=FINITE)
REPEATS = 2500


def coverage(draw, truth, seeds, *, repeats=REPEATS, estimator=estimate):
    """Part of ``repeats`` intervals that hold ``truth``; ``draw`` returns scores [S, T]."""
    hits = 0
    for _ in range(repeats):
        found = estimator(draw(seeds))
        hits += found.low <= truth <= found.high
    return hits / repeats


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_printed_intervals_cover_the_mean_of_normal_seeds_in_95_percent(seeds):
    rng = np.random.default_rng(seeds)
    tasks = rng.normal(0, 50, 4)  # tasks differ by far more than seeds

    def draw(count):
        return -50 + rng.normal(0, 11, (count, 1)) + tasks - tasks.mean()

    assert abs(coverage(draw, -50.0, seeds) - 0.95) < 0.02


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_printed_intervals_of_gains_cover_in_95_percent(seeds):
    rng = np.random.default_rng(seeds)

    def draw(count):  # seeds differ by more than their gains
        before = rng.normal(0, 30, (count, 1))
        return before, before + rng.normal(10, 5, (count, 1))

    def gain(pair):
        return estimate_difference(pair[1], pair[0], paired=True)

    assert abs(coverage(draw, 10.0, seeds, estimator=gain) - 0.95) < 0.02


def test_intervals_of_rows_with_other_seeds_cover_in_95_percent():
    rng = np.random.default_rng(0)

    def draw(count):  # one row varies four times as much, and has other seeds
        return rng.normal(0, 20, (count, 1)), rng.normal(-30, 5, (count - 2, 1))

    def gap(pair):
        return estimate_difference(*pair, paired=False)

    assert abs(coverage(draw, 30.0, 5, estimator=gap) - 0.95) < 0.02


def test_one_failing_seed_in_five_is_covered_less_often_and_makes_intervals_wide():
    """A third of all fives have no failing seed, and say nothing of it: dots and n have to."""
    rng = np.random.default_rng(0)
    widths: dict[bool, list[float]] = {True: [], False: []}

    def draw(count):
        failing = rng.random((count, 1)) < 0.2
        scores = np.where(failing, -180.0, rng.normal(-50, 11, (count, 1)))
        found = estimate(scores)
        widths[bool(failing.any())].append(found.high - found.low)
        return scores

    assert 0.64 < coverage(draw, 0.8 * -50 + 0.2 * -180, 5) < 0.71
    assert np.median(widths[True]) > 4 * np.median(widths[False])


def test_the_mean_of_three_seeds_by_hand():
    found = estimate(np.array([[-38.4], [-44.1], [-59.9]]))
    # t of 2 degrees of freedom is 4.303, the standard error 6.433.
    assert (found.point, found.low, found.high) == pytest.approx(
        (-47.467, -75.147, -19.786), abs=2e-2
    )


@given(MATRICES, st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_estimates_move_with_the_scores_and_do_not_depend_on_order(values, seed):
    found, spread = estimate(values), np.ptp(seed_means(values))
    assume(spread == 0 or spread > 1e-6)
    assert found.point == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
    assert math.isnan(found.low) == (spread == 0)
    shuffled = estimate(np.random.default_rng(seed).permutation(values))
    moved, turned = estimate(values + 7), estimate(-values)
    for other, expected in (
        (shuffled, (found.point, found.low, found.high)),
        (moved, (found.point + 7, found.low + 7, found.high + 7)),
        (turned, (-found.point, -found.high, -found.low)),
    ):
        assert (other.point, other.low, other.high) == pytest.approx(
            expected, rel=1e-9, abs=1e-6, nan_ok=True
        )


def test_seeds_are_the_unit():
    # Tasks differ wildly but every seed has the same mean: over seeds there is nothing to measure.
    same = estimate(np.array([[0.0, 100.0], [50.0, 50.0], [100.0, 0.0]]))
    assert same.point == 50.0
    assert math.isnan(same.low)
    # More tasks of the same kind add nothing.
    scores = np.array([[1.0], [2.0], [4.0]])
    assert estimate(scores) == estimate(np.repeat(scores, 30, axis=1))


def test_one_seed_has_no_interval_however_many_tasks():
    found = estimate(np.arange(30.0)[None])
    assert found.point == 14.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_tasks_without_a_valid_episode_are_left_out():
    values = np.array([[1.0, np.nan, 3.0]])
    assert estimate(values).point == 2.0
    assert np.isnan(estimate(np.array([[np.nan, np.nan]])).point)
    # A seed without any valid episode is no result of the others alone.
    assert np.isnan(estimate(np.array([[1.0], [1.0], [np.nan]])).point)


def test_a_difference_is_over_the_tasks_that_both_rows_have():
    tasks = np.array([[0.0, -100.0, -200.0]] * 3)
    less = np.where(tasks < -150, np.nan, tasks)
    assert estimate_difference(less, tasks[:2], paired=False).point == 0.0
    assert estimate_difference(less, tasks, paired=True).point == 0.0


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_unpaired_differences_are_welchs(sx, sy, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(1, 2, sx), rng.normal(0, 1, sy)
    found = estimate_difference(x[:, None], y[:, None], paired=False)
    theirs = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert found.point == pytest.approx(x.mean() - y.mean())
    lone = estimate_difference(x[:1, None], y[:, None], paired=False)
    assert math.isnan(lone.low)


def test_what_could_have_been_seen_is_what_a_simulation_finds():
    size, sd = detectable_difference(11.0, 5), 11.0
    assert size == pytest.approx(26.1, abs=0.1)
    assert detectable_difference(11.0, 3) == pytest.approx(50.8, abs=0.1)
    assert detectable_difference(11.0, 19) == pytest.approx(10.6, abs=0.1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size, sd, (5, REPEATS)), rng.normal(0, sd, (5, REPEATS))
    found = (stats.ttest_rel(x, y).pvalue < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.02)
    assert math.isnan(detectable_difference(11.0, 1))


def test_bootstrap_of_two_runs_has_the_three_known_outcomes():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with 1/4, 1/2, 1/4; so 2.5 % and 97.5 % are 0 and 1.
    low, high = stratified_bootstrap(np.array([[0.0], [1.0]]), lambda d: d.mean(axis=(-2, -1)))
    assert (low, high) == (0.0, 1.0)


def test_bootstrap_resamples_each_stratum_by_itself():
    # Resampling whole rows of this matrix would give 1/2 each time.
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert stratified_bootstrap(scores, lambda d: d.mean(axis=(-2, -1))) == (0.0, 1.0)


def test_bootstrap_never_mixes_strata():
    scores = np.array([[0.0, 10.0], [0.0, 10.0], [0.0, 10.0]])
    assert stratified_bootstrap(scores, lambda d: d.mean(axis=(-2, -1))) == (5.0, 5.0)


def test_probability_of_improvement_by_hand():
    x = np.array([[1.0, 0.0], [3.0, 0.0]])
    y = np.array([[2.0, 0.0]])
    # Task 0: one of two pairs won. Task 1: ties count half.
    assert estimate_improvement(x, y).point == 0.5
    assert estimate_improvement(y + 10, x).point == 1.0


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_probability_of_improvement_is_mann_whitney_averaged_over_tasks(sx, sy, tasks, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (sx, tasks)) * 1.0, rng.integers(0, 4, (sy, tasks)) * 1.0
    u = [stats.mannwhitneyu(x[:, t], y[:, t]).statistic / (sx * sy) for t in range(tasks)]
    forward, backward = estimate_improvement(x, y), estimate_improvement(y, x)
    assert forward.point == pytest.approx(np.mean(u))
    assert forward.point + backward.point == pytest.approx(1)
    assert math.isnan(forward.low)  # too few seeds to resample


def test_the_interval_of_improvement_needs_many_seeds_and_resamples_both_sides():
    # y varies, x does not: an interval from resampling x alone would have no width.
    x, y = np.zeros((MANY, 1)), np.tile([[-1.0], [1.0]], (MANY // 2, 1))
    for pair in ((x, y), (y, x)):
        found = estimate_improvement(*pair)
        assert found.point == 0.5
        assert found.low < 0.5 < found.high
    certain = estimate_improvement(x + 1, x)
    assert (certain.point, certain.low, certain.high) == (1.0, 1.0, 1.0)


def test_wilsons_interval_has_the_published_values():
    # Newcombe 1998 (Statistics in Medicine 17, 857), table I, method 3.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0 / 20, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 40), st.data())
def test_wilsons_interval_of_whole_counts_is_scipys(trials, data):
    successes = data.draw(st.integers(0, trials))
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes / trials, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_rates_of_seeds_that_agree_have_wilsons_interval_with_a_trial_per_class():
    found = estimate_rate(np.tile([1.0, 0.0, 0.0], (3, 1)))
    assert found.point == pytest.approx(1 / 3)
    assert (found.low, found.high) == pytest.approx(wilson(1 / 3, 3))
    none = estimate_rate(np.zeros((3, 3)))
    assert (none.low, none.high) == wilson(0.0, 3)
    assert none.high > 0.5


def test_rates_of_seeds_that_differ_have_students_interval_within_0_and_1():
    rates = np.array([[0.0, 0.0], [0.5, 0.0], [0.5, 0.5]])
    found = estimate_rate(rates)
    half = 4.3027 * np.std([0, 0.25, 0.5], ddof=1) / math.sqrt(3)
    assert (found.point, found.low, found.high) == pytest.approx((0.25, 0.0, 0.25 + half), abs=1e-4)
    lone = estimate_rate(rates[1:2])
    assert lone.point == 0.25
    assert math.isnan(lone.low)
    nothing = estimate_rate(np.full((3, 2), np.nan))
    assert np.isnan([nothing.point, nothing.low, nothing.high]).all()
