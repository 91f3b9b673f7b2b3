"""Whole runs of every learner: what each is trained and scored with, and what controls share."""

import pytest

from harness.cli.run import main
from harness.meta import learners
from harness.meta.learners import ppo
from tests.harness.execution.execution_cases import (
    assert_same,
    curves,
    manifest,
    played_locally,
    records,
    trained,
)

EVERY = tuple(learners.names())


@pytest.fixture(scope="module")
def _finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("learners")
        patch.chdir(place)
        assert played_locally("all", "--learner", *EVERY, policy=("gru",)) == 0
        assert played_locally("alone", "--learner", "finetune", policy=("gru",)) == 0
    return place


@pytest.fixture
def finished(_finished, monkeypatch):
    monkeypatch.chdir(_finished)


def of(learner, shots=None, name="all"):
    frame = trained(name)
    frame = frame[frame.learner == learner]
    return frame if shots is None else frame[frame.shots == shots]


def test_every_learner_is_scored_with_its_adapter(finished):
    frame = trained("all")
    assert dict(zip(frame.learner, frame.adapter, strict=True)) == {
        "maml": "gradient",
        "rl2": "memory",
        "rsac": "memory",
        "multitask": "none",
        "finetune": "ppo",
        "scratch": "ppo",
        "oracle": "none",
    }
    assert set(frame.shots) == {0, 1}
    steps = frame.groupby("learner").adaptation_steps.agg(["min", "max"])
    assert not steps["min"].any()
    gradient = {"maml": 1, "finetune": 10, "scratch": 10}
    assert steps["max"].to_dict() == {"rl2": 0, "rsac": 0, "multitask": 0, "oracle": 0} | gradient


def test_every_trained_learner_took_the_same_number_of_steps(finished):
    frame = trained("all")
    steps = frame.groupby("learner").train_env_steps.agg(["min", "max"])
    assert (steps["min"] == steps["max"]).all()
    assert steps["min"].to_dict() == {
        name: 0 if name == "scratch" else 3 * 4 * 2 * 2 * 8 for name in EVERY
    }


def test_a_shot_of_memory_is_one_episode_of_each_querys_own(finished):
    assert set(of("rl2", 1).support_env_steps) == {8}
    assert set(of("maml", 1).support_env_steps) == {2 * 8}
    assert (of("rl2", 1).return_.values != of("rl2", 0).return_.values).any()


def test_finetune_is_multitask_until_it_takes_a_step(finished):
    columns = ["task_index", "query_episode", "return_"]
    left, right = (
        of(name, 0)[columns].reset_index(drop=True) for name in ("multitask", "finetune")
    )
    assert_same(left, right)
    assert (of("finetune", 1).return_.values != of("finetune", 0).return_.values).any()
    shared = curves("all")
    assert shared["point_goal.gru.finetune.s0"] == shared["point_goal.gru.multitask.s0"]


def test_finetune_trained_alone_has_the_same_numbers(finished):
    assert_same(of("finetune").reset_index(drop=True), of("finetune", name="alone"))


def test_defaults_that_depend_on_the_policy_are_recorded(finished, monkeypatch):
    monkeypatch.setattr(ppo, "BPTT_STEPS", 77)
    for cell in manifest("all").cells.values():
        for settings in cell.config["learner"].values():
            assert settings.get("bptt_steps", 50) == 50
    assert played_locally("all", "--resume") == 0, "other defaults do not change a stored run"


def test_finetune_can_be_scored_from_its_own_checkpoint(finished):
    path = "results/all/cells/point_goal.gru.finetune.s0/checkpoints/iteration-000003.safetensors"
    argv = ["evaluate", "--backend", "local", "--checkpoint", path, "--name", "again"]
    assert main(argv) == 0
    assert_same(of("finetune").reset_index(drop=True), of("finetune", name="again"))


def test_scratch_has_no_curve_and_is_complete(finished):
    assert "point_goal.gru.scratch.s0" not in curves("all")
    assert all(cell.status == "ok" for cell in manifest("all").cells.values())
    assert len(records("all")) > 0
