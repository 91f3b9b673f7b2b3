"""What a sweep file means, cell by cell, and how a bad one is refused: file, line and remedy."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from harness.cli import parser, sweep
from harness.config import precedence, schema, strict_yaml, sweep_file
from harness.config.schema import config_as_dict
from harness.errors import UsageError
from harness.experiments.planning import plan, shared_training, write_cell_config
from harness.meta.learners import traits
from harness.reporting.store.manifest import config_hash

POINT = """
base:
  task_dist: point_goal
  train: {epochs: 3}
"""


def expand(text):
    return sweep_file.expand(strict_yaml.parse(text, "my.yaml"), "my.yaml")


def describe(sweep):
    """The manifest of a run of this sweep."""
    scheduling = TypeAdapter(sweep_file.TuneConfig).dump_python(sweep.tune, mode="json")
    return plan(sweep.cells, ["harness.sweep"], sweep.values, scheduling)


def test_a_grid_is_every_combination_seed_by_seed():
    found = expand(
        POINT + "sweep:\n  policy: [gru, mlp]\n  adapt.inner_lr: [0.1, 0.01]\n  seed: [0, 1]\n"
    ).cells
    assert [planned.key for planned in found] == [
        f"point_goal.{policy}.maml.s{seed}.inner_lr-{rate}"
        for seed in (0, 1)
        for rate in (0.1, 0.01)
        for policy in ("gru", "mlp")
    ]
    assert {planned.config.adapt.inner_lr for planned in found[:2]} == {0.1}
    assert all(len(p.config.policy) == len(p.config.seed) == 1 for p in found)


def test_a_cell_is_what_harness_run_makes_of_the_same_settings():
    text = POINT + "sweep:\n  task_dist: [metaworld-ml10, ant-vel]\n  policy: [gru]\n"
    text = text.replace("  task_dist: point_goal\n", "  preset: smoke\n")
    ml10, ant = (planned.config for planned in expand(text).cells)
    for found, dist in ((ml10, "metaworld-ml10"), (ant, "ant-vel")):
        argv = ["--task-dist", dist, "--preset", "smoke", "--policy", "gru", "--epochs", "3"]
        assert found == parser.load_config(argv)
    assert ml10.evaluation.protocol == "quick", "its own budget of the preset"


def test_what_the_preset_lists_makes_cells_too():
    found = expand("base: {preset: standard, policy: [ssm]}\nsweep: {learner: [maml, rl2]}").cells
    assert [planned.cell.seed for planned in found] == [0, 0, 1, 1, 2, 2]


HALFCHEETAH = "base: {task_dist: halfcheetah, policy: [ssm], learner: [multitask], seed: [1]}\n"
LEFT_TO_DEFAULTS = [
    *expand(POINT + "sweep: {adapt.inner_lr: [1.0e-7]}").cells,
    *expand(HALFCHEETAH).cells,  # zero-shot, with a recipe of its own
    *expand(POINT + "  learner: [rl2]\nsweep: {policy: [gru, transformer]}").cells,
    *expand(POINT + "sweep: {adapt.adapter: [hybrid]}").cells,
]


@pytest.mark.parametrize("planned", LEFT_TO_DEFAULTS)
def test_the_replay_file_makes_the_same_cell_whatever_the_defaults_become(
    planned, tmp_path, monkeypatch
):
    path = tmp_path / "cell.yaml"
    write_cell_config(path, planned.config)
    others = {name: {"ppo": {"ppo_passes": 77}} for name in precedence.PRESETS}
    monkeypatch.setattr(precedence, "PRESETS", others)
    monkeypatch.setattr(precedence, "RECIPES", {})
    monkeypatch.setattr(schema, "REPLAY", dict.fromkeys(schema.REPLAY, 3))
    again = parser.load_config(["--config", str(path)])
    assert config_hash(config_as_dict(again)) == config_hash(config_as_dict(planned.config))
    assert not traits.decided(again), "something is left to the code that reads the file"


def test_the_replay_settings_are_hashed_whether_given_or_not():
    given = POINT + "  adapt: {adapter: hybrid, buffer_size: 10000, experience_batch_size: 32}\n"
    left = POINT + "  adapt: {adapter: hybrid}\n"
    hashes = [
        config_hash(config_as_dict(expand(text + "sweep: {seed: [0]}").cells[0].config))
        for text in (given, left, given.replace("32", "33"))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_sweep_is_not_resumed_where_the_code_has_other_defaults_now(monkeypatch):
    text = POINT + "  learner: [maml, rl2]\nsweep: {policy: [gru, transformer]}"
    before = describe(expand(text))
    before.check_resume(describe(expand(text)))
    monkeypatch.setattr(traits, "CHUNK_STEPS", 77)
    with pytest.raises(ValueError, match=r"1 cells changed \(.*gru.rl2.*chunk_steps: 50 then, 77"):
        before.check_resume(describe(expand(text)))


RANDOM = (
    POINT
    + """
