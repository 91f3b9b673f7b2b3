"""Meta-World's task lists against metaworld's own."""

from __future__ import annotations

import mujoco
import pytest

import task_distributions
from task_distributions.metaworld import goals

ML10, ML45 = "metaworld-ml10", "metaworld-ml45"


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        pytest.param(ML10, 10, marks=pytest.mark.slow),
        pytest.param(ML45, 45, marks=pytest.mark.exhaustive),
    ],
)
def test_lists_are_metaworlds_own(name, classes):
    benchmark = name.removeprefix("metaworld-")
    drawn = goals.draw_goals([benchmark.upper()])
    dist = task_distributions.load(name)
    counts = {"train": classes, "validation": classes, "test": 5, "ood": 5}
    for split, count in counts.items():
        prefix = f"{benchmark}/{split}/"
        keys = [key for key in drawn if key.startswith(prefix)]
        assert len(keys) == count
        tasks = dist.tasks(split)
        assert len(tasks) == 50 * count
        for k, task in enumerate(tasks):
            key = keys[k // 50]
            goal = k % 50 + (50 if split in ("validation", "ood") else 0)
            assert task.name == f"{key.removeprefix(prefix)}/{goal}"
            assert [v for _, v in task.params] == drawn[key][k % 50].tolist()


def test_lists_are_made_without_building_an_environment(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    goals._vectors.cache_clear()
    monkeypatch.setattr(mujoco.MjModel, "from_xml_path", refuse)
    monkeypatch.setattr(mujoco.MjSpec, "from_file", refuse)
    for name, counts in ((ML10, (500, 250)), (ML45, (2250, 250))):
        dist = task_distributions.load(name)
        assert (len(dist.tasks("train")), len(dist.tasks("test"))) == counts


def test_version_and_protocol_state_the_reward_version():
    for reward_version, number in (("v1", 1), ("v2", 2)):
        dist = task_distributions.load(ML10, reward_version=reward_version)
        assert dist.version == dist.tasks("test")[0].version == number
        for part in (f"@{number}", f"reward {reward_version}", "metaworld 3.1", "success at any"):
            assert part in dist.protocol
    with pytest.raises(ValueError, match="unknown reward_version 'v3'; choose from: v1, v2"):
        task_distributions.load(ML10, reward_version="v3")


def test_another_metaworld_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(goals.metadata, "version", lambda name: "3.2.0")
    with pytest.raises(ImportError, match=r"3\.2\.0 .*metaworld>=3\.1\.1,<3\.2"):
        task_distributions.load(ML10)
