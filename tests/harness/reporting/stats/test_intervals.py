import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from harness.reporting.stats.intervals import (
    estimate,
    estimate_improvement,
    estimate_rate,
    iqm,
    stratified_bootstrap,
    wilson,
)

FINITE = st.floats(-1e6, 1e6)
MATRICES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FINITE)


def test_iqm_of_small_arrays_by_hand():
    assert iqm(np.array([1.0, 2, 3, 100])) == 2.5
    assert iqm(np.array([5.0, 1, 100])) == pytest.approx(106 / 3)  # under four values: the mean
    assert iqm(np.arange(8.0)) == 3.5
    assert iqm(np.array([[0.0, 100], [1, 2]])) == 1.5


@given(MATRICES)
def test_iqm_is_the_mean_of_the_middle_half(x):
    cut = x.size // 4
    middle = np.sort(x, axis=None)[cut : x.size - cut]
    assert iqm(x) == pytest.approx(middle.mean(), rel=1e-9, abs=1e-6)


def test_iqm_along_axes_equals_iqm_of_each_slice():
    x = np.random.default_rng(0).normal(size=(3, 5, 4))
    together = iqm(x, axis=(1, 2))
    assert together.shape == (3,)
    np.testing.assert_allclose(together, [iqm(part) for part in x])


def test_bootstrap_of_two_runs_has_the_three_known_outcomes():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with 1/4, 1/2, 1/4; so 2.5 % and 97.5 % are 0 and 1.
    low, high = stratified_bootstrap(np.array([[0.0], [1.0]]), lambda d: d.mean(axis=(1, 2)))
    assert (low, high) == (0.0, 1.0)


def test_bootstrap_resamples_each_stratum_by_itself():
    # Resampling whole rows of this matrix would give 1/2 each time.
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert stratified_bootstrap(scores, lambda d: d.mean(axis=(1, 2))) == (0.0, 1.0)


def test_bootstrap_never_mixes_strata():
    scores = np.array([[0.0, 10.0], [0.0, 10.0], [0.0, 10.0]])
    assert stratified_bootstrap(scores, lambda d: d.mean(axis=(1, 2))) == (5.0, 5.0)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        sample = rng.normal(3.0, 1.0, size=(20, 1))
        low, high = stratified_bootstrap(sample, lambda d: d.mean(axis=(1, 2)), replicates=400)
        hits += low <= 3.0 <= high
    assert 0.86 <= hits / 300 <= 0.98


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
    forward, backward = estimate_improvement(x, y).point, estimate_improvement(y, x).point
    assert forward == pytest.approx(np.mean(u))
    assert forward + backward == pytest.approx(1)


def test_few_seeds_are_averaged_and_tasks_resampled():
    values = np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0]])
    result = estimate(values)
    assert result.point == 3.0
    assert 1.0 <= result.low < 3.0 < result.high <= 5.0


def test_from_three_seeds_on_seeds_are_resampled_and_tasks_are_not():
    # Tasks differ wildly but every seed has the same mean: nothing to be unsure of over seeds.
    same = np.array([[0.0, 100.0], [50.0, 50.0], [100.0, 0.0]])
    result = estimate(same)
    assert (result.point, result.low, result.high) == (50.0, 50.0, 50.0)


def test_iqm_over_seeds_drops_the_runaway_seed():
    values = np.array([[1.0], [1.0], [1.0], [1000.0]])
    assert estimate(values).point == 1.0


def test_tasks_without_a_valid_episode_are_left_out():
    values = np.array([[1.0, np.nan, 3.0]])
    assert estimate(values).point == 2.0
    assert np.isnan(estimate(np.array([[np.nan, np.nan]])).point)
    # A seed without any valid episode is no result of the others alone.
    assert np.isnan(estimate(np.array([[1.0], [1.0], [np.nan]])).point)


def test_one_number_has_no_interval():
    result = estimate(np.array([[4.0]]))
    assert result.point == 4.0
    assert np.isnan(result.low)
    assert np.isnan(result.high)


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=FINITE))
@settings(max_examples=25, deadline=None)
def test_estimates_are_deterministic_and_intervals_lie_within_the_data(values):
    result = estimate(values)
    assert result == estimate(values)
    assert values.min() - 1e-6 <= result.low <= result.high + 1e-6 <= values.max() + 2e-6


def test_improvement_with_certain_and_open_outcomes():
    low = np.zeros((3, 4))
    certain = estimate_improvement(low + 1, low)
    assert (certain.point, certain.low, certain.high) == (1.0, 1.0, 1.0)
    mixed = estimate_improvement(np.array([[1.0, 1, 1, 0, 0, 0]]), np.full((1, 6), 0.5))
    assert mixed.point == 0.5
    assert mixed.low < 0.5 < mixed.high


def test_improvement_resamples_both_sides():
    # y varies, x does not: an interval from resampling x alone would have no width.
    x, y = np.zeros((3, 1)), np.array([[-1.0], [1.0], [-1.0]])
    result = estimate_improvement(x, y)
    assert result.point == pytest.approx(2 / 3)
    assert result.low < result.point < result.high
    flipped = estimate_improvement(y, x)
    assert flipped.low < flipped.point < flipped.high


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


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_a_rate_covers_the_bootstrap_and_wilson(seeds):
    for rate in (0.0, 1.0):  # equal everywhere, but not certain
        found = estimate_rate(np.full((seeds, 20), rate))
        assert (found.point, found.low, found.high) == (rate, *wilson(rate, 20))
        assert found.low < found.high
    rng = np.random.default_rng(1)
    for chance in (0.05, 0.4):
        values = (rng.random((seeds, 20)) < chance).astype(float)
        found, boot = estimate_rate(values), estimate(values)
        low, high = wilson(boot.point, 20)
        assert found.point == boot.point
        assert (found.low, found.high) == (min(low, boot.low), max(high, boot.high))
    # One more success must not lower the upper end, as it does with the bootstrap alone.
    ends = [estimate_rate(np.r_[np.ones(n), np.zeros(20 - n)][None]).high for n in range(21)]
    assert ends == sorted(ends)
    lone = estimate_rate(np.ones((1, 1)))
    assert (lone.low, lone.high) == wilson(1.0, 1)
    nothing = estimate_rate(np.full((seeds, 20), np.nan))
    assert np.isnan([nothing.point, nothing.low, nothing.high]).all()
