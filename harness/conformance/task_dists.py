"""What every task distribution keeps: listed tasks, and a batch equal to single environments."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

import task_distributions
from harness.conformance.suite import Suite
from task_distributions import SPLITS, BatchedEnv, Split, Task, TaskDistribution

ROUNDING = 1e-14
"""Largest relative difference of one step, absolute below 1: some fifty units in the last place.

Library routines such as a norm choose their code by the processor, so two implementations may
differ in the last places. They are compared step by step, so that no difference can grow.
"""
MAX_HORIZON = 200
"""Longer episodes are cut to 100 steps."""
Controller = Callable[[int, NDArray[np.float64]], NDArray[np.float64]]
"""(step, obs [B, O]) -> actions [B, A]"""


def assert_within_rounding(actual: Any, expected: Any) -> None:
    """Raise AssertionError unless two results of one step differ by rounding only."""
    np.testing.assert_allclose(actual, expected, rtol=ROUNDING, atol=ROUNDING)


def some(dist: TaskDistribution, split: Split, *indices: int) -> list[Task]:
    """Return the tasks of a split at ``indices``, or its last one."""
    tasks = dist.tasks(split)
    return [tasks[min(index, len(tasks) - 1)] for index in indices]


def controller(kind: str, dist: TaskDistribution, count: int) -> Controller:
    """Return a behaviour for ``count`` environments: random, gentle, or feedback from obs."""
    rng = np.random.default_rng(5)
    if kind != "feedback":  # random exceeds the bounds: the environment has to clip
        scale = 1.3 if kind == "random" else 0.1
        table = scale * rng.uniform(-1, 1, (dist.spec.horizon, count, dist.spec.action_dim))
        return lambda t, obs: table[t]
    weights = rng.normal(0.0, 0.3, (dist.spec.obs_dim, dist.spec.action_dim))
    # One row at a time: the batch size of a matrix product changes its last bits.
    return lambda t, obs: np.tanh(np.stack([row @ weights for row in obs]))


def single_action(dist: TaskDistribution, row: NDArray[np.float64]) -> Any:
    """Return the action of a row in the format of the ordinary environment."""
    return int(row.argmax()) if dist.spec.discrete else row


def play_batch(batch: BatchedEnv, seeds: Sequence[int], act: Controller) -> list[list[Any]]:
    """Return the steps (obs, reward, terminated, truncated, invalid) of each episode."""
    obs = batch.reset(seeds)
    count = len(obs)
    episodes: list[list[Any]] = [[(obs[b].copy(), 0.0, False, False, False)] for b in range(count)]
    over = np.zeros(count, bool)
    for t in range(batch.spec.horizon):
        out = batch.step(act(t, obs))
        obs = out.obs
        arrays = (out.reward, out.terminated, out.truncated, out.invalid)
        for b in np.flatnonzero(~over):
            episodes[b].append((obs[b].copy(), *(array[b] for array in arrays)))
        over |= out.terminated | out.truncated
    assert over.all(), "an episode is longer than the horizon"
    return episodes


class TaskDistSuite(Suite):
    """The tests of a task distribution.

    A distribution whose splits share their tasks, such as two directions that both have to be
    learned, says so by an attribute ``shared_tasks = True``.
    """

    def load(self) -> TaskDistribution:
        """Open it, with shorter episodes where they are long."""
        dist = task_distributions.load(self.name, **self.settings)
        if dist.spec.horizon <= MAX_HORIZON:
            return dist
        return task_distributions.load(self.name, **{**self.settings, "horizon": 100})

    def test_a_batch_is_the_same_mdp_as_the_single_environment(self) -> None:
        dist, per_task = self.load(), 2
        tasks = some(dist, "test", 0, 1, len(dist.tasks("test")))
        tasks += [task for split in ("validation", "ood") for task in dist.tasks(split)[-1:]]
        seeds = [11, 2**40 + 3, 0, 17, 17, 5, 8, 9, 10, 12][: per_task * len(tasks)]
        batch = dist.make_batch(tasks, per_task)
        envs: list[Any] = [dist.make_env(task) for task in tasks for _ in range(per_task)]
        for kind in ("random", "gentle", "feedback"):
            self._compare(dist, batch, envs, seeds, controller(kind, dist, len(seeds)))
        for env in envs:
            env.close()

    def _compare(
        self,
        dist: TaskDistribution,
        batch: BatchedEnv,
        envs: list[Any],
        seeds: list[int],
        act: Controller,
    ) -> None:
        obs = batch.reset(seeds)
        for env, seed, row in zip(envs, seeds, obs, strict=True):
            assert_within_rounding(env.reset(seed=seed)[0], row)
        playing = np.ones(len(envs), bool)
        for t in range(dist.spec.horizon):
            actions = act(t, obs)
            out = batch.step(actions)
            for b in np.flatnonzero(playing):
                own, reward, *ends, info = envs[b].step(single_action(dist, actions[b]))
                assert_within_rounding(own, out.obs[b])
                assert_within_rounding(reward, out.reward[b])
                flags = [*ends, info.get("invalid", False), info.get("success", False)]
                arrays = (out.terminated, out.truncated, out.invalid, out.success)
                assert flags == [array[b] for array in arrays]
                envs[b]._obs = out.obs[b].copy()  # the whole state where there is no MuJoCo
            obs, playing = out.obs, playing & ~(out.terminated | out.truncated)
        assert not playing.any(), "an episode is longer than the horizon"

    def test_a_reused_batch_forgets_the_episode_before(self) -> None:
        dist = self.load()
        tasks, seeds = some(dist, "train", 0, 1), [3, 4]
        act = controller("random", dist, 2)
        first = dist.make_batch(tasks, 1)
        fresh = play_batch(first, seeds, act)
        again = play_batch(first, seeds, act)
        del first  # its simulations return to the pool in their final state
        pooled = play_batch(dist.make_batch(tasks, 1), seeds, act)
        for other in (again, pooled):
            for a, b in zip(fresh, other, strict=True):
                np.testing.assert_array_equal([s[0] for s in a], [s[0] for s in b])
                assert [s[1:] for s in a] == [s[1:] for s in b]

    def test_its_spec_states_the_shapes(self) -> None:
        dist = self.load()
        task = dist.tasks("train")[0]
        env, batch = dist.make_env(task), dist.make_batch([task], 3)
        assert env.observation_space.shape == (dist.spec.obs_dim,)
        if dist.spec.discrete:
            assert env.action_space == gymnasium.spaces.Discrete(dist.spec.action_dim)
        else:
            assert env.action_space.shape == (dist.spec.action_dim,)
            assert (env.action_space.low == -1.0).all()
            assert (env.action_space.high == 1.0).all()
        assert env.observation_space.dtype == np.float64
        obs = batch.reset([0, 1, 2])
        assert obs.shape == (3, dist.spec.obs_dim)
        out = batch.step(np.zeros((3, dist.spec.action_dim), np.float32))
        assert out.obs.shape == obs.shape
        assert out.obs.dtype == out.reward.dtype == np.float64
        for flags in (out.reward, out.terminated, out.truncated, out.success, out.invalid):
            assert flags.shape == (3,)
        assert (batch.tasks, batch.episodes_per_task, batch.spec) == ((task,), 3, dist.spec)

    def test_gymnasium_accepts_the_environment(self) -> None:
        dist = self.load()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*infinity")
            warnings.filterwarnings("ignore", ".*render modes")
            check_env(dist.make_env(dist.tasks("test")[-1]))

    def test_tasks_are_enumerated_disjoint_and_small(self) -> None:
        dist = self.load()
        for split in SPLITS:
            for index, task in enumerate(dist.tasks(split)):
                assert (task.dist, task.version) == (dist.name, dist.version)
                assert (task.split, task.index) == (split, index)
                assert len(pickle.dumps(task)) < 10_000
                assert pickle.loads(pickle.dumps(task)) == task
        everything = [task for split in SPLITS for task in dist.tasks(split)]
        assert len({task.name for task in everything}) == len(everything)
        assert dist.tasks("train")
        assert dist.tasks("test")
        if not getattr(dist, "shared_tasks", False):
            assert len({task.params for task in everything}) == len(everything)

    def test_tasks_and_starts_are_the_same_each_time_it_is_opened(self) -> None:
        first, second = (self.load() for _ in range(2))
        for split in SPLITS:
            assert first.tasks(split) == second.tasks(split)
        tasks = some(first, "test", 0, 1)
        one, two = (dist.make_batch(tasks, 1).reset([7, 8]).copy() for dist in (first, second))
        np.testing.assert_array_equal(one, two)

    def test_its_horizon_is_a_setting(self) -> None:
        dist = task_distributions.load(self.name, **{**self.settings, "horizon": 3})
        assert dist.spec.horizon == 3
        batch = dist.make_batch(dist.tasks("test")[:1], 1)
        batch.reset([0])
        ends = [batch.step(np.zeros((1, dist.spec.action_dim))).truncated.item() for _ in range(3)]
        assert ends == [False, False, True]

    def test_a_finished_batch_stands_still(self) -> None:
        dist = task_distributions.load(self.name, **{**self.settings, "horizon": 2})
        batch = dist.make_batch(dist.tasks("test")[:1], 2)
        batch.reset([0, 1])
        action = np.full((2, dist.spec.action_dim), 0.5)
        batch.step(action)
        last = batch.step(action).obs.copy()
        out = batch.step(action)
        np.testing.assert_array_equal(out.obs, last)
        assert out.truncated.all()
        assert not out.reward.any()

    def test_a_non_finite_action_makes_the_episode_invalid(self) -> None:
        dist = self.load()
        batch = dist.make_batch(dist.tasks("test")[:1], 3)
        start = batch.reset([1, 2, 3]).copy()
        actions = np.full((3, dist.spec.action_dim), 0.1)
        actions[1, 0] = np.nan
        out = batch.step(actions)
        assert out.invalid.tolist() == [False, True, False]
        assert out.truncated.tolist() == [False, True, False]
        assert not out.terminated.any()
        assert out.reward[1] == 0.0
        np.testing.assert_array_equal(out.obs[1], start[1])
        assert (out.obs[0] != start[0]).any()
        failing = actions.copy()
        failing[0, 0] = np.inf  # the other episodes continue and can fail later
        out = batch.step(failing)
        assert out.invalid.tolist() == [True, True, False]
        assert out.reward[1] == 0.0

    def test_its_protocol_names_the_version_and_the_reward_on_one_line(self) -> None:
        dist = self.load()
        assert f"{dist.name}@{dist.version}" in dist.protocol
        assert "\n" not in dist.protocol
        assert "reward" in dist.protocol
