"""halfcheetah-vel-switch: the reward's target, before and after the change."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import task_distributions


@pytest.fixture(scope="module")
def dist():
    return task_distributions.load("halfcheetah-vel-switch")


def _targets(dist, seeds) -> np.ndarray:
    """The target that explains each reward [T, B] of one task standing still."""
    task = dist.tasks("test")[0]
    batch = dist.make_batch([task], len(seeds))
    batch.reset(seeds)
    targets = []
    for _ in range(dist.spec.horizon):
        before = batch.physics.tracked.copy()
        reward = batch.step(np.zeros((len(seeds), 6))).reward
        velocity = (batch.physics.tracked - before)[:, 0] / 0.05
        targets.append(velocity - reward)  # standing still, the target is the larger
    return np.array(targets)


def test_the_target_changes_once_at_a_step_that_the_seed_decides(dist):
    task = dist.tasks("test")[0]
    first, second = task.param("velocity"), task.param("velocity_after")
    targets = _targets(dist, list(range(40)))
    fast = targets[30:]  # the fall from the start is over
    assert np.isclose(fast, first, atol=1e-9).any()
    known = np.isclose(fast, first, atol=1e-9) | np.isclose(fast, second, atol=1e-9)
    assert known.all()
    steps = np.isclose(targets, second, atol=1e-9).argmax(axis=0)
    assert 50 <= steps.min() < 65
    assert 135 < steps.max() <= 150
    for b, step in enumerate(steps):
        assert np.isclose(targets[step:, b], second, atol=1e-9).all()
        assert not np.isclose(targets[:step, b], second, atol=1e-9).any()
    np.testing.assert_array_equal(_targets(dist, [7, 7])[:, 0], targets[:, 7])


@pytest.mark.parametrize("horizon", [40, 200])
def test_the_line_is_the_best_common_speed_at_every_step(horizon):
    """By drawing the steps of the change, which a horizon of 40 ends before."""
    dist = task_distributions.load("halfcheetah-vel-switch", horizon=horizon)
    tasks = dist.tasks("validation")[:10]
    before, after = (np.array([task.params[i][1] for task in tasks]) for i in (0, 1))
    switch_at = np.random.default_rng(0).integers(50, 151, (4000, 1))
    changed = (np.arange(horizon) >= switch_at).mean(axis=0)
    speeds = np.linspace(0, 3, 601)[:, np.newaxis]
    errors = [np.abs(speeds - targets).mean(axis=1) for targets in (before, after)]
    mean = np.outer(errors[0], 1 - changed) + np.outer(errors[1], changed)
    line = dist.non_adaptive_return(tasks)
    assert line == pytest.approx(-mean.min(axis=0).sum(), abs=0.3)
    assert line > -mean.sum(axis=1).min() + 0.5 or horizon == 40  # what one speed can reach


def test_a_copied_environment_changes_its_target_at_the_same_step():
    import gymnasium

    env = gymnasium.make("task_distributions:MetaRL/halfcheetah-vel-switch-v1", task=1)
    env.reset(seed=3)
    action = np.full(6, 0.1, np.float32)
    for _ in range(20):
        env.step(action)
    twin = copy.deepcopy(env)
    for _ in range(150):
        assert env.step(action)[1] == twin.step(action)[1]
