import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from harness.reporting.stats.statistics import (
    estimate,
    estimate_improvement,
    iqm,
    probability_of_improvement,
    stratified_bootstrap,
)

FINITE = st.floats(-1e6, 1e6)
MATRICES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FINITE)


def test_iqm_of_small_arrays_by_hand():
    assert iqm(np.array([1.0, 2, 3, 100])) == 2.5
    assert iqm(np.array([5.0, 1, 100])) == pytest.approx(106 / 3)  # under four values: the mean
    assert iqm(np.arange(8.0)) == 3.5
    assert iqm(np.array([[0.0, 100], [1, 2]])) == 1.5


@given(MATRICES)
def test_iqm_is_the_trimmed_mean_of_the_paper(x):
    assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25, axis=None), rel=1e-9, abs=1e-6)


@given(MATRICES, st.randoms(use_true_random=False))
def test_iqm_ignores_order_and_stays_in_bounds(x, random):
    shuffled = x.ravel().tolist()
    random.shuffle(shuffled)
    assert iqm(np.array(shuffled)) == iqm(x)
    assert x.min() - 1e-6 <= iqm(x) <= x.max() + 1e-6


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
    assert probability_of_improvement(x, y) == 0.5
    assert probability_of_improvement(y + 10, x) == 1.0


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=40)
def test_probability_of_improvement_is_mann_whitney_averaged_over_tasks(sx, sy, tasks, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (sx, tasks)) * 1.0, rng.integers(0, 4, (sy, tasks)) * 1.0
    u = [stats.mannwhitneyu(x[:, t], y[:, t]).statistic / (sx * sy) for t in range(tasks)]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(u))
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1)


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
