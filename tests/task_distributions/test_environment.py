"""The short interface against Gymnasium's own."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import task_distributions
from task_distributions.environment import Environment


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "point_goal", "task_distributions:MetaRL/point_goal-v1"]
)
def test_one_environment_is_gymnasiums(name):
    env = Environment(name)
    plain = gymnasium.make(
        name if name != "point_goal" else "task_distributions:MetaRL/point_goal-v1"
    )
    np.testing.assert_array_equal(env.reset(seed=7), plain.reset(seed=7)[0])
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space
    plain.action_space.seed(0)
    over = False
    while not over:
        action = plain.action_space.sample()
        obs, reward, done, info = env.step(action)
        expected = plain.step(action)
        np.testing.assert_array_equal(obs, expected[0])
        assert (reward, info["terminated"], info["truncated"]) == expected[1:4]
        over = expected[2] or expected[3]
        assert done is over
    np.testing.assert_array_equal(env.reset(seed=8), plain.reset(seed=8)[0])


def test_several_start_again_by_themselves_and_keep_their_last_observation():
    env = Environment("CartPole-v1", batch_size=3)
    plain = [gymnasium.make("CartPole-v1") for _ in range(3)]
    obs = env.reset(seed=5)
    np.testing.assert_array_equal(obs, [p.reset(seed=5 + b)[0] for b, p in enumerate(plain)])
    ended = 0
    for _ in range(40):
        obs, reward, done, info = env.step(np.ones(3, int))
        assert obs.shape == (3, 4)
        assert reward.shape == done.shape == (3,)
        for b, single in enumerate(plain):
            last, _, terminated, truncated, _ = single.step(1)
            assert done[b] == (terminated or truncated)
            if done[b]:
                ended += 1
                np.testing.assert_array_equal(info["final_obs"][b], last)
                last = single.reset()[0]
            np.testing.assert_array_equal(obs[b], last)
    assert ended >= 3


def test_normalised_observations_are_centred_on_what_was_seen():
    raw, env = (Environment("CartPole-v1", 4, normalize=flag) for flag in (False, True))
    seen = [raw.reset(seed=1)]
    env.reset(seed=1)
    for step in range(30):
        actions = np.full(4, step % 2)
        seen.append(raw.step(actions)[0])
        scaled = env.step(actions)[0]
    every = np.concatenate(seen).astype(np.float64)
    expected = (seen[-1] - every.mean(0)) / every.std(0)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["CartPole-v7000", "YourEnv-v0", "point_gaol", "no.module:X-v0"])
def test_an_unknown_name_is_an_error_that_names_the_choices(name):
    with pytest.raises(ValueError, match=r"unknown environment.*point_goal.*gymnasium.registry"):
        Environment(name)


def test_a_distribution_from_outside_has_its_name(monkeypatch):
    source = Path(__file__).parents[2] / "examples/plugins/halfcheetah_dir.py"
    target = f"{source}:halfcheetah_dir"
    monkeypatch.setitem(task_distributions.REGISTRY, "halfcheetah-dir", target)
    env = Environment("halfcheetah-dir")
    assert env.reset(seed=0).shape == env.observation_space.shape == (17,)


def test_options_reach_the_environment():
    env = Environment("ant-dir", split="train", task=3, max_episode_steps=2)
    env.reset(seed=0)
    assert [env.step(np.zeros(8, np.float32))[2] for _ in range(2)] == [False, True]
    with pytest.raises(ValueError, match="batch_size is 0"):
        Environment("ant-dir", 0)
