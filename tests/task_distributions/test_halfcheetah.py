"""Plain HalfCheetah-v5 is Gymnasium's, to the last bit, in both engines."""

import gymnasium
import numpy as np

import task_distributions

SEED = 11


def test_a_whole_episode_equals_gymnasium_bit_for_bit():
    dist = task_distributions.load("halfcheetah")
    theirs = gymnasium.make("HalfCheetah-v5")
    (task,) = dist.tasks("test")
    ours, batch = dist.make_env(task), dist.make_batch([task], 2)
    obs = theirs.reset(seed=SEED)[0]
    np.testing.assert_array_equal(ours.reset(seed=SEED)[0], obs)
    np.testing.assert_array_equal(batch.reset([3, SEED])[1], obs)
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 2, 6))
    for step in range(1000):
        obs, reward, terminated, truncated, _ = theirs.step(actions[step, 1])
        single, out = ours.step(actions[step, 1]), batch.step(actions[step])
        np.testing.assert_array_equal(single[0], obs)
        np.testing.assert_array_equal(out.obs[1], obs)
        assert single[1:4] == (reward, terminated, truncated)
        assert (out.reward[1], out.terminated[1], out.truncated[1]) == single[1:4]
    assert truncated
    assert not terminated


def test_train_and_test_are_one_task():
    dist = task_distributions.load("halfcheetah")
    (train,), (test,) = dist.tasks("train"), dist.tasks("test")
    assert train.params == test.params
    assert dist.spec.horizon == 1000
    assert dist.non_adaptive_return([test]) is None
