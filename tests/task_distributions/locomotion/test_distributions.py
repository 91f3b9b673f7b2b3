"""The six definitions against independently written formulas and against Gymnasium."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import task_distributions
from harness.conformance.task_dists import assert_within_rounding
from task_distributions.locomotion.robots import ANT, HALFCHEETAH, WALKER2D, template

# name -> reward of x velocity, y velocity, squared norm of the action, task parameter
FORMULAS = {
    "halfcheetah-vel": lambda vx, vy, a2, p: -abs(vx - p) - 0.05 * a2,
    "halfcheetah-vel-sparse": lambda vx, vy, a2, p: 1 - abs(vx - p) if abs(vx - p) <= 0.3 else 0.0,
    "ant-vel": lambda vx, vy, a2, p: -abs(vx - p) + 3.0 - 0.005 * a2,
    "walker2d-vel": lambda vx, vy, a2, p: -abs(vx - p) + 3.0 - 0.001 * a2,
    "ant-dir": lambda vx, vy, a2, p: vx * math.cos(p) + vy * math.sin(p) + 1.0 - 0.5 * a2,
    "halfcheetah-gravity": lambda vx, vy, a2, p: vx - 0.1 * a2,
    "ant-mass": lambda vx, vy, a2, p: vx + 1.0 - 0.5 * a2,
}
SHAPES = {"halfcheetah": (17, 6, 0.05), "ant": (27, 8, 0.05), "walker2d": (17, 6, 0.008)}
BOUNDS = {"vel": (0.0, 3.0), "dir": (0.0, 2 * math.pi), "gravity": (-3.0, 1.5), "mass": (-2.0, 2.0)}


@pytest.mark.parametrize("name", FORMULAS)
def test_reward_is_the_published_formula(name: str):
    robot, parameter = name.split("-")[:2]
    dist = task_distributions.load(name)
    obs_dim, action_dim, dt = SHAPES[robot]
    assert (dist.spec.obs_dim, dist.spec.action_dim) == (obs_dim, action_dim)
    assert dist.spec.horizon == 200
    tasks = dist.tasks("test")[:4]
    batch = dist.make_batch(tasks, 1)
    batch.reset(range(4))
    rng = np.random.default_rng(0)
    for _ in range(5):
        before = batch.physics.tracked.copy()
        actions = rng.uniform(-2.0, 2.0, (4, action_dim))
        out = batch.step(actions)
        for b, task in enumerate(tasks):
            vx, vy = [*(batch.physics.tracked[b] - before[b]) / dt, 0.0][:2]
            a2 = sum(min(1.0, max(-1.0, a)) ** 2 for a in actions[b])
            expected = FORMULAS[name](vx, vy, a2, task.params[0][1])
            assert out.reward[b] == pytest.approx(expected, abs=1e-12)
    assert batch.tasks[0].params[0][0] == dist.family.parameter
    assert BOUNDS[parameter] == dist.bounds


@pytest.mark.parametrize("name", FORMULAS)
def test_tasks_cover_their_range(name: str):
    dist = task_distributions.load(name)
    low, high = dist.bounds
    for split, count in (("train", 100), ("test", 30)):
        values = [task.param(dist.family.parameter) for task in dist.tasks(split)]
        assert len(values) == count
        strata = sorted(int((value - low) / (high - low) * count) for value in values)
        assert strata == list(range(count))
        assert values != sorted(values)  # shuffled


def test_standing_still_scores_the_target_speed():
    dist = task_distributions.load("halfcheetah-vel")
    tasks = dist.tasks("test")
    batch = dist.make_batch(tasks, 1)
    batch.reset(range(len(tasks)))
    total = sum(batch.step(np.zeros((len(tasks), 6))).reward.copy() for _ in range(200))
    expected = [-200 * task.param("velocity") for task in tasks]
    np.testing.assert_allclose(total, expected, atol=15)


@pytest.mark.parametrize("name", ["halfcheetah-vel", "ant-vel", "walker2d-vel"])
def test_non_adaptive_return_is_the_best_fixed_speed(name: str):
    dist = task_distributions.load(name)
    everything = dist.tasks("test")
    by_speed = sorted(everything, key=lambda task: task.param("velocity"))
    bonus = 0.0 if name == "halfcheetah-vel" else 3.0
    for tasks in (everything, by_speed[:5] + by_speed[-3:]):
        targets = np.array([task.param("velocity") for task in tasks])
        fixed = [200 * (bonus - np.abs(targets - v).mean()) for v in np.linspace(0, 3, 3001)]
        assert dist.non_adaptive_return(tasks) == pytest.approx(max(fixed), abs=0.1)
    assert dist.non_adaptive_return(everything[:1]) == 200 * bonus
    assert dist.non_adaptive_return(everything) == pytest.approx(200 * (bonus - 0.75), abs=2)


def test_the_best_fixed_speed_of_the_sparse_family_is_found_exactly():
    dist = task_distributions.load("halfcheetah-vel-sparse")
    tasks = dist.tasks("test")
    targets = np.array([task.param("velocity") for task in tasks])
    errors = np.abs(targets - np.linspace(0, 3, 30_001)[:, np.newaxis])
    fixed = np.where(errors <= 0.3, 1 - errors, 0.0).mean(axis=1).max()
    best = dist.non_adaptive_return(tasks)
    assert 200 * fixed <= best == pytest.approx(200 * fixed, rel=1e-3)
    assert dist.non_adaptive_return(tasks[:1]) == pytest.approx(200)
    # The best speed for few tasks is often at the edge of what one of them rewards.
    for some in (
        dist.tasks("validation")[:10],
        *(dist.tasks("train")[i : i + 3] for i in range(9)),
    ):
        targets = np.array([task.param("velocity") for task in some])
        edges = np.concatenate([targets - 0.3, targets + 0.3, targets])[:, np.newaxis]
        errors = np.abs(targets - edges)
        best = np.where(errors <= 0.3 + 1e-6, 1 - errors, 0.0).mean(axis=1).max()
        assert dist.non_adaptive_return(some) == pytest.approx(200 * best, abs=1e-3)


@pytest.mark.parametrize("name", ["ant-dir", "halfcheetah-gravity", "ant-mass"])
def test_non_adaptive_return_is_none_where_it_is_not_analytic(name: str):
    dist = task_distributions.load(name)
    assert dist.non_adaptive_return(dist.tasks("test")) is None


@pytest.mark.parametrize("robot", [ANT, WALKER2D], ids=lambda robot: robot.name)
@given(height=st.floats(-0.5, 2.5), angle=st.floats(-2.0, 2.0), data=st.data())
@settings(max_examples=60, deadline=None)
def test_health_is_gymnasiums(robot, height, angle, data):
    bounds = st.sampled_from([0.2, 0.8, 1.0, 2.0])
    height = data.draw(st.one_of(st.just(height), bounds))
    env = _gymnasium_env(robot)
    qpos = env.init_qpos.copy()
    qpos[2 if robot is ANT else 1] = height
    if robot is WALKER2D:
        qpos[2] = data.draw(st.one_of(st.just(angle), st.sampled_from([-1.0, 1.0])))
    env.set_state(qpos, env.init_qvel)
    assert robot.healthy(qpos[np.newaxis]).item() == bool(env.is_healthy)


_envs: dict[str, object] = {}


def _gymnasium_env(robot):
    if robot.name not in _envs:
        _envs[robot.name] = robot.make_env()
    return _envs[robot.name]


def test_a_fall_ends_the_episode_and_only_that_one():
    dist = task_distributions.load("ant-vel")
    batch = dist.make_batch(dist.tasks("test")[:3], 1)
    batch.reset(range(3))
    batch.physics.datas[1].qpos[2] = 3.0
    out = batch.step(np.zeros((3, 8)))
    assert out.terminated.tolist() == [False, True, False]
    assert not out.truncated.any()
    assert out.reward[1] != 0.0  # the last step has a reward, too
    frozen = out.obs[1].copy()
    out = batch.step(np.ones((3, 8)))
    assert out.terminated.tolist() == [False, True, False]
    assert out.reward[1] == 0.0
    np.testing.assert_array_equal(out.obs[1], frozen)


def test_an_end_at_the_horizon_is_no_truncation():
    dist = task_distributions.load("ant-vel", horizon=1)
    batch = dist.make_batch(dist.tasks("test")[:2], 1)
    batch.reset(range(2))
    batch.physics.datas[1].qpos[2] = 3.0
    out = batch.step(np.zeros((2, 8)))
    assert out.terminated.tolist() == [False, True]
    assert out.truncated.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("halfcheetah-gravity@1", lambda task: task.param("gravity_scale")),
        ("halfcheetah-gravity@2", lambda task: 2.0 ** task.param("log2_scale")),
    ],
)
def test_gravity_is_scaled_in_both_engines(name, scale):
    dist = task_distributions.load(name)
    task = dist.tasks("test")[0]
    expected = -9.81 * scale(task)
    assert dist.make_env(task).model.opt.gravity[2] == pytest.approx(expected)
    assert dist.family.model(task).opt.gravity[2] == pytest.approx(expected)
    assert template(HALFCHEETAH).model.opt.gravity[2] == -9.81


def test_mass_and_inertia_are_scaled_and_derived_constants_updated():
    dist = task_distributions.load("ant-mass@1")
    task = max(dist.tasks("test"), key=lambda task: task.param("mass_scale"))
    scale, base = task.param("mass_scale"), template(ANT).model
    assert scale > 1.4
    for model in (dist.make_env(task).model, dist.family.model(task)):
        np.testing.assert_allclose(model.body_mass, scale * base.body_mass)
        np.testing.assert_allclose(model.body_inertia, scale * base.body_inertia)
        np.testing.assert_allclose(model.body_subtreemass, scale * base.body_subtreemass)
        # Not exactly 1/scale: the joints' armature does not change.
        ratio = model.body_invweight0[1:] / base.body_invweight0[1:]
        assert (ratio < 0.95).all()
        assert (ratio > 0.95 / scale).all()
    untouched = mujoco.MjModel.from_xml_path(_gymnasium_env(ANT).fullpath)
    np.testing.assert_array_equal(base.body_mass, untouched.body_mass)


def test_masses_of_the_left_legs_grow_as_those_of_the_right_legs_shrink():
    dist = task_distributions.load("ant-mass@2")
    task = max(dist.tasks("test"), key=lambda task: task.param("log2_scale"))
    scale, base = 2.0 ** task.param("log2_scale"), template(ANT).model
    assert scale > 3.5
    left, right = (
        [base.geom(name).bodyid.item() for name in names]
        for names in (
            ("aux_1_geom", "left_leg_geom", "left_ankle_geom", "aux_2_geom", "right_leg_geom"),
            ("aux_3_geom", "back_leg_geom", "third_ankle_geom", "rightback_leg_geom"),
        )
    )
    for model in (dist.make_env(task).model, dist.family.model(task)):
        for field in ("body_mass", "body_inertia"):
            new, old = getattr(model, field), getattr(base, field)
            np.testing.assert_allclose(new[left], scale * old[left])
            np.testing.assert_allclose(new[right], old[right] / scale)
            np.testing.assert_array_equal(new[:2], old[:2])  # world and torso
        total = model.body_mass.sum()
        np.testing.assert_allclose(model.body_subtreemass[0], total)
        assert total == pytest.approx(
            base.body_mass[1] + base.body_mass[2:].sum() * (scale + 1 / scale) / 2
        )


@pytest.mark.parametrize(
    "name", ["halfcheetah-gravity", "halfcheetah-gravity@1", "ant-mass", "ant-mass@1"]
)
def test_each_task_moves_in_its_own_way(name: str):
    dist = task_distributions.load(name)
    batch = dist.make_batch(dist.tasks("test")[:4], 2)
    batch.reset([9] * 8)
    action = np.full((8, dist.spec.action_dim), 0.4)
    for _ in range(10):
        obs = batch.step(action).obs
    assert len(np.unique(obs, axis=0)) == 4
    np.testing.assert_array_equal(obs[0], obs[1])


def test_ant_sees_no_contact_forces_and_pays_no_contact_cost():
    env = task_distributions.load("ant-vel").make_env(
        task_distributions.load("ant-vel").tasks("test")[0]
    )
    obs, _ = env.reset(seed=0)
    np.testing.assert_array_equal(obs, np.concatenate([env.data.qpos[2:], env.data.qvel]))
    assert env.observation_space.shape == (27,)


@pytest.mark.parametrize("name", FORMULAS)
def test_exploding_physics_makes_the_episode_invalid(name: str, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    dist = task_distributions.load(name)
    # The slowest target, which even a sparse reward pays for from the start.
    task = min(dist.tasks("test"), key=lambda task: task.params[0][1])
    batch, env = dist.make_batch([task], 3), dist.make_env(task)
    start = batch.reset([4, 5, 6]).copy()
    env.reset(seed=5)
    action = np.zeros((3, dist.spec.action_dim))
    batch.physics.datas[1].qvel[:] = 1e12
    env.data.qvel[:] = 1e12

    out = batch.step(action)
    obs, reward, terminated, truncated, info = env.step(action[1])

    assert out.invalid.tolist() == out.truncated.tolist() == [False, True, False]
    assert (out.reward[1], bool(out.terminated[1])) == (0.0, False)
    assert (reward, terminated, truncated, info["invalid"]) == (0.0, False, True, True)
    np.testing.assert_array_equal(out.obs[1], start[1])
    assert_within_rounding(obs, start[1])
    assert out.reward[0] != 0.0
    assert not list(tmp_path.iterdir())  # no MUJOCO_LOG.TXT
    assert capfd.readouterr() == ("", "")

    batch.reset([4, 5, 6])  # the next episode is unaffected
    env.reset(seed=5)
    assert_within_rounding(batch.step(action).obs[1], env.step(action[1])[0])
    assert not batch.step(action).invalid.any()


def test_rendering_is_passed_on():
    dist = task_distributions.load("halfcheetah-vel")
    env = dist.make_env(dist.tasks("test")[0], render_mode="rgb_array")
    assert env.render_mode == "rgb_array"
    assert "rgb_array" in env.metadata["render_modes"]
