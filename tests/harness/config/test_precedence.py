"""Layers of settings: which wins, what a choice keeps, and the round trip through JSON."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import task_distributions
from harness.cli.parser import load_config
from harness.config import precedence
from harness.config.components import docs, selection
from harness.config.presets import PRESETS
from harness.config.schema import config_as_dict
from harness.config.validation import config_from_dict
from harness.errors import UsageError


@settings(max_examples=25, deadline=None)
@given(
    few_shot=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    seed=st.lists(st.integers(0, 2**31), min_size=1, max_size=4, unique=True),
    gamma=st.floats(0, 1),
    width=st.integers(1, 300),
)
def test_any_accepted_configuration_survives_json(few_shot, seed, gamma, width):
    config = precedence.resolve(
        {
            "policy": {"wide": {"kind": "gru", "hidden_dim": width}},
            "learner": {"rl2": {"gamma": gamma}},
            "seed": seed,
            "evaluation": {"few_shot": few_shot},
        }
    )
    assert config_from_dict(json.loads(json.dumps(config_as_dict(config)))) == config


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"seed": []},
        {"seed": ["0"]},
        {"task_dist": "x"},
        {"train": {"meta_iterations": "3"}},
        {"train": {"epohcs": 3}},
        {"policy": {}},
        {"policy": {"gru": {"hidden_dim": 3}}},
        {"policy": {"gru": {"kind": "x"}}},
        {"learner": {"maml": {"kind": "maml", "gamma": 1.01}}},
        {"env": {"horizon": 0}},
    ],
)
def test_stored_configurations_are_read_strictly(change):
    plain = config_as_dict(precedence.resolve({"policy": ["mlp"]}))
    with pytest.raises(ValueError):  # noqa: PT011 - its message is not the point
        config_from_dict({**plain, **change})


def test_layers_win_in_order(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "preset: smoke\ntrain: {env_steps: 7000}\nlearner: {maml: {learning_rate: 1e-4}}\n"
    )
    config = load_config(["--config", str(file), "--lr", "0.5"])
    maml = config.learner["maml"].settings
    assert maml.learning_rate == 0.5  # the flag over YAML
    assert config.train.env_steps == 7000  # YAML over the preset
    assert maml.meta_batch_size == PRESETS["smoke"]["components"]["maml"]["meta_batch_size"]
    assert maml.gamma == 0.99  # the default, below all
    assert load_config(["--config", str(file), "--preset", "paper"]).seed == (0, 1, 2, 3, 4)


def test_a_flag_equal_to_the_default_still_wins(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("learner: {maml: {first_order: true, gamma: 0.5}}\n")
    config = load_config([f"--config={file}", "--no-first-order", "--gamma", "0.99"])
    maml = config.learner["maml"].settings
    assert (maml.first_order, maml.gamma) == (False, 0.99)


def test_a_higher_choice_keeps_settings_of_the_labels_it_shares(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("policy: {gru: {hidden_dim: 9}, lstm: {}}\n")
    config = load_config(["--config", str(file), "--policy", "mlp", "gru"])
    assert list(config.policy) == ["mlp", "gru"]
    assert config.policy["gru"].settings.hidden_dim == 9
    other = load_config(["--config", str(file), "--policy", "gru=lstm"])
    assert other.policy["gru"].settings.hidden_dim != 9, "another kind has settings of its own"


def test_a_section_without_content_changes_nothing(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("preset: smoke\nevaluation:\ntrain:\n")
    assert load_config(["--config", str(file)]) == load_config(["--preset", "smoke"])
    file.write_text("train: {env_steps: ~}\n")
    with pytest.raises(UsageError, match="env_steps"):
        load_config(["--config", str(file)])


def test_iterations_replace_a_budget_in_steps_from_below():
    config = load_config(["--preset", "smoke", "--epochs", "3"])
    assert (config.train.env_steps, config.train.meta_iterations) == (None, 3)


def test_shots_and_zero_shot_replace_each_other_across_layers(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("evaluation: {zero_shot: true}\n")
    assert load_config(["--config", str(file), "--few-shot", "3"]).evaluation.shots == (0, 3)
    file.write_text("evaluation: {few_shot: [3]}\n")
    assert load_config(["--config", str(file), "--zero-shot"]).evaluation.shots == (0,)


@pytest.mark.parametrize(
    ("dist", "std", "gamma"),
    [
        *((name, 0.2, 0.97) for name in ("ant-dir", "ant-vel", "ant-mass", "imujoco-ant")),
        ("walker2d-vel", 0.4, 0.99),
        ("halfcheetah-vel", 0.3, 0.97),
    ],
)
def test_robots_have_recipes_of_their_own(dist, std, gamma):
    config = precedence.resolve({"task_dist": dist, "learner": ["rl2", "oracle"]})
    for learner in config.learner.values():
        assert (learner.settings.init_std, learner.settings.gamma) == (std, gamma)


def test_a_recipe_wins_over_the_preset_and_yields_to_yaml_and_flags(tmp_path, monkeypatch):
    recipe = {
        "components": {"maml": {"action_scale": 1.0}},
        "train": {"env_steps": 900},
        "presets": {"smoke": {"train": {"env_steps": 90}}},
    }
    monkeypatch.setattr(
        task_distributions, "recipe", lambda name: recipe if name == "point_goal" else {}
    )
    assert load_config(["--task-dist", "ant-vel"]).learner["maml"].settings.action_scale == 0.3
    config = load_config(["--task-dist", "point_goal"])
    assert (config.learner["maml"].settings.action_scale, config.train.env_steps) == (1.0, 900)
    assert load_config(["--task-dist", "point_goal", "--preset", "smoke"]).train.env_steps == 90
    file = tmp_path / "a.yaml"
    file.write_text("task_dist: point_goal\nlearner: {maml: {action_scale: 0.5}}\n")
    config = load_config(["--config", str(file), "--env-steps", "2"])
    assert (config.learner["maml"].settings.action_scale, config.train.env_steps) == (0.5, 2)


def test_a_mode_lies_below_flags_and_files(tmp_path):
    config = load_config(["--mode", "policy_gradient", "--policy", "gru"])
    assert (list(config.policy), list(config.learner)) == (["gru"], ["multitask"])
    assert config.learner["multitask"].settings.update_epochs == 1
    file = tmp_path / "a.yaml"
    file.write_text("learner: {multitask: {update_epochs: 3}}\n")
    config = load_config(["--mode", "policy_gradient", "--config", str(file)])
    assert config.learner["multitask"].settings.update_epochs == 3


def test_overrides_choose_nothing():
    with pytest.raises(UsageError, match="'gru'"):
        precedence.resolve({"policy": ["mlp"]}, overrides={("policy", "gru", "hidden_dim"): 3})
    config = precedence.resolve({"policy": ["gru"]}, overrides={("policy", "gru", "hidden_dim"): 3})
    assert config.policy["gru"].settings.hidden_dim == 3


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete(name):
    assert load_config(["--preset", name]).preset == name
    assert PRESETS[name].keys() == PRESETS["quick"].keys()


def test_presets_grow():
    names = ("smoke", "quick", "standard", "paper")
    budgets = [load_config(["--preset", name]).train.env_steps for name in names]
    assert budgets == sorted(set(budgets))


@pytest.mark.parametrize("name", task_distributions.names())
@pytest.mark.parametrize("preset", PRESETS)
def test_every_distribution_has_a_valid_budget_in_every_preset(name, preset):
    config = load_config(["--task-dist", name, "--preset", preset])
    assert config.train.env_steps > 0


def test_the_variable_of_the_xml_folder_acts_where_it_applies(monkeypatch, tmp_path):
    monkeypatch.setenv("IMUJOCO_XML_DIR", str(tmp_path))
    load_config(["--task-dist", "ant-vel"])
    with pytest.raises(UsageError, match=f"IMUJOCO_XML_DIR: .*{tmp_path}"):
        load_config(["--task-dist", "imujoco-halfcheetah"])
    with pytest.raises(UsageError, match=r"--imujoco-xml: .*/elsewhere"):
        load_config(["--task-dist", "imujoco-halfcheetah", "--imujoco-xml", "/elsewhere"])


def test_a_choice_is_a_name_a_list_or_labels_with_settings():
    assert selection("gru") == {"gru": {"kind": "gru"}}
    assert selection(["gru", "wide=gru"]) == {"gru": {"kind": "gru"}, "wide": {"kind": "gru"}}
    assert selection({"wide": {"kind": "gru", "hidden_dim": 3}, "mlp": None}) == {
        "wide": {"kind": "gru", "hidden_dim": 3},
        "mlp": {"kind": "mlp"},
    }
    for wrong in (3, ["gru", "gru"], [1], {"gru": 3}):
        with pytest.raises(ValueError):  # noqa: PT011 - its message is not the point
            selection(wrong)


def test_every_setting_of_every_component_has_a_docstring():
    from harness.config.components import NAMES, fields, settings_class

    for family, names in NAMES.items():
        for name in names():
            cls = settings_class(family, name)
            assert docs(cls).keys() >= fields(cls).keys(), cls


def test_a_version_of_a_distribution_is_stored_where_there_are_several():
    names = ("ant-mass", "ant-mass@1", "ant-dir@1")
    configs = [load_config(["--task-dist", name, "--policy", "mlp"]) for name in names]
    assert [config.task_dist for config in configs] == ["ant-mass@2", "ant-mass@1", "ant-dir"]
    assert configs[0].cells[0].id == "ant-mass@2.mlp.maml.s0"
    assert [config_from_dict(config_as_dict(config)) for config in configs] == configs
    old = config_as_dict(configs[1]) | {"task_dist": "ant-mass"}  # before there were two
    assert config_from_dict(old) == configs[1]
    with pytest.raises(UsageError, match="--task-dist: ant-mass has no version 9; choose from"):
        load_config(["--task-dist", "ant-mass@9"])
