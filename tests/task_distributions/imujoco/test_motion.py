"""Motion of the reconstructed robots: stable, distinct, and the same in both engines."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import task_distributions
from harness.conformance.task_dists import assert_within_rounding
from task_distributions.engine.physics import Physics
from task_distributions.imujoco.variants import ANT_ANATOMY, HALFCHEETAH_ANATOMY
from task_distributions.imujoco.xml_files import MixedDataPool
from task_distributions.locomotion.robots import template

ANATOMIES = {"imujoco-halfcheetah": HALFCHEETAH_ANATOMY, "imujoco-ant": ANT_ANATOMY}
by_name = pytest.mark.parametrize("name", ANATOMIES)


def _tasks(name: str):
    dist = task_distributions.load(name)
    return [task for split in task_distributions.SPLITS for task in dist.tasks(split)]


@cache
def _rollout(name: str, steps: int = 200) -> np.ndarray:
    """States [B + 1, T, Q + V] of all variants and, last, the base robot under the same actions.

    Plays the physics directly, so that a fallen Ant continues; fails if a simulation explodes.
    """
    dist, robot = task_distributions.load(name), ANATOMIES[name].robot
    models = [dist.family.model(task) for task in _tasks(name)] + [template(robot).model]
    frame_skip = template(robot).frame_skip
    physics = Physics(models, MixedDataPool(models), frame_skip=frame_skip)
    rest = np.array([model.qpos0 for model in models])
    rngs = [np.random.default_rng(4) for _ in models]
    physics.reset(*robot.reset_state(rngs, rest))
    rng, everywhere = np.random.default_rng(0), np.ones(len(models), bool)
    states = []
    for _ in range(steps):
        action = rng.uniform(-1.0, 1.0, robot.action_dim)
        physics.step(np.tile(action, (len(models), 1)), everywhere)
        states.append(np.concatenate((physics.qpos, physics.qvel), axis=1))
        assert not physics.unstable.any()
    return np.stack(states, axis=1)


@by_name
def test_every_variant_is_stable_under_random_actions(name: str):
    states = _rollout(name)
    assert np.isfinite(states).all()
    speed = np.abs(states[..., template(ANATOMIES[name].robot).model.nq :]).max(axis=(1, 2))
    assert speed.max() < 3 * speed[-1]  # the last one is the base robot


@by_name
def test_every_variant_moves_unlike_the_base_robot_and_unlike_the_others(name: str):
    states = _rollout(name)
    for b in range(len(states)):
        difference = np.abs(states - states[b]).max(axis=(1, 2))
        assert np.flatnonzero(difference < 1e-3).tolist() == [b], _tasks(name)[b].name


@by_name
def test_every_kind_of_variant_is_the_same_mdp_in_both_engines(name: str):
    dist = task_distributions.load(name, horizon=60)
    kinds = {task.name.split("_")[0]: task for task in _tasks(name)}  # massdec, massinc, ...
    tasks = list(kinds.values())
    assert len(tasks) == 5
    batch = dist.make_batch(tasks, 1)
    seeds, actions = (
        range(5),
        np.random.default_rng(1).uniform(-1, 1, (60, 5, dist.spec.action_dim)),
    )
    played = [batch.reset(seeds).copy()]
    rewards = []
    for action in actions:
        out = batch.step(action)
        played.append(out.obs.copy())
        rewards.append(out.reward.copy())
    for b, task in enumerate(tasks):
        env = dist.make_env(task)
        assert_within_rounding(env.reset(seed=b)[0], played[0][b])
        for t in range(60):
            obs, reward, terminated, truncated, _ = env.step(actions[t, b])
            assert_within_rounding(obs, played[t + 1][b])
            assert_within_rounding(reward, rewards[t][b])
            if terminated or truncated:
                break
