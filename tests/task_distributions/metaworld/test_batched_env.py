"""The batched Meta-World engine against metaworld itself."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.types import Task as MetaworldTask

import task_distributions
from task_distributions import Task, TaskDistribution
from task_distributions.metaworld.observations import OBJECTS
from task_distributions.metaworld.single_env import OriginalEnv

QUICK = ("pick-place-v3", "basketball-v3", "door-lock-v3", "dial-turn-v3", "stick-pull-v3")
"""Contacts; a live target; a live object position; a computed position; two objects."""


def _load(reward_version: str = "v2") -> TaskDistribution:
    return task_distributions.load("metaworld-ml45", reward_version=reward_version)


def _tasks(dist: TaskDistribution, name: str, goals: tuple[int, ...]) -> list[Task]:
    both = dist.tasks("train") + dist.tasks("test")
    return [task for task in both for goal in goals if task.name == f"{name}/{goal}"]


def _new_environment(task: Task, reward_version: str):
    """Metaworld's own environment for one task, created without this project's code."""
    name = task.name.partition("/")[0]
    env = ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
    content = {
        "rand_vec": np.array([value for _, value in task.params]),
        "partially_observable": True,
        "env_cls": type(env),
    }
    env.set_task(MetaworldTask(name, pickle.dumps(content)))
    return env


Controller = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""(step, obs [39], goal [3]) -> action [4]."""


def _controller(kind: str, name: str, seed: int) -> Controller:
    noise = np.random.default_rng(seed).uniform(-1.0, 1.0, (500, 4))
    policy = ENV_POLICY_MAP[name]()

    def act(step: int, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        if kind == "random":
            return noise[step]
        action = policy.get_action(np.concatenate([obs[:36], goal])).astype(np.float64)
        return np.clip(action + (0.3 * noise[step] if kind == "noisy" else 0.0), -1.0, 1.0)

    return act


def _largest_difference(name: str, kind: str, goals: tuple[int, ...], steps: int, version: str):
    """Play the engine beside new metaworld environments; return largest differences, successes."""
    dist = _load(version)
    tasks = _tasks(dist, name, goals)
    envs = [_new_environment(task, version) for task in tasks]
    acts = [_controller(kind, name, seed) for seed in range(len(tasks))]
    batch = dist.make_batch(tasks, 1)
    got = batch.reset(range(len(tasks)))
    obs = np.stack([env.reset()[0] for env in envs])
    worst, succeeded = np.array([np.abs(obs - got).max(), 0.0]), np.zeros(len(tasks), bool)
    for step in range(steps):
        actions = [act(step, obs[i], envs[i]._target_pos) for i, act in enumerate(acts)]
        out = batch.step(np.stack(actions))
        obs, reward, _, _, infos = zip(
            *(env.step(a) for env, a in zip(envs, actions, strict=True)), strict=True
        )
        obs, reward = np.stack(obs), np.array(reward)
        succeeded |= [bool(info["success"]) for info in infos]
        np.testing.assert_array_equal(out.success, succeeded)
        relative = np.abs(out.reward - reward) / np.maximum(1.0, np.abs(reward))
        worst = np.maximum(worst, [np.abs(out.obs - obs).max(), relative.max()])
    assert not out.invalid.any()
    return worst, succeeded


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", QUICK)
def test_engine_plays_metaworlds_trajectories(name: str, version: str):
    for kind in ("random", "noisy"):
        worst, _ = _largest_difference(name, kind, (3, 41), 60, version)
        np.testing.assert_array_less(worst, 1e-12)


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch):
    """Read every XML file once and copy the model, in a quarter of the time."""
    read = functools.cache(mujoco.MjModel.from_xml_path)
    monkeypatch.setattr(mujoco.MjModel, "from_xml_path", lambda path: copy.copy(read(path)))


WHOLE = ((0, "scripted", 500, "v2"), (17, "noisy", 200, "v2"), (49, "random", 75, "v2"))
"""(goal, actions, steps, reward): one whole episode, and the beginnings of others, which have the
contacts; the exhaustive test plays all of them to the end."""


