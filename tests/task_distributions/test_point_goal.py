"""point_goal against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

import task_distributions
from harness.conformance.task_dists import assert_within_rounding
from task_distributions import Task


def _task(x: float, y: float, dist: str = "point_goal") -> Task:
    return Task(dist, 1, "test", 0, "test/0", (("goal_x", x), ("goal_y", y)))


def _return(tasks, act) -> float:
    """Mean return over tasks of ``act(positions [B, 2], goals [B, 2])``."""
    dist = task_distributions.load(tasks[0].dist)
    batch = dist.make_batch(tasks, 4)
    goals = np.repeat([[t.param("goal_x"), t.param("goal_y")] for t in tasks], 4, axis=0)
    obs, total = batch.reset(range(4 * len(tasks))), 0.0
    for _ in range(dist.spec.horizon):
        out = batch.step(act(obs, goals))
        obs, total = out.obs, total + out.reward.mean()
    return total


def test_one_step_by_hand():
    dist = task_distributions.load("point_goal")
    batch = dist.make_batch([_task(0.6, 0.8)], 1)
    start = batch.reset([3])[0].copy()
    assert 0 < np.abs(start).max() < 0.1
    out = batch.step(np.array([[0.5, -7.0]]))
    x, y = start[0] + 0.05, start[1] - 0.1
    assert_within_rounding(out.obs[0], [x, y])
    assert_within_rounding(out.reward[0], -math.hypot(x - 0.6, y - 0.8))


def test_goals_lie_on_the_unit_circle_all_around():
    for split in ("train", "test"):
        tasks = task_distributions.load("point_goal").tasks(split)
        goals = np.array([[t.param("goal_x"), t.param("goal_y")] for t in tasks])
        np.testing.assert_allclose(np.hypot(*goals.T), 1.0)
        assert len(set(np.floor(np.arctan2(goals[:, 1], goals[:, 0]) / (math.pi / 4)))) == 8


def test_no_fixed_destination_beats_the_non_adaptive_return():
    dist = task_distributions.load("point_goal")
    tasks = dist.tasks("test")
    best = dist.non_adaptive_return(tasks)
    assert best == pytest.approx(-25, abs=0.3)
    rng = np.random.default_rng(0)
    for destination in [np.zeros(2), *rng.uniform(-1, 1, (10, 2))]:
        played = _return(tasks, lambda obs, goals, d=destination: (d - obs) / 0.1)
        assert played < best + 0.05
    adaptive = _return(tasks, lambda obs, goals: (goals - obs) / 0.1)
    assert adaptive > best + 15


def test_the_non_adaptive_return_can_be_reached():
    """On asymmetric tasks, whose best position is several steps away from the origin."""
    tasks = [_task(1.0, 0.0), _task(0.9, 0.1), _task(0.8, -0.1), _task(-1.0, 0.0)]
    best = task_distributions.load("point_goal").non_adaptive_return(tasks)
    places = [np.array([x, y]) for x in np.arange(0.6, 1.1, 0.1) for y in (-0.1, 0.0, 0.1)]
    played = max(_return(tasks, lambda obs, goals, d=place: (d - obs) / 0.1) for place in places)
    assert played == pytest.approx(best, abs=0.25)


def test_the_best_fixed_path_ends_at_the_only_goal_in_as_few_steps_as_there_can_be():
    dist = task_distributions.load("point_goal")
    best = dist.non_adaptive_return([_task(0.6, 0.8)])
    way = [math.hypot(max(0.6 - step, 0), 0.8 - step) for step in np.arange(0.1, 0.8, 0.1)]
    assert best == pytest.approx(-sum(way), abs=1e-6)
    sparse = task_distributions.load(SPARSE).non_adaptive_return([_task(0.6, 0.75, SPARSE)])
    assert sparse == pytest.approx(0.85 + 0.95 + 18, abs=1e-6)


SPARSE = "point_goal-sparse"


def test_a_sparse_goal_rewards_only_within_its_radius():
    batch = task_distributions.load(SPARSE).make_batch([_task(0.0, 0.3, SPARSE)], 1)
    x, y = batch.reset([3])[0]
    for _ in range(5):
        out = batch.step(np.array([[0.0, 0.5]]))
        y += 0.05
        distance = math.hypot(x, y - 0.3)
        assert_within_rounding(out.reward[0], 1.0 - distance if distance <= 0.2 else 0.0)
    assert out.reward[0] > 0.8


def test_sparse_goals_lie_on_the_upper_half_and_those_outside_on_the_lower():
    dist = task_distributions.load(SPARSE)
    for split, sign in (("train", 1), ("validation", 1), ("test", 1), ("ood", -1)):
        goals = np.array([[t.param("goal_x"), t.param("goal_y")] for t in dist.tasks(split)])
        np.testing.assert_allclose(np.hypot(*goals.T), 1.0)
        assert (sign * goals[:, 1] > 0).all()
        assert set(np.floor(np.arctan2(sign * goals[:, 1], goals[:, 0]) / (math.pi / 4))) == {
            *range(4)
        }


def test_the_best_fixed_path_is_far_below_knowing_the_goal():
    dist = task_distributions.load(SPARSE)
    tasks = dist.tasks("test")
    best = dist.non_adaptive_return(tasks)
    for angle in np.linspace(0.0, math.pi, 30):
        place = 0.98 * np.array([math.cos(angle), math.sin(angle)])
        assert _return(tasks, lambda obs, goals, d=place: (d - obs) / 0.1) < best + 0.1
    adaptive = _return(tasks, lambda obs, goals: (goals - obs) / 0.1)
    assert 0 < best < adaptive / 4
