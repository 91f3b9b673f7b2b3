"""cartpole against Gymnasium's CartPole, and the differences between its tasks."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import task_distributions
from harness.conformance.task_dists import assert_within_rounding
from task_distributions import Task
from task_distributions.cartpole import ANGLE_LIMIT, PARAMETERS, POSITION_LIMIT, RANGES

NOMINAL = {"half_length": 0.5, "pole_mass": 0.1, "cart_mass": 1.0, "force": 10.0}
PARAMETER = {"half_length": "length", "pole_mass": "masspole", "cart_mass": "masscart"}


def task_of(**changes: float) -> Task:
    """A task with Gymnasium's parameters except ``changes``."""
    return Task("cartpole", 1, "test", 0, "test/0", tuple((NOMINAL | changes).items()))


def gymnasium_env(task: Task) -> gymnasium.Env:
    """Gymnasium's own environment with the parameters of ``task``."""
    env = gymnasium.make("CartPole-v1", max_episode_steps=200)
    cart = env.unwrapped
    cart.length, cart.masspole, cart.masscart = (task.param(key) for key in PARAMETER)
    cart.force_mag = task.param("force")
    cart.total_mass = cart.masspole + cart.masscart
    cart.polemass_length = cart.masspole * cart.length
    return env


def policies_of(rng: np.random.Generator):
    """Policies: random, constant, and balancing until the horizon."""
    yield lambda state: int(rng.integers(2))
    yield lambda state: 1
    yield lambda state: int(state[2] + 0.2 * state[3] + 0.1 * state[1] + 0.05 * state[0] > 0)


@pytest.mark.parametrize(
    "task",
    [task_of(), task_of(force=-10.0), *task_distributions.load("cartpole").tasks("test")[:4]],
    ids=lambda task: str(task.param("force")),
)
def test_every_step_is_gymnasiums(task: Task):
    """From the same state: balancing would let a rounding difference grow."""
    dist, lengths = task_distributions.load("cartpole"), []
    for seed, act in enumerate(policies_of(np.random.default_rng(0))):
        theirs, ours = gymnasium_env(task), dist.make_env(task)
        batch = dist.make_batch([task], 1)
        theirs.reset(seed=seed)
        obs, _ = ours.reset(seed=seed)
        assert_within_rounding(theirs.unwrapped.state, obs)
        assert_within_rounding(batch.reset([seed])[0], obs)
        for step in range(1, 201):  # noqa: B007 - the length is asserted below
            theirs.unwrapped.state = obs.copy()
            batch._obs[0] = obs
            action = act(obs)
            single, *expected, _ = theirs.step(action)
            obs, *outcome, _ = ours.step(action)
            out = batch.step(np.eye(2)[[action]])
            assert outcome == expected == [out.reward[0], out.terminated[0], out.truncated[0]]
            assert_within_rounding(theirs.unwrapped.state, obs)
            assert_within_rounding(out.obs[0], obs)
            np.testing.assert_allclose(single, obs, rtol=1e-6)  # float32
            if expected[1] or expected[2]:
                break
        lengths.append(step)
    if task.param("force") == 10.0:
        assert lengths[1] < 15
        assert lengths[2] == 200  # truncated at the horizon, not terminated


@pytest.mark.parametrize("column", range(4))
def test_every_parameter_changes_the_motion(column: int):
    key = PARAMETERS[column]
    low, high = RANGES[key]
    dist = task_distributions.load("cartpole")
    env = dist.make_batch([task_of(**{key: low}), task_of(**{key: high})], 1)
    env.reset([3, 3])
    for _ in range(3):
        obs = env.step(np.array([[0.0, 1.0]] * 2)).obs
    assert np.abs(obs[0] - obs[1]).max() > 1e-4


def test_tasks_cover_every_range_evenly():
    dist = task_distributions.load("cartpole")
    for split, count in (("train", 100), ("test", 30)):
        for key in PARAMETERS:
            low, high = RANGES[key]
            values = np.abs([task.param(key) for task in dist.tasks(split)])
            strata = (values - low) / (high - low) * count
            np.testing.assert_array_equal(np.sort(strata.astype(int)), np.arange(count))
        table = np.array([[v for _, v in task.params] for task in dist.tasks(split)])
        assert (table[:, 3] < 0).sum() in (count // 4, count // 4 + 1)  # reversed motors
        correlation = np.corrcoef(table.T) - np.eye(4)
        assert np.abs(correlation).max() < 0.5  # each parameter is shuffled on its own


def test_it_ends_where_gymnasium_ends_it():
    dist = task_distributions.load("cartpole")
    env = dist.make_batch(dist.tasks("train"), 1)
    obs, over = env.reset(list(range(100))), np.zeros(100, bool)
    assert np.abs(obs).max() <= 0.05
    rng = np.random.default_rng(1)
    for _ in range(200):
        out = env.step(rng.random((100, 2)))
        fresh = ~over
        outside = (np.abs(out.obs[:, 0]) > POSITION_LIMIT) | (np.abs(out.obs[:, 2]) > ANGLE_LIMIT)
        np.testing.assert_array_equal(out.terminated[fresh], outside[fresh])
        np.testing.assert_array_equal(out.reward, fresh.astype(float))  # and for the fall
        over = out.terminated | out.truncated
    assert over.all()


@pytest.mark.parametrize("action", [2, -1, 0.5, np.array([0.0, 1.0])])
def test_other_actions_are_refused(action):
    env = gymnasium.make("task_distributions:MetaRL/cartpole-v1", task=1).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="integers 0 to 1"):
        env.step(action)


def test_the_largest_number_of_a_row_is_the_action():
    dist = task_distributions.load("cartpole")
    left, right, scored = (dist.make_batch([task_of()], 1) for _ in range(3))
    for env in (left, right, scored):
        env.reset([0])
    a = left.step(np.array([[1.0, 0.0]])).obs.copy()
    b = right.step(np.array([[0.0, 1.0]])).obs.copy()
    c = scored.step(np.array([[7.0, 7.5]])).obs  # clipping to 1 would make them equal
    np.testing.assert_array_equal(b, c)
    assert a[0, 1] < 0 < b[0, 1]


def test_without_adaptation_a_quarter_of_the_poles_falls():
    """One rule balances all poles with one motor direction; the direction has to be inferred."""
    dist = task_distributions.load("cartpole")
    for split in ("train", "test"):
        tasks = dist.tasks(split)
        forward, reverse = (
            [task for task in tasks if (task.param("force") < 0) == wrong] for wrong in (0, 1)
        )
        for alike in (forward, reverse):
            assert dist.non_adaptive_return(alike) > 195
        assert 145 < dist.non_adaptive_return(tasks) < 160
