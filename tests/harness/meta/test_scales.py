"""The scales of returns, which values are predicted in, and of the rewards that are fed."""

import math

import numpy as np
import pytest
import torch

from harness.meta import objectives
from harness.meta.learners.base import PolicySnapshot, ScalarMoments
from harness.meta.rollouts.normalizer import Normalizer


@pytest.mark.parametrize(
    ("gamma", "horizon"), [(0.97, 200), (0.99, 200), (0.99, 25), (0.97, 25), (0.99, 500), (1.0, 25)]
)
def test_a_reward_of_one_unit_that_persists_has_about_the_return_scale(gamma, horizon):
    policy = PolicySnapshot({}, Normalizer.identity(1), return_scale=3.0)
    unit = policy.reward_unit(gamma, horizon)
    rewards = torch.full((1, 1, horizon), unit, dtype=torch.float64)
    returns = objectives.discounted_returns(rewards, gamma)
    assert 1 - math.exp(-1) < returns.max() / 3.0 <= 1 + 1e-9


@pytest.mark.parametrize("values", [np.zeros(10), np.full(1000, 0.3), np.zeros(0)])
def test_the_scale_is_1_before_two_returns_differ(values):
    assert ScalarMoments.of(values).deviation() == 1.0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_scale_is_the_deviation_of_the_returns_however_small(scale):
    values = scale * np.random.default_rng(0).normal(2.0, 1.0, size=1000)
    assert ScalarMoments.of(values).deviation() == pytest.approx(values.std())


def test_a_return_that_is_not_a_number_is_not_hidden():
    assert math.isnan(ScalarMoments.of(np.array([1.0, math.inf])).deviation())
