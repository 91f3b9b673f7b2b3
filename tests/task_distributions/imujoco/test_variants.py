"""Names of the reconstructed robots and the differences from the base robot."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import mujoco
import numpy as np
import pytest

import task_distributions
from harness.conformance.task_dists import ROUNDING
from harness.meta.rollouts.inputs import Goals
from task_distributions.imujoco.variants import (
    ANT_ANATOMY,
    HALFCHEETAH_ANATOMY,
    Variant,
    build_model,
    lowest_point,
)
from task_distributions.locomotion.robots import template

ANATOMIES = {"imujoco-halfcheetah": HALFCHEETAH_ANATOMY, "imujoco-ant": ANT_ANATOMY}
CHEETAH = ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]
by_name = pytest.mark.parametrize("name", ANATOMIES)


def _tasks(name: str):
    dist = task_distributions.load(name)
    return dist.tasks("train") + dist.tasks("test")


def _names(prefix: str, changes: list[str], parts: list[str]) -> list[str]:
    return [f"{prefix}-{change}_{part}" for change in changes for part in parts]


def test_there_are_53_halfcheetahs_in_the_published_naming_scheme():
    limb_changes = ["massdec_25", "massdec_50", "massinc_200", "lengthdec_25", "lengthinc_50"]
    expected = _names("halfcheetah", limb_changes, ["torso", *CHEETAH])
    expected += _names("halfcheetah", ["jointdec_25", "jointdec_50", "jointdec_75"], CHEETAH)
    assert sorted(task.name for task in _tasks("imujoco-halfcheetah")) == sorted(expected)
    assert len(expected) == 53


def test_there_are_59_ants():
    upper, lower, hips, ankles = (
        [f"{part}_{leg}" for leg in range(1, 5)] for part in ("upper", "lower", "hip", "ankle")
    )
    expected = _names("ant", ["massdec_25", "massdec_50", "massinc_200"], ["torso", *upper, *lower])
    expected += _names("ant", ["jointdec_25", "jointdec_50", "jointdec_75"], hips + ankles)
    expected += _names("ant", ["lengthdec_25", "lengthinc_50"], lower)
    assert sorted(task.name for task in _tasks("imujoco-ant")) == sorted(expected)
    assert len(expected) == 59


SPLITS = {
    "imujoco-halfcheetah": (
        42,
        11,
        [
            "halfcheetah-lengthdec_25_ffoot",
            "halfcheetah-jointdec_25_ffoot",
            "halfcheetah-jointdec_75_bthigh",
        ],
        [
            "halfcheetah-jointdec_50_fthigh",
            "halfcheetah-massdec_50_bshin",
            "halfcheetah-massinc_200_bthigh",
        ],
    ),
    "imujoco-ant": (
        47,
        12,
        ["ant-jointdec_50_ankle_3", "ant-jointdec_50_hip_3", "ant-massdec_50_upper_3"],
        ["ant-lengthinc_50_lower_4", "ant-jointdec_25_hip_2", "ant-massdec_25_lower_3"],
    ),
}


@by_name
def test_the_split_is_fixed(name: str):
    dist = task_distributions.load(name)
    train, test, first_train, first_test = SPLITS[name]
    assert (len(dist.tasks("train")), len(dist.tasks("test"))) == (train, test)
    assert [task.name for task in dist.tasks("train")[:3]] == first_train
    assert [task.name for task in dist.tasks("test")[:3]] == first_test
    assert "reconstruction" in dist.protocol or "our own" in dist.protocol


PERCENT = {"dec_25": 0.75, "dec_50": 0.5, "dec_75": 0.25, "inc_50": 1.5, "inc_200": 3.0}
NAME = re.compile(r"[a-z]+-([a-z]+)((?:dec|inc)_\d+)_(\w+)")
LEGS = ["left", "right", "back", "rightback"]
SHANKS = ["left", "right", "third", "fourth"]
GEOM = {  # part in the variant's name -> a geom of its body
    **{limb: limb for limb in CHEETAH},
    **{f"upper_{i}": f"{name}_leg_geom" for i, name in enumerate(LEGS, 1)},
    **{f"lower_{i}": f"{name}_ankle_geom" for i, name in enumerate(SHANKS, 1)},
}


def _arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    fields = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {name: field for name, field in fields.items() if isinstance(field, np.ndarray)}


def _changed(base: mujoco.MjModel, model: mujoco.MjModel, tolerance: float = 0.0) -> set[str]:
    other = _arrays(model)
    return {
        key
        for key, field in _arrays(base).items()
        if field.shape != other[key].shape
        or not np.allclose(field, other[key], rtol=tolerance, atol=tolerance)
    }


def _body(model: mujoco.MjModel, part: str) -> int:
    if part == "torso":
        return 1
    return model.geom(GEOM[part]).bodyid.item()


@by_name
def test_each_variant_changes_what_its_name_says_and_nothing_else(name: str):
    dist, base = task_distributions.load(name), template(ANATOMIES[name].robot).model
    derived = {"body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0"}
    derived |= {"cam_pos0", "cam_poscom0", "light_pos0", "light_poscom0", "stat"}  # centre of mass
    shape = {"geom_size", "geom_pos", "geom_rbound", "geom_aabb", "bvh_aabb", "body_pos", "qpos0"}
    for task in _tasks(name):
        model = dist.family.model(task)
        kind, percent, part = NAME.fullmatch(task.name).groups()
        scale, changed = PERCENT[percent], _changed(base, model)
        if kind == "joint":
            assert changed == {"jnt_range"}
            rows = np.flatnonzero((model.jnt_range != base.jnt_range).any(axis=1))
            assert rows.tolist() == [model.joint(part).id]
            np.testing.assert_allclose(model.jnt_range[rows], scale * base.jnt_range[rows])
            continue
        body = _body(model, part)
        others = np.arange(model.nbody) != body
        np.testing.assert_allclose(model.body_mass[others], base.body_mass[others], rtol=1e-12)
        np.testing.assert_allclose(
            model.body_inertia[others], base.body_inertia[others], rtol=1e-12
        )
        if kind == "mass":
            assert model.body_mass[body] == scale * base.body_mass[body]
            np.testing.assert_array_equal(model.body_inertia[body], scale * base.body_inertia[body])
            assert changed <= derived | {"body_mass", "body_inertia"}
        else:
            assert kind == "length"
            assert (model.body_mass[body] > base.body_mass[body]) == (scale > 1.0)
            assert changed <= derived | shape | {
                "body_mass",
                "body_inertia",
                "body_ipos",
                "body_iquat",
            }
        assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
        assert "body_invweight0" in changed


@by_name
def test_a_stretched_capsule_keeps_its_joint_and_moves_the_next_one(name: str):
    anatomy = ANATOMIES[name]
    base = template(anatomy.robot).model
    for variant in anatomy.variants():
        if variant.quantity != "length":
            continue
        model, geom = build_model(anatomy, variant), anatomy.limbs[variant.part]
        g, body = base.geom(geom).id, base.geom(geom).bodyid.item()
        assert model.geom_size[g, 1] == pytest.approx(variant.scale * base.geom_size[g, 1])
        assert model.geom_size[g, 0] == base.geom_size[g, 0]
        np.testing.assert_array_equal(model.geom_quat, base.geom_quat)
        children = np.flatnonzero(base.body_parentid == body)
        ends, ends_before = _ends(model, g), _ends(base, g)
        for child in children:  # at the same distance from its end as before
            near = np.linalg.norm(ends_before - base.body_pos[child], axis=1).argmin()
            offset = base.body_pos[child] - ends_before[near]
            np.testing.assert_allclose(model.body_pos[child] - ends[near], offset, atol=1e-12)
        if variant.part == "torso":
            np.testing.assert_allclose(ends.sum(axis=0), ends_before.sum(axis=0), atol=1e-12)
        else:
            near = np.linalg.norm(ends_before, axis=1).argmin()
            np.testing.assert_allclose(ends[near], ends_before[near], atol=1e-12)


def _ends(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Both ends of a capsule's axis in its body's frame [2, 3]."""
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    along = rotation[2::3] * model.geom_size[geom, 1]
    return np.array([model.geom_pos[geom] - along, model.geom_pos[geom] + along])


