"""A folder of XML files, edited here from Gymnasium's HalfCheetah."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import gymnasium
import gymnasium.envs.mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

import harness
import task_distributions
from harness.conformance.task_dists import assert_within_rounding

ASSETS = Path(gymnasium.envs.mujoco.__file__).parent / "assets"
XML = (ASSETS / "half_cheetah.xml").read_text()
EDITS = {
    "halfcheetah-massinc_200_bfoot": ('name="bfoot" pos=".03 0 -.097"', 'mass="3" {}'),
    "halfcheetah-jointdec_25_fshin": ('range="-1.2 .87"', 'range="-.9 .65"'),
    "halfcheetah-lengthinc_50_ffoot": ('size="0.046 .07"', 'size="0.046 .105"'),
    "halfcheetah-frictioninc_50_floor": ('friction=".4 .1 .1"', 'friction=".6 .1 .1"'),
    # Other sizes, for which simulation states must fit, and another rest pose.
    "halfcheetah-sizes": ("<geom axisangle", '<site name="tip" pos=".15 0 .11"/><geom axisangle'),
    "halfcheetah-memory": ('nstack="300000"', 'nstack="900000"'),
    "halfcheetah-lifted": ('name="rootz" pos="0 0 0"', '{} ref="0.2"'),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, (old, new) in EDITS.items():
        assert old in XML
        (tmp_path / f"{name}.xml").write_text(XML.replace(old, new.format(old), 1))
    (tmp_path / "hopper-massinc_200_torso.xml").write_text("of another robot: left alone")
    return tmp_path


def _load(folder: Path, **options):
    return task_distributions.load("imujoco-halfcheetah", xml=folder, **options)


def test_every_file_is_a_task(folder: Path):
    dist = _load(folder)
    train, test = dist.tasks("train"), dist.tasks("test")
    assert (len(train), len(test)) == (5, 2)
    assert sorted(task.name for task in train + test) == sorted(EDITS)
    assert {task.version for task in train + test} == {dist.version} == {2}
    assert _load(str(folder)).tasks("test") == test
    assert pickle.loads(pickle.dumps(train)) == train


def test_gymnasium_makes_them_under_their_version_alone(folder: Path):
    env = harness.make("imujoco-halfcheetah", xml=folder)
    assert (env.spec.id, env.unwrapped.task.version) == ("MetaRL/imujoco-halfcheetah-v2", 2)
    assert harness.make_vec("imujoco-halfcheetah", 2, xml=folder).num_envs == 2
    for make, more in ((gymnasium.make, ()), (gymnasium.make_vec, (2,))):
        with pytest.raises(ValueError, match="version 2, not 1"):
            make("task_distributions:MetaRL/imujoco-halfcheetah-v1", *more, xml=folder)


def test_the_caption_identifies_the_files(folder: Path):
    lines = [
        f"{path.stem} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in sorted(folder.glob("halfcheetah-*.xml"))
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
    protocol = _load(folder).protocol
    assert f"official XML, 7 files, sha256 {digest}" in protocol
    assert "imujoco-halfcheetah@2" in protocol
    assert "reconstruction" not in protocol


def test_a_file_runs_as_in_gymnasiums_half_cheetah(folder: Path):
    dist = _load(folder, horizon=40)
    tasks = dist.tasks("train") + dist.tasks("test")
    batch, seeds = dist.make_batch(tasks, 1), range(20, 20 + len(tasks))
    singles = [dist.make_env(task) for task in tasks]
    originals = [HalfCheetahEnv(xml_file=str(folder / f"{task.name}.xml")) for task in tasks]
    batched = batch.reset(seeds)
    for b, seed in enumerate(seeds):
        expected = originals[b].reset(seed=seed)[0]
        assert_within_rounding(batched[b], expected)
        assert_within_rounding(singles[b].reset(seed=seed)[0], expected)
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = rng.uniform(-1.0, 1.0, (len(tasks), 6))
        out = batch.step(actions)
        for b, action in enumerate(actions):
            obs, reward = originals[b].step(action)[:2]
            assert_within_rounding(out.obs[b], obs)
            assert_within_rounding(out.reward[b], reward)
            assert_within_rounding(singles[b].step(action)[0], obs)
    assert len(np.unique(out.obs, axis=0)) == len(tasks)
    assert not out.invalid.any()


def test_reused_states_fit_the_model_they_are_used_with(folder: Path):
    dist = _load(folder, horizon=10)
    tasks = dist.tasks("train")

    def last(order) -> np.ndarray:
        batch = dist.make_batch([tasks[i] for i in order], 2)
        batch.reset([1] * 2 * len(order))
        for _ in range(10):
            obs = batch.step(np.full((2 * len(order), 6), 0.7)).obs
        sizes = [model.nsite for model in batch.physics._models]
        assert sizes == [data.site_xpos.shape[0] for data in batch.physics.datas]
        return obs[::2].copy()

    order = [3, 0, 4, 1, 2]
    np.testing.assert_array_equal(last(range(5))[order], last(order))


def test_a_task_of_another_folder_is_refused(folder: Path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "xml"
    shutil.copytree(folder, other)
    path = other / "halfcheetah-massinc_200_bfoot.xml"
    path.write_text(path.read_text().replace('mass="3"', 'mass="4"'))
    tasks = _load(folder).tasks("train") + _load(folder).tasks("test")
    (task,) = [task for task in tasks if task.name == path.stem]
    with pytest.raises(ValueError, match="massinc_200_bfoot' is not variant"):
        _load(other).make_env(task)
    reconstructed = task_distributions.load("imujoco-halfcheetah").tasks("test")[0]
    with pytest.raises(ValueError, match="imujoco-halfcheetah@1, not to"):
        _load(folder).make_batch([reconstructed], 1)


WALKER = (ASSETS / "walker2d_v5.xml").read_text()
BAD_FILES = {
    "broken": ("<mujoco><worldbody></mujoco>", "not a MuJoCo model: .*[Ll]ine number=1"),
    "empty": ("", "not a MuJoCo model"),
    "not text": ("\0\1\2", "not a MuJoCo model"),
    "no XML": ("a text", "not a MuJoCo model"),
    "unknown element": (XML.replace("<geom ", "<gem ", 1), "not a MuJoCo model: .*gem"),
    "another robot": (WALKER, r"not a HalfCheetah: its joints are rootx .*, expected rootx"),
    "a joint's name": (
        XML.replace('name="bshin" pos="0 0 0"', 'name="knee" pos="0 0 0"').replace(
            'joint="bshin"', 'joint="knee"'
        ),
        r"its joints are .*knee \(hinge\).*, expected .*bshin \(hinge\)",
    ),
    "a missing actuator": (
        XML.replace('<motor gear="30" joint="ffoot" name="ffoot"/>', ""),
        "its actuators are bthigh, bshin, bfoot, fthigh, fshin, expected .*ffoot",
    ),
    "exchanged actuators": (
        XML.replace('joint="bfoot" name="bfoot"', 'joint="ffoot" name="bfoot"'),
        "its driven joints are",
    ),
    "another time step": (XML.replace('timestep="0.01"', 'timestep="0.02"'), "0.02, expected 0.01"),
    "another control range": (XML.replace('"-1 1"', '"-2 2"'), "its control ranges are"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_the_reason(case: str, folder: Path):
    content, reason = BAD_FILES[case]
    path = folder / "halfcheetah-massdec_25_torso.xml"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"{path}: .*{reason}") as caught:
        _load(folder)
    assert "\n" not in str(caught.value)


def test_a_bad_folder_is_named_with_the_reason(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"folder /nowhere/at/all: no such folder"):
        _load("/nowhere/at/all")
    with pytest.raises(ValueError, match="no such folder"):
        _load(folder / "halfcheetah-sizes.xml")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"empty holds 0 of .*at least 2"):
        _load(empty)
    shutil.copy(folder / "halfcheetah-sizes.xml", empty)
    with pytest.raises(ValueError, match="empty holds 1 of"):
        _load(empty)
    (empty / "halfcheetah-a.xml").mkdir()
    with pytest.raises(ValueError, match=r"halfcheetah-a.xml: not a MuJoCo model: .*directory"):
        _load(empty)
