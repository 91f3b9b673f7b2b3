"""Sweep files, cell by cell, and how a bad one is refused: file and line."""

from pathlib import Path

import numpy as np
import pytest

from harness.cli import sweep
from harness.cli.parser import load_config
from harness.config import precedence, strict_yaml, sweep_file
from harness.config.schema import config_as_dict
from harness.errors import UsageError
from harness.experiments.planning import recorded, write_cell_config
from harness.reporting.store.files import NAME
from harness.reporting.store.manifest import config_hash

POINT = """
base:
  task_dist: point_goal
  train: {meta_iterations: 3}
"""


def expand(text):
    return sweep_file.expand(strict_yaml.parse(text, "my.yaml"), "my.yaml")


def inner_lr(planned):
    return planned.config.learner["maml"].settings.inner_lr


def test_a_grid_is_every_combination_seed_by_seed():
    found = expand(
        POINT
        + "sweep:\n  policy: [gru, mlp]\n  learner.maml.inner_lr: [0.1, 0.01]\n  seed: [0, 1]\n"
    ).cells
    assert [planned.key for planned in found] == [
        f"point_goal.{policy}.maml.s{seed}.inner_lr-{rate}"
        for seed in (0, 1)
        for rate in (0.1, 0.01)
        for policy in ("gru", "mlp")
    ]
    assert {inner_lr(planned) for planned in found[:2]} == {0.1}
    assert all(len(p.config.policy) == len(p.config.seed) == 1 for p in found)


def test_an_axis_of_one_component_multiplies_its_own_cells_alone():
    found = expand(
        POINT + "sweep:\n  policy: [gru, mlp]\n  policy.gru.hidden_dim: [8, 16, 32]\n"
    ).cells
    keys = [planned.key for planned in found]
    assert sorted(keys) == [
        *(f"point_goal.gru.maml.s0.hidden_dim-{width}" for width in (16, 32, 8)),
        "point_goal.mlp.maml.s0",
    ]


def test_several_grids_are_united():
    grids = "sweep:\n- policy: [gru]\n  learner: [rl2]\n- policy: [mlp]\n  learner: [{}]\n"
    found = expand(POINT + grids.format("multitask, oracle")).cells
    assert [planned.key for planned in found] == [
        "point_goal.gru.rl2.s0",
        "point_goal.mlp.multitask.s0",
        "point_goal.mlp.oracle.s0",
    ]
    again = grids.format("multitask") + "- policy: [gru, mlp]\n  learner: [oracle, multitask]\n"
    with pytest.raises(UsageError, match=r"mlp\.multitask"):
        expand(POINT + again)


def test_a_cell_is_what_harness_run_makes_of_the_same_settings():
    text = POINT + "sweep:\n  task_dist: [metaworld-ml10, ant-vel]\n  policy: [gru]\n"
    text = text.replace("  task_dist: point_goal\n", "  preset: smoke\n")
    ml10, ant = (planned.config for planned in expand(text).cells)
    for found, dist in ((ml10, "metaworld-ml10"), (ant, "ant-vel")):
        argv = ["--task-dist", dist, "--preset", "smoke", "--policy", "gru", "--epochs", "3"]
        assert found == load_config(argv)
    assert ml10.evaluation.protocol == "quick", "its own budget of the preset"


def test_lists_of_the_preset_make_cells_too():
    found = expand("base: {preset: standard, policy: [ssm]}\nsweep: {learner: [maml, rl2]}").cells
    assert [planned.cell.seed for planned in found] == [0, 0, 1, 1, 2, 2]


HALFCHEETAH = "base: {task_dist: halfcheetah, policy: [ssm], learner: [multitask], seed: [1]}\n"
LEFT_TO_DEFAULTS = [
    POINT + "sweep: {learner.maml.inner_lr: [1.0e-7]}",
    HALFCHEETAH,  # zero-shot, with a recipe of its own
    POINT + "  learner: [rl2]\nsweep: {policy: [gru, transformer]}",
    POINT + "sweep: {adapter: [hybrid]}",
]