sweep:
  policy: [gru, mlp]
  adapt.inner_lr: {loguniform: [0.001, 1.0]}
  train.outer_lr: {uniform: [0.1, 0.2]}
  train.outer: {choice: [ppo, trpo]}
tune: {num_samples: 40, seed: 7}
"""
)


def test_random_spaces_are_drawn_alike_every_time_and_paired_over_the_grid():
    first, again = expand(RANDOM).cells, expand(RANDOM).cells
    assert [planned.key for planned in first] == [planned.key for planned in again]
    assert len({planned.key for planned in first}) == 80
    rates = {
        p: [c.config.adapt.inner_lr for c in first if c.cell.policy == p] for p in ("gru", "mlp")
    }
    assert rates["gru"] == rates["mlp"], "the policies meet different draws"
    assert 0.001 < min(rates["gru"]) < 0.01 < 0.1 < max(rates["gru"]) < 1.0, "not log-uniform"
    assert abs(np.log10(rates["gru"]).mean() + 1.5) < 0.4
    assert all(0.1 < planned.config.train.outer_lr < 0.2 for planned in first)
    assert {planned.config.train.outer for planned in first} == {"ppo", "trpo"}
    other = expand(RANDOM.replace("seed: 7", "seed: 8")).cells
    assert {c.config.adapt.inner_lr for c in other}.isdisjoint(rates["gru"])
    # A draw belongs to its axis: the others do not shift when one is left out.
    fewer = expand(RANDOM.replace("  train.outer_lr: {uniform: [0.1, 0.2]}\n", "")).cells
    assert [c.config.adapt.inner_lr for c in fewer] == [c.config.adapt.inner_lr for c in first]


BAD = [
    ("", ["my.yaml is empty"]),
    ("# nothing yet", ["my.yaml is empty"]),
    ("base: 0", ["my.yaml:1: base is a section"]),
    ("base: {}\ntune: []", ["my.yaml:2: tune is a section"]),
    ("bases: {}", ["my.yaml:1", "'bases'", "did you mean 'base'?"]),
    ("base: {}\nsweep: {policy: [ssmm]}", ["my.yaml:2: sweep.policy", "did you mean 'ssm'?"]),
    ("sweep:\n  adapt.inner_lrr: [1]", ["my.yaml:2: sweep.adapt.inner_lrr", "'inner_lr'"]),
    ("sweep:\n  inner_lr: [1]", ["my.yaml:2: sweep.inner_lr", "belongs in section adapt"]),
    ("sweep:\n  seed: [0]\n  seed: [1]", ["my.yaml:3", "'seed' is given twice"]),
    ("sweep: {policy: [ssm, ssm]}", ["my.yaml:1: sweep.policy", "twice"]),
    ("sweep: {seed: 3}", ["my.yaml:1: sweep.seed", "got 3", "a list"]),
    ("sweep: {seed: []}", ["my.yaml:1: sweep.seed"]),
    ("sweep: {evaluation.few_shot: [[1], [5]]}", ["my.yaml:1", "no axis", "all numbers of shots"]),
    ("sweep: {evaluation.zero_shot: [true]}", ["my.yaml:1", "no axis"]),
    ("sweep: {execution.num_workers: [1, 2]}", ["my.yaml:1", "no axis"]),
    ("sweep: {preset: [smoke]}", ["my.yaml:1", "no axis"]),
    ("base: {seed: [0]}\nsweep: {seed: [1]}", ["my.yaml:2: sweep.seed", "my.yaml:1", "keep one"]),
    ("base:\n  train: {epochs: -1}", ["my.yaml:2: base.train.epochs", "-1"]),
    ("base:\n  execution: {name: x}", ["my.yaml:2", "checkpoint_every", "name"]),
    ("tune: {max_concurent: 2}", ["my.yaml:1: tune.max_concurent", "max_concurrent"]),
    ("tune: {max_concurrent: 0}", ["my.yaml:1: tune.max_concurrent", "0"]),
    ("tune: {num_samples: 3}", ["my.yaml:1: tune.num_samples", "nothing is drawn"]),
    ("tune: {scheduler: asha}", ["my.yaml:1: tune.scheduler", "grace_env_steps"]),
    ("tune: {reduction_factor: 4}", ["my.yaml:1: tune.reduction_factor", "asha"]),
    (
        "sweep: {task_dist: [ant-vel, ant-dir], policy: [gru]}\n"
        "tune: {scheduler: asha, grace_env_steps: 5}",
        ["ant-dir, ant-vel", "no common scale"],
    ),
    ("sweep: {adapt.inner_lr: {loguniform: [0, 1]}}", ["my.yaml:1", "above 0"]),
    ("sweep: {adapt.inner_lr: {uniform: [2, 1]}}", ["my.yaml:1", "smaller one first"]),
    ("sweep: {adapt.inner_lr: {normal: [0, 1]}}", ["my.yaml:1", "loguniform"]),
    ("sweep: {adapt.inner_lr: {uniform: [a, b]}}", ["my.yaml:1", "uniform"]),
    ("sweep: {adapt.inner_lr: [0.1, 1.0e-1]}", ["two cells are the same experiment"]),
    ("sweep: {adapt.adapter: [memory]}", ["my.yaml:1: sweep.adapt.adapter", "rl2"]),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[text.replace("\n", " ") for text, _ in BAD])
def test_a_bad_file_is_refused_with_its_line(text, said):
    with pytest.raises(UsageError) as refused:
        expand(text)
    for part in said:
        assert part in str(refused.value)


def test_finetune_shares_a_training_and_each_table_has_reference_lines():
    text = POINT + (
        "sweep:\n  policy: [gru]\n  learner: [finetune, multitask]\n"
        "  train.gamma: [0.9, 0.99]\n  env.horizon: [8, 9]\n"
    )
    planned = {cell.key: cell for cell in expand(text).cells}
    assert shared_training(planned) == {
        key: key.replace("finetune", "multitask") for key in planned if "finetune" in key
    }
    references = describe(expand(text)).references
    assert list(references) == [f"point_goal.reference.s0.horizon-{n}" for n in (8, 9)]
    assert [info.config["env"]["horizon"] for info in references.values()] == [8, 9]


def test_the_hash_is_of_what_changes_numbers():
    base = describe(expand(RANDOM)).config_hash
    same = RANDOM.replace("epochs: 3", "epochs: 3}\n  execution: {checkpoint_every: 2")
    assert (
        describe(expand(same.replace("seed: 7", "seed: 7, max_concurrent: 1"))).config_hash == base
    )
    for old, new in (("seed: 7", "seed: 8"), ("epochs: 3", "epochs: 4"), ("[gru, mlp]", "[gru]")):
        assert describe(expand(RANDOM.replace(old, new))).config_hash != base
    asha = RANDOM.replace("seed: 7", "seed: 7, scheduler: asha, grace_env_steps: 9")
    assert describe(expand(asha)).config_hash != base


@pytest.mark.parametrize("path", sorted(Path("tune_configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_that_is_shipped_can_start(path, capsys):
    assert sweep.main([str(path), "--dry-run"]) == 0
    keys = capsys.readouterr().out.split()
    assert len(keys) == len(set(keys)) > 1


def test_what_can_never_be_scheduled_is_refused_before_anything_is_made(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(POINT + "tune: {workers_per_cell: 4000}")
    assert sweep.main(["x.yaml"]) == 2
    assert "a cell needs 4000 CPUs, this machine has" in capsys.readouterr().err
    for argv in (["x.yaml", "--resume"], ["x.yaml", "--name", "../x"], ["nowhere.yaml"]):
        Path("x.yaml").write_text(POINT)
        assert sweep.main(argv) == 2
    assert not Path("results").exists()
