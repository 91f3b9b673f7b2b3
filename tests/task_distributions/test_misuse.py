"""Every registered distribution, used beyond the end of an episode or wrongly."""

from __future__ import annotations

import numpy as np
import pytest

import task_distributions
from task_distributions import Task, TaskDistribution

pytestmark = pytest.mark.parametrize("name", task_distributions.names())


@pytest.fixture
def dist(name: str) -> TaskDistribution:
    return task_distributions.load(name)


def test_a_finished_environment_refuses_to_go_on(name: str):
    dist = task_distributions.load(name, horizon=1)
    env = dist.make_env(dist.tasks("test")[0])
    action = 0 if dist.spec.discrete else np.zeros(dist.spec.action_dim)
    with pytest.raises(RuntimeError):
        env.step(action)
    env.reset(seed=0)
    env.step(action)
    with pytest.raises(RuntimeError):
        env.step(action)


def test_misuse_is_refused_with_the_remedy(name: str, dist: TaskDistribution):
    task = dist.tasks("test")[0]
    with pytest.raises(ValueError, match=r"\b1\b.*\b2\b"):
        dist.make_batch([task], 2).reset([0])
    with pytest.raises(RuntimeError):
        dist.make_batch([task], 1).step(np.zeros((1, dist.spec.action_dim)))
    batch = dist.make_batch([task], 1)
    batch.reset([0])
    with pytest.raises(ValueError, match=r"\(2, .*\(1, "):
        batch.step(np.zeros((2, dist.spec.action_dim)))
    with pytest.raises(ValueError, match=r"episodes_per_task .*0"):
        dist.make_batch([task], 0)
    with pytest.raises(ValueError, match=name):
        dist.make_batch([], 1)
    stranger = Task("other", 1, "test", 0, "test/0", task.params)
    with pytest.raises(ValueError, match=f"other@1, not to {name}@{dist.version}"):
        dist.make_env(stranger)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_action_ends_a_single_environment_as_it_ends_a_batched_one(
    name: str, dist: TaskDistribution, value: float
):
    env = dist.make_env(dist.tasks("test")[0])
    start, _ = env.reset(seed=0)
    if dist.spec.discrete:
        with pytest.raises(ValueError, match="integers"):
            env.step(value)
        with pytest.raises(ValueError, match="integers"):
            env.step(True)
        with pytest.raises(ValueError, match=f"0 to {dist.spec.action_dim - 1}"):
            env.step(dist.spec.action_dim)
        return
    action = np.zeros(dist.spec.action_dim)
    action[0] = value
    obs, reward, terminated, truncated, info = env.step(action)
    np.testing.assert_array_equal(obs, start)
    assert (reward, terminated, truncated, info["invalid"]) == (0.0, False, True, True)
    with pytest.raises(RuntimeError):
        env.step(action)