@by_name
def test_a_scale_of_one_is_the_base_robot(name: str):
    anatomy = ANATOMIES[name]
    for variant in anatomy.variants():
        same = Variant("same", variant.quantity, variant.part, 1.0)
        model = build_model(anatomy, same)
        assert _changed(template(anatomy.robot).model, model, ROUNDING) == set()


@by_name
def test_none_starts_in_the_floor(name: str):
    dist, base = task_distributions.load(name), template(ANATOMIES[name].robot).model
    for task in _tasks(name):
        model = dist.family.model(task)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        assert data.ncon == 0, task.name
        assert lowest_point(model) >= lowest_point(base) - 1e-12, task.name
        assert mujoco.mj_geomDistance(model, data, 0, 1, 10.0, None) > 0.0
        env = dist.make_env(task)
        env.reset(seed=0)
        np.testing.assert_array_equal(env.unwrapped._robot.init_qpos, model.qpos0)


def test_the_reward_is_that_of_the_base_task():
    for name, bonus, cost in (("imujoco-halfcheetah", 0.0, 0.1), ("imujoco-ant", 1.0, 0.5)):
        dist = task_distributions.load(name)
        assert dist.spec.horizon == 200
        assert dist.non_adaptive_return(dist.tasks("test")) is None
        batch = dist.make_batch(dist.tasks("test")[:2], 1)
        batch.reset([0, 1])
        before = batch.physics.tracked[:, 0].copy()
        action = np.full((2, dist.spec.action_dim), 0.5)
        reward = batch.step(action).reward
        speed = (batch.physics.tracked[:, 0] - before) / 0.05
        np.testing.assert_allclose(reward, speed + bonus - cost * dist.spec.action_dim * 0.25)


