"""Plain HalfCheetah-v5 is Gymnasium's in both engines."""

import gymnasium
import numpy as np

import task_distributions
from harness.conformance.task_dists import assert_within_rounding

SEED = 11


def test_a_whole_episode_is_gymnasiums():
    dist = task_distributions.load("halfcheetah")
    theirs = gymnasium.make("HalfCheetah-v5")
    (task,) = dist.tasks("test")
    ours, batch = dist.make_env(task), dist.make_batch([task], 2)
    obs = theirs.reset(seed=SEED)[0]
    assert_within_rounding(ours.reset(seed=SEED)[0], obs)
    assert_within_rounding(batch.reset([3, SEED])[1], obs)
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 2, 6))
    for step in range(1000):
        obs, reward, terminated, truncated, _ = theirs.step(actions[step, 1])
        single, out = ours.step(actions[step, 1]), batch.step(actions[step])
        assert_within_rounding(single[0], obs)
        assert_within_rounding(out.obs[1], obs)
        assert_within_rounding([single[1], out.reward[1]], [reward, reward])
        assert single[2:4] == (terminated, truncated) == (out.terminated[1], out.truncated[1])
    assert truncated
    assert not terminated


def test_train_and_test_are_one_task():
    dist = task_distributions.load("halfcheetah")
    (train,), (test,) = dist.tasks("train"), dist.tasks("test")
    assert train.params == test.params
    assert dist.spec.horizon == 1000
    assert dist.non_adaptive_return([test]) is None
