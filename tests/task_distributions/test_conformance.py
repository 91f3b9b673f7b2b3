"""Every registered distribution: published task lists, ids, splits and invalid actions."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import task_distributions
from harness.conformance.task_dists import single_action
from task_distributions import SPLITS, TaskDistribution
from tests.task_distributions.names import with_earlier_versions

NAMES = with_earlier_versions()
SPARSE = ("point_goal-sparse", "halfcheetah-vel-sparse")
"""Distributions whose reward is 0 at the start."""
NO_OUTSIDE = ("halfcheetah", "ant-dir", "point_goal")
"""Distributions without ``ood`` tasks: their range is a full circle, or a single task."""
pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def dist(name: str) -> TaskDistribution:
    default = task_distributions.load(name)  # slow tests play longer episodes
    return default if default.spec.horizon <= 200 else task_distributions.load(name, horizon=100)


def test_gymnasium_id_makes_the_task_asked_for(name: str, dist: TaskDistribution):
    env_id = f"task_distributions:MetaRL/{dist.name}-v{dist.version}"
    index = min(3, len(dist.tasks("train")) - 1)
    env = gymnasium.make(env_id, split="train", task=index, max_episode_steps=2)
    assert env.unwrapped.task == dist.tasks("train")[index]
    env.reset(seed=0)
    action = single_action(dist, np.zeros(dist.spec.action_dim, np.float32))
    assert env.step(action)[3] is False
    assert env.step(action)[3] is True
    assert gymnasium.make(env_id).unwrapped.task == dist.tasks("test")[0]
    last = len(dist.tasks("test")) - 1
    with pytest.raises(ValueError, match=f"500.* {last}"):
        gymnasium.make(env_id, task=500)
    with pytest.raises(ValueError, match=r"'tests'.* train, validation, test, ood"):
        gymnasium.make(env_id, split="tests")


def test_there_are_validation_tasks_and_no_other_splits(name: str, dist: TaskDistribution):
    assert dist.tasks("validation")
    with pytest.raises(ValueError, match="tests"):
        dist.tasks("tests")


# Tasks that results were published on: they never change within a version.
DIGESTS = {
    "halfcheetah-vel-switch": ("6e2f02c80deb", "7e14ea7eef0d"),
    "point_goal-sparse": ("31c333cce6b6", "b06923cc9b55"),
    "halfcheetah-vel-sparse": ("e3824ac958c4", "153395ed23f4"),
    "halfcheetah-vel": ("bf3e5a880503", "d65dfae4144b"),
    "ant-vel": ("3e174e026f59", "dc5622e0c786"),
    "walker2d-vel": ("40ec9b98dec1", "e8f03e1b8ff8"),
    "ant-dir": ("12ea0e9bbc32", "35914d0bad83"),
    "halfcheetah-gravity": ("17bc25341b7a", "f87a5e529d06"),
    "halfcheetah-gravity@1": ("da424930bb2c", "f06e07ac5b32"),
    "ant-mass": ("233bc7b536b1", "c99d1f925f48"),
    "ant-mass@1": ("e2c4aa4d5dd3", "062007db6909"),
    "imujoco-halfcheetah": ("4e96a039998f", "c093868bb739"),
    "imujoco-ant": ("3a3b7f0abd77", "d2e37f513f6d"),
    "metaworld-ml10": ("dd7219d47b27", "e714297b0f01"),
    "metaworld-ml45": ("3ce086bd5b43", "3e64851288dc"),
    "halfcheetah": ("162bff9f4a22", "9f45f5f8a0cb"),
    "point_goal": ("98f6818c0100", "8cae4b273dbe"),
    "cartpole": ("5a5a96bfab6a", "1c975eaacec0"),
}


def test_published_task_lists_never_change(name: str, dist: TaskDistribution):
    for split, digest in zip(("train", "test"), DIGESTS[name], strict=True):
        tasks = [
            [task.name, [[key, f"{value:.12g}"] for key, value in task.params]]
            for task in dist.tasks(split)
        ]
        assert hashlib.sha256(json.dumps(tasks).encode()).hexdigest()[:12] == digest


INSIDE = ("train", "validation", "test")


def test_tasks_out_of_distribution_lie_outside_the_range_of_the_others(
    name: str, dist: TaskDistribution
):
    outside = dist.tasks("ood")
    if name in NO_OUTSIDE:
        assert not outside
        return
    if name.startswith("metaworld"):  # classes that are not trained on, with goals of their own
        trained = {task.class_name for task in dist.tasks("train")}
        assert {task.class_name for task in dist.tasks("validation")} == trained
        assert {task.class_name for task in outside} == {t.class_name for t in dist.tasks("test")}
        assert not trained & {task.class_name for task in outside}
        return
    if name.startswith("imujoco"):
        changes = {split: {len(task.params) - 1 for task in dist.tasks(split)} for split in SPLITS}
        assert changes == {"train": {1}, "validation": {1}, "test": {1}, "ood": {2}}
        return
    k = 1 if name == "point_goal-sparse" else 0  # goal_y
    inside = [t.params[k][1] for split in INSIDE for t in dist.tasks(split)]
    assert not [task for task in outside if min(inside) <= task.params[k][1] <= max(inside)]


_FINGERPRINTS = """
import json, sys, task_distributions
result = {}
for name in sys.argv[1:]:
    dist = task_distributions.load(name)
    tasks = [task for split in task_distributions.SPLITS for task in dist.tasks(split)]
    first = dist.make_batch(tasks[-2:], 1).reset([7, 8])
    result[name] = [[repr(task) for task in tasks], [x.hex() for x in first.ravel().tolist()]]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def fingerprints() -> dict[str, list]:
    """Tasks and first observations in a process with another hash seed."""
    command = [sys.executable, "-c", _FINGERPRINTS, *NAMES]
    return json.loads(subprocess.check_output(command, env={"PYTHONHASHSEED": "1"}))


def test_any_process_rebuilds_the_same_tasks(
    name: str, dist: TaskDistribution, fingerprints: dict[str, list]
):
    tasks, first = fingerprints[name]
    here = [task for split in SPLITS for task in dist.tasks(split)]
    assert tasks == [repr(task) for task in here]
    here = dist.make_batch(here[-2:], 1).reset([7, 8])
    assert first == [x.hex() for x in here.ravel().tolist()]


def test_the_horizon_changes_the_protocol_and_no_task(name: str):
    dist = task_distributions.load(name, horizon=3)
    assert "3 steps" in dist.protocol
    assert dist.tasks("test") == task_distributions.load(name).tasks("test")
    assert name in (dist.name, f"{dist.name}@{dist.version}")
    with pytest.raises(ValueError, match=r"horizon .*0"):
        task_distributions.load(name, horizon=0)


def test_a_reward_that_is_not_sparse_is_not_zero(name: str, dist: TaskDistribution):
    batch = dist.make_batch(dist.tasks("test")[:1], 1)
    batch.reset([1])
    out = batch.step(np.full((1, dist.spec.action_dim), 0.1))
    assert out.reward[0] != 0.0 or dist.name in SPARSE
