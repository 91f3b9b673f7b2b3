"""Settings: declared once, layered in order, and equal after a round trip through JSON."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import flags
from harness.cli.parser import TRAIN, load_config, parse
from harness.config.presets import PRESETS, RECIPES
from harness.config.schema import (
    EnvConfig,
    EvalConfig,
    EvaluateConfig,
    RunConfig,
    TrainConfig,
    config_as_dict,
    config_from_dict,
)
from harness.errors import UsageError


def test_config_survives_json():
    config = RunConfig(policy=("mlp",), seed=(3, 1), train=TrainConfig(outer_lr=3e-4, epochs=0))
    plain = json.loads(json.dumps(config_as_dict(config)))
    assert config_from_dict(plain) == config


@given(
    few_shot=st.lists(st.integers(0, 50), min_size=1, max_size=5),
    seed=st.lists(st.integers(0, 2**31), min_size=1, max_size=4, unique=True),
    gamma=st.floats(0, 1),
)
def test_any_accepted_config_survives_json(few_shot, seed, gamma):
    config = RunConfig(
        seed=tuple(seed),
        train=TrainConfig(gamma=gamma),
        evaluation=EvalConfig(few_shot=tuple(few_shot)),
    )
    assert config_from_dict(json.loads(json.dumps(config_as_dict(config)))) == config


@pytest.mark.parametrize(
    "values",
    [
        {"train": {"epochs": "3"}},
        {"train": {"first_order": "no"}},
        {"train": {"epohcs": 3}},
        {"train": {"gamma": 1.01}},
        {"policy": "ssm"},
        {"seed": []},
        {"surprise": 1},
    ],
)
def test_stored_configs_are_read_strictly(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        config_from_dict(values)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_step_sizes_are_finite_and_positive(value):
    with pytest.raises(ValueError, match="outer_lr"):
        TrainConfig(outer_lr=value)


def test_shots_are_sorted_with_zero_first():
    assert EvalConfig(few_shot=(10, 1, 5, 1)).shots == (0, 1, 5, 10)
    assert EvalConfig(few_shot=(10,), zero_shot=True).shots == (0,)


def test_flag_names_are_unique_over_the_sections():
    # The sections appear without prefixes on the command line: two equal names would be one flag.
    leaves = Counter(path[-1] for path in set(flags.paths(TRAIN).values()))
    assert leaves.most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_complete(name):
    config = load_config(["--preset", name])
    assert config.preset == name
    # A preset stands on its own: each sets the same keys, so none inherits another's by accident.
    assert {k: sorted(v) if isinstance(v, dict) else 0 for k, v in PRESETS[name].items()} == {
        k: sorted(v) if isinstance(v, dict) else 0 for k, v in PRESETS["quick"].items()
    }


def test_presets_grow():
    budgets = [
        load_config(["--preset", name]).train for name in ("smoke", "quick", "standard", "paper")
    ]
    sizes = [b.epochs * b.meta_batch_size * b.episodes_per_task for b in budgets]
    assert sizes == sorted(set(sizes))


def test_layers_win_in_order(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("preset: smoke\ntrain: {epochs: 7, outer_lr: 1e-4}\n")
    config = load_config(["--config", str(file), "--outer-lr", "0.5"])
    assert config.train.outer_lr == 0.5  # the flag over YAML
    assert config.train.epochs == 7  # YAML over the preset
    assert config.train.meta_batch_size == PRESETS["smoke"]["train"]["meta_batch_size"]
    assert config.train.gamma == TrainConfig().gamma  # the default, below all
    assert load_config(["--config", str(file), "--preset", "paper"]).seed == (0, 1, 2, 3, 4)


def test_a_flag_equal_to_the_default_still_wins(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("train: {first_order: true, gamma: 0.5}\n")
    config = load_config([f"--config={file}", "--no-first-order", "--gamma", "0.99"])
    assert (config.train.first_order, config.train.gamma) == (False, 0.99)


def test_given_holds_what_was_said_and_nothing_else(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("train: {epochs: 7}\n")
    invocation = parse(["--config", str(file), "--seeds", "0", "1", "--name", "x"])
    assert invocation.given == {
        "train": {"epochs": 7},
        "seed": (0, 1),
        "execution": {"name": "x"},
    }


def test_evaluate_replaces_only_what_is_given(tmp_path):
    invocation = parse(["evaluate", "--checkpoint", str(tmp_path), "--few-shot", "2"])
    stored = RunConfig(task_dist="ant-vel", evaluation=EvalConfig(zero_shot=True, query_episodes=9))
    assert isinstance(invocation.config, EvaluateConfig)
    resolved = invocation.config.applied_to(stored)
    assert resolved.evaluation.shots == (0, 2)  # asking for shots undoes a stored zero_shot
    assert resolved.evaluation.query_episodes == 9
    assert resolved.task_dist == "ant-vel"


def test_a_recipe_wins_over_the_preset_and_yields_to_yaml_and_flags(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "point_goal", {"train": {"action_scale": 1.0, "epochs": 9}})
    chosen = ["--task-dist", "point_goal"]
    assert load_config(["--task-dist", "ant-vel"]).train.action_scale == TrainConfig().action_scale
    config = load_config(chosen)
    assert (config.train.action_scale, config.train.epochs) == (1.0, 9)
    file = tmp_path / "a.yaml"
    file.write_text("task_dist: point_goal\ntrain: {action_scale: 0.5}\n")
    config = load_config(["--config", str(file), "--epochs", "2"])
    assert (config.train.action_scale, config.train.epochs) == (0.5, 2)


def test_the_variable_of_the_xml_folder_is_recorded_where_it_applies(monkeypatch, tmp_path):
    monkeypatch.setenv("IMUJOCO_XML_DIR", str(tmp_path))
    assert load_config(["--task-dist", "ant-vel"]).env.imujoco_xml is None
    with pytest.raises(UsageError, match=f"IMUJOCO_XML_DIR: .*{tmp_path}.*need at least 2"):
        load_config(["--task-dist", "imujoco-halfcheetah"])
    with pytest.raises(UsageError, match=r"--imujoco-xml: .*/elsewhere: no such folder"):
        load_config(["--task-dist", "imujoco-halfcheetah", "--imujoco-xml", "elsewhere"])
    stored = config_as_dict(RunConfig(env=EnvConfig(imujoco_xml=Path("some/folder"))))
    assert stored["env"]["imujoco_xml"] == str(Path.cwd() / "some/folder")
    assert config_as_dict(config_from_dict(stored)) == stored
