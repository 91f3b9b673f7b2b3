"""What a record holds of the course of an episode."""

import numpy as np
import pytest

from harness.execution.scoring import REWARD_PARTS, reward_profile


def test_the_parts_of_an_episode_have_its_mean_rewards():
    rewards = np.arange(200.0)
    whole = np.ones(200, bool)
    assert reward_profile(rewards, whole) == tuple(np.arange(4.5, 200, 10))
    # 25 steps in 20 parts: every fifth step begins no part of its own.
    uneven = reward_profile(np.arange(25.0), np.ones(25, bool))
    assert len(uneven) == REWARD_PARTS
    assert uneven[:5] == (0.0, 1.0, 2.0, 3.5, 5.0)
    # Fewer steps than parts: one part a step.
    assert reward_profile(np.array([3.0, 1.0]), np.ones(2, bool)) == (3.0, 1.0)


def test_an_episode_that_ended_early_has_fewer_parts_and_an_invalid_one_none():
    rewards, mask = np.arange(200.0), np.arange(200) < 25
    assert reward_profile(rewards, mask) == (4.5, 14.5, 22.0)
    assert reward_profile(rewards, np.zeros(200, bool)) == ()


def test_values_survive_single_precision():
    (value,) = reward_profile(np.array([0.1]), np.ones(1, bool))
    assert value == float(np.float32(0.1)) != 0.1
    assert value == pytest.approx(0.1)