def test_a_task_that_was_tampered_with_is_refused():
    dist = task_distributions.load("imujoco-ant")
    task = dist.tasks("test")[0]
    for params in ((("variant", 500.0),), (("variant", 3.0), ("mass_scale", 9.0))):
        other = type(task)(task.dist, 1, "test", 0, task.name, params)
        with pytest.raises(ValueError, match="is not variant"):
            dist.make_batch([other], 1)


@by_name
def test_the_page_of_pictures_lists_the_split(name: str):
    docs = Path(__file__).parents[3] / "docs"
    page, dist = (docs / "imujoco.md").read_text(), task_distributions.load(name)
    assert dist.protocol in page
    for split in task_distributions.SPLITS:
        names = ", ".join(f"`{task}`" for task in sorted(t.name for t in dist.tasks(split)))
        label = "OOD" if split == "ood" else split.title()
        assert f"- **{label} ({len(dist.tasks(split))}):** {names}\n" in page
    assert (docs / "images" / f"{name}.png").stat().st_size < 400_000


def test_two_changes_are_the_changes_of_both():
    """Mass and range as in the single changes; two lengths as one stretch after the other."""
    by_name = {variant.name: variant for variant in HALFCHEETAH_ANATOMY.variants()}
    heavy, stiff, short, long = (
        by_name[f"halfcheetah-{change}"]
        for change in ("massinc_200_bfoot", "jointdec_50_fshin", "lengthdec_25_ffoot",
                       "lengthinc_50_torso")
    )  # fmt: skip
    both = build_model(HALFCHEETAH_ANATOMY, heavy, stiff)
    np.testing.assert_array_equal(both.body_mass, build_model(HALFCHEETAH_ANATOMY, heavy).body_mass)
    np.testing.assert_array_equal(both.jnt_range, build_model(HALFCHEETAH_ANATOMY, stiff).jnt_range)
    lengths = build_model(HALFCHEETAH_ANATOMY, short, long).geom_size[:, 1]
    base = template(HALFCHEETAH_ANATOMY.robot).model.geom_size[:, 1]
    factors = lengths[base > 0] / base[base > 0]
    assert sorted(factors.round(9))[0] == 0.75
    assert sorted(factors.round(9))[-1] == 1.5
    assert (factors.round(9) != 1.0).sum() == 2


def test_tasks_out_of_distribution_change_two_different_limbs():
    for name, anatomy in ANATOMIES.items():
        for task in task_distributions.load(name).tasks("ood"):
            one, other = (key.split("_", 1)[1].removesuffix("_scale") for key, _ in task.params[1:])
            assert anatomy.joints.get(one, one) != anatomy.joints.get(other, other)


@by_name
def test_an_oracle_is_told_which_part_changed_and_how_much(name: str):
    dist = task_distributions.load(name)
    for split in task_distributions.SPLITS:
        for task in dist.tasks(split):
            changes = task.name.partition("-")[2].split("+")
            assert len(task.description) == len(changes)
            for (key, exponent), change in zip(task.description, changes, strict=True):
                part = change.split("_", 2)[2]
                assert key.endswith(f"_{part}_scale")
                assert (exponent < 0) == ("dec" in change)
    told = Goals.of_distribution(dist).of(dist.tasks("train"))
    assert len(np.unique(told.numpy(), axis=0)) == len(dist.tasks("train"))
    base = Goals.of_distribution(dist).of(
        (dataclasses.replace(dist.tasks("train")[0], description=(("other", 1.0),)),)
    )
    assert ((told - base).abs() > 1e-9).sum(1).tolist() == [1] * len(told)
    other = Goals.of_distribution(dist).of(dist.tasks("test"))
    assert other.abs().max() <= told.abs().max(), "factors of test tasks are those of training"