@pytest.mark.parametrize("text", LEFT_TO_DEFAULTS)
def test_the_settings_of_a_cell_make_it_again_whatever_the_presets_become(
    text, tmp_path, monkeypatch
):
    planned = expand(text).cells[-1]
    assert precedence.resolve(planned.given) == planned.config
    path = tmp_path / "cell.yaml"
    write_cell_config(path, planned.config)
    monkeypatch.setattr(precedence, "PRESETS", {})
    again = load_config(["--config", str(path)])
    then = config_as_dict(recorded(planned.config))
    assert config_hash(config_as_dict(again)) == config_hash(then)


RANDOM = (
    POINT
    + """
sweep:
  policy: [gru, mlp]
  learner.maml.inner_lr: {loguniform: [0.001, 1.0]}
  learner.maml.gamma: {uniform: [0.1, 0.2]}
  learner.maml.outer: {choice: [ppo, trpo]}
tune: {num_samples: 40, seed: 7}
"""
)


def test_random_spaces_are_drawn_alike_every_time_and_paired_over_the_grid():
    first, again = expand(RANDOM).cells, expand(RANDOM).cells
    assert [planned.key for planned in first] == [planned.key for planned in again]
    assert len({planned.key for planned in first}) == 80
    rates = {p: [inner_lr(c) for c in first if c.cell.policy == p] for p in ("gru", "mlp")}
    assert rates["gru"] == rates["mlp"], "the policies meet different draws"
    assert 0.001 < min(rates["gru"]) < 0.01 < 0.1 < max(rates["gru"]) < 1.0, "not log-uniform"
    assert abs(np.log10(rates["gru"]).mean() + 1.5) < 0.4
    maml = [planned.config.learner["maml"].settings for planned in first]
    assert all(0.1 < settings.gamma < 0.2 for settings in maml)
    assert {settings.outer for settings in maml} == {"ppo", "trpo"}
    other = expand(RANDOM.replace("seed: 7", "seed: 8")).cells
    assert {inner_lr(c) for c in other}.isdisjoint(rates["gru"])
    # A draw belongs to its axis: the others do not shift when one is left out.
    fewer = expand(RANDOM.replace("  learner.maml.gamma: {uniform: [0.1, 0.2]}\n", "")).cells
    assert [inner_lr(c) for c in fewer] == [inner_lr(c) for c in first]