@pytest.mark.slow
@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize("name", OBJECTS)
def test_engine_plays_whole_episodes_of_metaworld(name: str):
    for goal, kind, steps, version in (*WHOLE, (8, "noisy", 100, "v1")):
        worst, _ = _largest_difference(name, kind, (goal,), steps, version)
        np.testing.assert_array_less(worst, 1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("kind", ["random", "noisy", "scripted"])
@pytest.mark.parametrize("name", OBJECTS)
def test_engine_plays_many_whole_episodes_of_metaworld(name: str, kind: str, version: str):
    worst, _ = _largest_difference(name, kind, (0, 17, 49), 500, version)
    np.testing.assert_array_less(worst, 1e-12)


def test_every_class_of_metaworld_is_there():
    assert set(OBJECTS) == set(ALL_V3_ENVIRONMENTS)
    dist = _load()
    assert {t.name.partition("/")[0] for s in ("train", "test") for t in dist.tasks(s)} == set(
        OBJECTS
    )


@pytest.mark.parametrize("name", ["coffee-pull-v3", "hammer-v3"])
def test_a_model_of_the_engine_has_every_named_geom_and_little_else(name: str):
    lean, whole = (OriginalEnv(name, "v2", physics_only=lean).env.model for lean in (True, False))
    names = [{model.geom(i).name for i in range(model.ngeom)} - {""} for model in (lean, whole)]
    assert names[0] == names[1]
    assert lean.nbuffer < 0.2 * whole.nbuffer


def test_mixed_classes_in_any_order_do_not_touch_each_other():
    dist = _load()
    names = ("drawer-open-v3", "reach-v3", "drawer-open-v3", "basketball-v3")
    tasks = [_tasks(dist, name, (goal,))[0] for goal, name in enumerate(names)]
    actions = np.random.default_rng(1).uniform(-1, 1, (30, len(tasks), 4))
    together, alone = dist.make_batch(tasks, 1), [dist.make_batch([t], 1) for t in tasks]
    together.reset(range(len(tasks)))
    for batch in alone:
        batch.reset([0])
    for step in actions:
        out = together.step(step)
        for i, batch in enumerate(alone):  # interleaved with the steps of the others
            own = batch.step(step[i : i + 1])
            np.testing.assert_array_equal(own.obs[0], out.obs[i])
            assert own.reward[0] == out.reward[i]


def test_goal_is_hidden_and_success_is_kept_to_the_end():
    dist = _load()
    task = _tasks(dist, "reach-v3", (5,))[0]
    env, batch = dist.make_env(task), dist.make_batch([task], 1)
    obs, info = env.reset(seed=0)
    assert info["success"] is False
    batch.reset([0])
    act = _controller("scripted", "reach-v3", 0)
    reached = 0
    for step in range(200):
        goal = env.original._target_pos
        # To the goal and away again: success is "at this step or before".
        action = act(step, obs, goal) if step < 120 else np.array([0.0, -1.0, 0.0, 0.0])
        obs, _, terminated, _, info = env.step(action)
        out = batch.step(action[np.newaxis])
        assert out.success[0] == info["success"] >= reached
        assert not terminated
        np.testing.assert_array_equal(out.obs[0, 36:], 0.0)
        np.testing.assert_array_equal(obs[36:], 0.0)
        reached = info["success"]
    assert reached
    assert np.linalg.norm(obs[:3] - goal) > 0.1


def test_exploded_physics_is_invalid():
    dist = _load()
    batch = dist.make_batch(_tasks(dist, "push-v3", (0, 1)), 1)
    start = batch.reset([0, 1]).copy()
    batch.simulations[1].data.qvel[0] = 1e12
    out = batch.step(np.zeros((2, 4)))
    assert out.invalid.tolist() == [False, True]
    assert out.truncated.tolist() == [False, True]
    np.testing.assert_array_equal(out.obs[1], start[1])
    np.testing.assert_array_equal(batch.reset([0, 1]), start)
    assert not batch.step(np.zeros((2, 4))).invalid.any()
