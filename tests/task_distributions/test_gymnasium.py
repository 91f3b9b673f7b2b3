"""Every distribution keeps the promises of Gymnasium's interface, alone and as a vector."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from ctypes.util import find_library

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import task_distributions
from harness.conformance.task_dists import assert_within_rounding

NOT_RENDERED = ("point_goal", "point_goal-sparse", "cartpole")
SLOW = ("metaworld-ml10", "metaworld-ml45")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in task_distributions.names()
]
every_name = pytest.mark.parametrize("name", NAMES)


def _id(name: str) -> str:
    version = max(
        spec.version
        for spec in gymnasium.registry.values()
        if spec.namespace == "MetaRL" and spec.name == name
    )
    return f"task_distributions:MetaRL/{name}-v{version}"


def _make(name: str, **options) -> gymnasium.Env:
    return gymnasium.make(_id(name), **options)


def _assert_same(actual: object, expected: object) -> None:
    """Compare observations or infos, nested as Gymnasium nests them, up to rounding."""
    if isinstance(expected, dict):
        assert isinstance(actual, dict)
        assert actual.keys() == expected.keys()
        for key in expected:
            _assert_same(actual[key], expected[key])
    elif isinstance(expected, tuple):
        for one, other in zip(actual, expected, strict=True):
            _assert_same(one, other)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        for one, other in zip(actual, expected, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                assert_within_rounding(one, other)
    else:
        assert np.asarray(actual).dtype == np.asarray(expected).dtype
        assert_within_rounding(actual, expected)


@every_name
def test_the_spec_states_the_horizon_and_survives_json(name: str):
    horizon = task_distributions.load(name).spec.horizon
    for spec in gymnasium.registry.values():
        if spec.namespace == "MetaRL" and spec.name == name:
            assert spec.max_episode_steps == horizon
    env = _make(name, split="train", task=0)
    assert env.spec.max_episode_steps == horizon
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.task == env.unwrapped.task
    np.testing.assert_array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])
    bounds = wrappers.TimeAwareObservation(env).observation_space
    assert bounds.high[-1] == horizon


@every_name
def test_gymnasium_limits_the_episodes(name: str):
    env = _make(name, max_episode_steps=3)
    env.action_space.seed(0)
    env.reset(seed=0)
    action = env.action_space.sample()
    assert [env.step(action)[3] for _ in range(3)] == [False, False, True]
    assert env.spec.max_episode_steps == 3
    with pytest.raises(ValueError, match="max_episode_steps=7"):
        _make(name, horizon=7)


def test_an_unlimited_episode_goes_on():
    env = _make("point_goal", max_episode_steps=-1)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[3] for _ in range(2000)]
    assert not any(ends)
    envs = gymnasium.make_vec(_id("point_goal"), 2, max_episode_steps=-1)
    envs.reset(seed=0)
    ends = [envs.step(np.zeros((2, 2)))[3].any() for _ in range(2000)]
    assert not any(ends)


@every_name
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_continues_the_episode_and_its_random_numbers(name: str, duplicate):
    env = _make(name, split="train", task=0)
    env.action_space.seed(1)
    env.reset(seed=1)
    for _ in range(4):
        env.step(env.action_space.sample())
    other = duplicate(env)
    assert other.unwrapped.task == env.unwrapped.task
    for _ in range(4):
        action = env.action_space.sample()
        np.testing.assert_array_equal(other.action_space.sample(), action)
        one, two = env.step(action), other.step(action)
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1:] == two[1:]
    np.testing.assert_array_equal(other.reset()[0], env.reset()[0])


@every_name
def test_gymnasium_checks_the_environment(name: str):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = _make(name)
        # Without the windows that "human" opens; images are tested below.
        check_env(env.unwrapped, skip_render_check=True)
        env.close()
        env.close()
    # Gymnasium's own MuJoCo environments have observations without bounds, too.
    assert [str(w.message) for w in caught if "infinity" not in str(w.message)] == []


@every_name
def test_a_seed_starts_a_sequence_of_episodes(name: str):
    env = _make(name)
    first, second = env.reset(seed=5, options={"anything": 1})[0], env.reset()[0]
    assert env.unwrapped.np_random_seed == 5
    np.testing.assert_array_equal(env.reset(seed=5)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)
    if name not in SLOW:  # whose starts do not vary
        assert (first != second).any()


@every_name
def test_an_action_of_another_shape_is_refused(name: str):
    env = _make(name).unwrapped
    env.reset(seed=0)
    action = env.action_space.sample()
    for wrong in (np.zeros((*env.action_space.shape, 1)), np.zeros(99)):
        with pytest.raises(ValueError, match="action"):
            env.step(wrong)
    env.step(action)
    envs = gymnasium.make_vec(_id(name), 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="actions"):
        envs.step(np.zeros((3, *env.action_space.shape)))


def test_actions_out_of_range_are_halfcheetahs_own():
    ours, theirs = _make("halfcheetah"), gymnasium.make("HalfCheetah-v5")
    envs = gymnasium.make_vec(_id("halfcheetah"), 2)
    obs, _ = theirs.reset(seed=4)
    np.testing.assert_array_equal(ours.reset(seed=4)[0], obs)
    envs.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-5, 5, 6)
        obs, reward, *_ = theirs.step(action)
        single, batch = ours.step(action), envs.step(np.stack([np.zeros(6), action]))
        assert_within_rounding(single[0], obs)
        assert_within_rounding(batch[0][1], obs)
        assert_within_rounding([single[1], batch[1][1]], [reward, reward])


@every_name
def test_the_usual_wrappers_fit(name: str):
    env = wrappers.RecordEpisodeStatistics(_make(name, max_episode_steps=5))
    if isinstance(env.action_space, gymnasium.spaces.Box):
        env = wrappers.ClipAction(wrappers.RescaleAction(env, np.float32(-2), np.float32(2)))
    env = wrappers.TimeAwareObservation(env)
    env = wrappers.NormalizeObservation(env)
    env = wrappers.NormalizeReward(env)
    env = wrappers.FrameStackObservation(env, 3)
    env.action_space.seed(0)
    size = env.unwrapped.observation_space.shape[0] + 1
    assert env.reset(seed=0)[0].shape == (3, size) == env.observation_space.shape
    over = False
    while not over:
        obs, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert np.isfinite(obs).all()
        over = terminated or truncated
    assert info["episode"]["l"] == 5
    again = gymnasium.make(env.spec)
    assert again.observation_space.shape == (3, size)
    assert repr(again) == repr(env)


_RENDERING = """
import sys
import gymnasium, numpy as np
for name in sys.argv[1:]:
    env = gymnasium.make(name, render_mode="rgb_array_list")
    envs = gymnasium.make_vec(name, 2, task=0, render_mode="rgb_array")
    for one in (env, envs):
        assert {"rgb_array", "depth_array"} <= set(one.metadata["render_modes"]), one.metadata
    assert envs.metadata["render_fps"] == env.metadata["render_fps"] > 0
    env.reset(seed=1)
    envs.reset(seed=[1, 2])
    action = np.full(env.action_space.shape, 0.5, np.float32)
    for _ in range(8):
        env.step(action)
        envs.step(np.stack([action, -action]))
    frames = env.render()
    assert len(frames) == 9
    assert (frames[-1].dtype, frames[-1].ndim, frames[-1].shape[2]) == (np.uint8, 3, 3)
    same, other = (np.abs(image.astype(int) - frames[-1]).mean() for image in envs.render())
    assert same < 0.2 * other, (name, same, other)
    env.close()
    envs.close()
    depth = gymnasium.make(name, render_mode="depth_array")
    depth.reset(seed=1)
    assert depth.render().ndim == 2
    depth.close()