BAD = [
    ("", ["my.yaml"]),
    ("# nothing yet", ["my.yaml"]),
    ("base: 0", ["my.yaml:1: base"]),
    ("base: {}\ntune: []", ["my.yaml:2: tune"]),
    ("bases: {}", ["my.yaml:1", "'bases'", "'base'"]),
    ("base: {}\nsweep: {policy: [ssmm]}", ["my.yaml:2: sweep.policy", "'ssm'"]),
    ("sweep:\n  learner.maml.inner_lrr: [1]", ["my.yaml:2: sweep.learner.maml.inner_lrr"]),
    ("sweep:\n  learner.rl2.clip: [1]", ["my.yaml:2: sweep.learner.rl2.clip", "maml"]),
    ("sweep:\n  inner_lr: [1]", ["my.yaml:2: sweep.inner_lr", "maml"]),
    ("sweep:\n  seed: [0]\n  seed: [1]", ["my.yaml:3", "'seed'"]),
    ("sweep: {policy: [ssm, ssm]}", ["my.yaml:1: sweep.policy", "twice"]),
    ("sweep: {seed: 3}", ["my.yaml:1: sweep.seed", "3"]),
    ("sweep: {seed: []}", ["my.yaml:1: sweep.seed"]),
    ("sweep: {evaluation.few_shot: [[1], [5]]}", ["my.yaml:1", "few_shot"]),
    ("sweep: {evaluation.zero_shot: [true]}", ["my.yaml:1", "zero_shot"]),
    ("sweep: {execution.num_workers: [1, 2]}", ["my.yaml:1", "execution"]),
    ("sweep: {preset: [smoke]}", ["my.yaml:1", "preset"]),
    ("base: {seed: [0]}\nsweep: {seed: [1]}", ["my.yaml:2: sweep.seed", "my.yaml:1"]),
    ("base:\n  train: {meta_iterations: -1}", ["my.yaml:2: base.train.meta_iterations", "-1"]),
    ("base:\n  execution: {name: x}", ["my.yaml:2", "checkpoint_every", "name"]),
    ("tune: {max_concurent: 2}", ["my.yaml:1: tune.max_concurent", "max_concurrent"]),
    ("tune: {max_concurrent: 0}", ["my.yaml:1: tune.max_concurrent", "0"]),
    ("tune: {num_samples: 3}", ["my.yaml:1: tune.num_samples"]),
    ("tune: {scheduler: asha}", ["my.yaml:1: tune.scheduler", "grace_env_steps"]),
    ("tune: {reduction_factor: 4}", ["my.yaml:1: tune.reduction_factor", "asha"]),
    (
        "sweep: {task_dist: [ant-vel, ant-dir], policy: [gru]}\n"
        "tune: {scheduler: asha, grace_env_steps: 5}",
        ["ant-dir, ant-vel"],
    ),
    ("sweep: {learner.maml.inner_lr: {loguniform: [0, 1]}}", ["my.yaml:1"]),
    ("sweep: {learner.maml.inner_lr: {uniform: [2, 1]}}", ["my.yaml:1"]),
    ("sweep: {learner.maml.inner_lr: {normal: [0, 1]}}", ["my.yaml:1", "loguniform"]),
    ("sweep: {learner.maml.inner_lr: {uniform: [a, b]}}", ["my.yaml:1", "uniform"]),
    ("sweep: {learner.maml.inner_lr: [0.1, 1.0e-1]}", ["same experiment"]),
    ("sweep: {task_dist.horizon: [5]}", ["my.yaml:1: sweep.task_dist.horizon"]),
    ("sweep: {adapter.kind.x: [5]}", ["my.yaml:1: sweep.adapter.kind.x"]),
    ("base: {policy: {gru: {kind: [x]}}}", ["my.yaml:1", "['x']"]),
    (
        "sweep:\n  learner.maml.inner_lr: [1.0e+400]",
        ["my.yaml:2", "inner_lr", "inf"],
    ),
    ("base: {seed: [9223372036854775808]}", ["my.yaml:1: base.seed"]),
    ("base: {match_params: 1.0e+30}", ["my.yaml:1: base.match_params"]),
    ("base: {policy: {a-b: {kind: mlp}, a_b: {kind: mlp}}}", ["label", "a-b"]),
    ("base: {learner: {agent: {kind: maml}}}", ["'agent'"]),
    ("base: {learner: {reference: {kind: maml}}}", ["'reference'"]),
    ("sweep: {adapter: [memory]}", ["my.yaml:1: sweep.adapter", "maml"]),
    ("sweep: {task_dist: [cartpole], learner: [rsac]}", ["rsac", "cartpole", "discrete"]),
]


@pytest.mark.parametrize(("text", "named"), BAD, ids=[text.replace("\n", " ") for text, _ in BAD])
def test_a_bad_file_is_refused_with_its_line(text, named):
    with pytest.raises(UsageError) as refused:
        expand(text)
    for part in named:
        assert part in str(refused.value)


@pytest.mark.parametrize("path", sorted(Path("tune_configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_that_is_shipped_can_start(path, capsys):
    assert sweep.main([str(path), "--dry-run"]) == 0
    keys = capsys.readouterr().out.split()
    assert len(keys) == len(set(keys)) > 1


def test_asha_has_validation_tasks_scored_at_every_rung(tmp_path):
    text = "base: {task_dist: point_goal, policy: [mlp]}\ntune: {scheduler: asha, grace_env_steps: "
    file = tmp_path / "my.yaml"
    file.write_text(f"{text}5k}}\n")
    sweep = sweep_file.load(file)
    assert sweep.tune.metric == "validation_return"
    assert [planned.config.execution.eval_every for planned in sweep.cells] == [5000]
    file.write_text(f"{text}5k, metric: post_return}}\n")
    assert [cell.config.execution.eval_every for cell in sweep_file.load(file).cells] == ["auto"]


def test_keys_of_long_labels_fit_into_names_of_folders():
    policy, learner = "p" * 48, "l" * 48
    text = f"""
base:
  task_dist: halfcheetah-vel-switch
  policy: {{{policy}: {{kind: gru}}}}
  learner: {{{learner}: {{kind: rl2}}}}
sweep:
  learner.{learner}.gamma: [0.9, 0.95]
"""
    found = sweep_file.expand(strict_yaml.parse(text, "f"), "f").cells
    keys = {cell.key for cell in found}
    assert len(keys) == 2
    assert max(map(len, keys)) <= 128
    assert all(NAME.fullmatch(key) for key in keys)