"""


@pytest.mark.slow
def test_images_are_rendered():
    libraries = {"egl": "EGL", "osmesa": "OSMesa"}
    found = [backend for backend, library in libraries.items() if find_library(library)]
    if not found:
        pytest.skip("neither EGL nor OSMesa is installed")
    ids = [_id(name) for name in task_distributions.names() if name not in NOT_RENDERED]
    command = [sys.executable, "-c", _RENDERING, *ids]
    done = subprocess.run(
        command, env=os.environ | {"MUJOCO_GL": found[0]}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NOT_RENDERED)
def test_what_cannot_be_rendered_says_so(name: str):
    assert _make(name).metadata["render_modes"] == []
    with pytest.raises(ValueError, match=name):
        _make(name, render_mode="rgb_array")
    with pytest.raises(ValueError, match="rgb_array"):
        gymnasium.make_vec(_id(name), 2, render_mode="rgb_array")


def _copies(name: str, indices: list[int], steps: int) -> list[gymnasium.Env]:
    return [_make(name, split="train", task=index, max_episode_steps=steps) for index in indices]


@every_name
def test_the_vector_is_gymnasiums_vector_of_single_environments(name: str):
    """Seeds, masked resets, the three autoreset modes, infos; step by step under equal actions."""
    indices, steps = [0, 1, 0], 12
    singles = _copies(name, [min(i, _size(name) - 1) for i in indices], steps)
    for mode in AutoresetMode:
        theirs = SyncVectorEnv([lambda env=env: env for env in singles], autoreset_mode=mode)
        ours = gymnasium.make_vec(
            _id(name),
            num_envs=3,
            split="train",
            tasks=[env.unwrapped.task.index for env in singles],
            max_episode_steps=steps,
            autoreset_mode=mode.value,
        )
        assert ours.metadata["autoreset_mode"] is mode
        assert ours.observation_space == theirs.observation_space
        assert ours.action_space == theirs.action_space
        assert ours.single_observation_space == theirs.single_observation_space
        assert ours.single_action_space == theirs.single_action_space
        _play_both(ours, theirs, mode)


def _size(name: str) -> int:
    return len(task_distributions.load(name).tasks("train"))


def _play_both(ours, theirs, mode: AutoresetMode) -> None:
    rng = np.random.default_rng(0)
    for seed in (7, [1, 2**40, 1], None):
        _assert_same(ours.reset(seed=seed), theirs.reset(seed=seed))
        assert ours.np_random_seed == theirs.np_random_seed
    theirs.action_space.seed(0)
    masks = {2: (np.array([True, False, False]), None), 5: (np.array([False, True, True]), 9)}
    ended = 0
    for t in range(40):
        actions = theirs.action_space.sample()
        if t == 20 and actions.dtype == np.float32:
            actions[1] = np.nan  # an invalid episode
        one, other = ours.step(actions), theirs.step(actions)
        _assert_same(one, other)
        over = other[2] | other[3]
        ended += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            with pytest.raises(gymnasium.error.ResetNeeded, match="reset_mask"):
                ours.step(actions)
            masks[t] = (over, rng.integers(100).item())
        if t in masks:
            mask, seed = masks[t]
            options = {"reset_mask": mask}
            _assert_same(
                ours.reset(seed=seed, options=options),
                theirs.reset(seed=seed, options=dict(options)),
            )
            assert "reset_mask" in options
        for env, row in zip(theirs.envs, ours.unwrapped._engine.state.obs, strict=True):
            env.unwrapped._obs = row.copy()  # the whole state where there is no MuJoCo
    assert ended >= 6


def test_gymnasium_finds_no_difference_from_its_own_vector():
    theirs = SyncVectorEnv([lambda: _make("halfcheetah-vel", max_episode_steps=20)])
    ours = gymnasium.make_vec(_id("halfcheetah-vel"), 1, task=0, max_episode_steps=20)
    check_environments_match(theirs, ours, num_steps=50)


def test_a_distribution_from_outside_has_all_of_it(tmp_path):
    source = tmp_path / "outside.py"
    source.write_text(
        "from dataclasses import replace\n"
        "from task_distributions.point_goal import PointGoalSettings, point_goal\n"
        "def mine(settings: PointGoalSettings = PointGoalSettings()):\n"
        "    dist = point_goal(settings)\n"
        "    lists = {\n"
        "        split: tuple(replace(task, dist='mine') for task in tasks)\n"
        "        for split, tasks in dist.task_lists.items()\n"
        "    }\n"
        "    return replace(dist, name='mine', task_lists=lists)\n"
    )
    spec = task_distributions.env_spec(f"{source}:mine")
    env = gymnasium.make(spec, split="train", task=3)
    assert (env.spec.id, env.spec.max_episode_steps) == ("MetaRL/mine-v1", 25)
    envs = gymnasium.make_vec(spec, 2, split="train", task=3)
    np.testing.assert_array_equal(env.reset(seed=0)[0], envs.reset(seed=0)[0][0])
    other = copy.deepcopy(env)
    action = np.ones(2, np.float32)
    np.testing.assert_array_equal(other.step(action)[0], env.step(action)[0])


def test_a_spec_may_have_another_horizon():
    spec = task_distributions.env_spec("point_goal", horizon=10)
    assert gymnasium.make(spec).spec.max_episode_steps == 10
    envs = gymnasium.make_vec(spec, 2)
    envs.reset(seed=0)
    ended = [envs.step(np.zeros((2, 2), np.float32))[3].all() for _ in range(10)]
    assert ended == [False] * 9 + [True]


def test_gymnasiums_processes_play_the_same():
    name, indices = "ant-dir", [0, 1]
    options = {"split": "train", "max_episode_steps": 15}
    ours = gymnasium.make_vec(_id(name), 2, tasks=indices, **options)
    makers = [lambda i=i: _make(name, task=i, **options) for i in indices]
    theirs = AsyncVectorEnv(makers)
    _assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    theirs.action_space.seed(0)
    for _ in range(20):
        actions = theirs.action_space.sample()
        _assert_same(ours.step(actions), theirs.step(actions))
    theirs.close()


def test_gymnasiums_vector_wrappers_fit():
    make = lambda **options: gymnasium.make_vec(_id("ant-vel"), 3, **options)  # noqa: E731
    recorded = wrappers.vector.RecordEpisodeStatistics(make(max_episode_steps=6))
    envs = wrappers.vector.NormalizeObservation(wrappers.vector.ClipAction(recorded))
    envs = wrappers.vector.NormalizeReward(envs)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    for _ in range(20):
        envs.step(envs.action_space.sample())
    assert list(recorded.length_queue) == [6] * 9
    listed = wrappers.vector.DictInfoToList(make(max_episode_steps=2, autoreset_mode="SameStep"))
    listed.reset(seed=0)
    listed.step(np.zeros((3, 8)))
    infos = listed.step(np.zeros((3, 8)))[4]
    assert [info["final_info"] for info in infos] == [{"invalid": False}] * 3
    assert infos[0]["final_obs"].shape == (27,)


def test_the_vector_is_made_again_from_its_spec():
    envs = gymnasium.make_vec(
        _id("point_goal"), 3, split="train", tasks=[4, 5], max_episode_steps=9
    )
    again = gymnasium.make_vec(envs.spec)
    assert [task.index for task in again.tasks] == [4, 5, 4]
    np.testing.assert_array_equal(again.reset(seed=1)[0], envs.reset(seed=1)[0])
    assert gymnasium.envs.registration.EnvSpec.from_json(envs.spec.to_json()) == envs.spec


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"tasks": [0, 500]}, "500.* 29"),
        ({"task": 30}, "30.* 29"),
        ({"task": 1, "tasks": [1]}, "not both"),
        ({"tasks": []}, "empty"),
        ({"tasks": 3}, "task=3"),
        ({"tasks": [0, 1.5]}, "1.5"),
        ({"split": "no-such"}, "no-such.*train"),
        ({"autoreset_mode": "Never"}, "Never"),
        ({"split": "ood"}, "no ood tasks"),
        ({"colour": 1}, "colour"),
        ({"num_envs": 0}, "num_envs"),
        ({"horizon": 3}, "max_episode_steps=3"),
    ],
)
def test_wrong_options_are_refused(options, names):
    with pytest.raises(ValueError, match=names):
        gymnasium.make_vec(_id("point_goal"), **options)


def test_wrong_resets_are_refused():
    envs = gymnasium.make_vec(_id("point_goal"), 2)
    some = {"reset_mask": np.array([True, False])}
    for call in (lambda: envs.step(np.zeros((2, 2))), lambda: envs.reset(options=some)):
        with pytest.raises(gymnasium.error.ResetNeeded):
            call()
    for mask in ([True, True], np.array([1, 1]), np.zeros(2, bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match="reset_mask"):
            envs.reset(options={"reset_mask": mask})
    with pytest.raises(ValueError, match="3 seeds"):
        envs.reset(seed=[1, 2, 3])
    cartpole = gymnasium.make_vec(_id("cartpole"), 2)
    cartpole.reset(seed=0)
    for actions in (np.array([0, 2]), np.array([0.0, 1.0]), np.array([-1, 0])):
        with pytest.raises(ValueError, match="from 0 to 1"):
            cartpole.step(actions)
