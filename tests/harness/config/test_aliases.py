"""Every other name for a flag or a value changes the configuration as its own name does."""

import pytest

from harness.cli import commands, flags
from harness.cli.parser import load_config, parse
from harness.config.adapt import AdaptCommandConfig
from harness.config.schema import EvalConfig, RunConfig, TrainConfig

SAME = [
    (["--env", "CartPole-v1"], ["--task-dist", "cartpole"]),
    (["--env_name", "HalfCheetah-v5"], ["--task-dist", "halfcheetah"]),
    (["--task", "ant-vel"], ["--task-dist", "ant-vel"]),
    (["--num_epochs", "20"], ["--epochs", "20"]),
    (["--outer-steps", "7"], ["--epochs", "7"]),
    (["--tasks-per-batch", "8"], ["--meta-batch-size", "8"]),
    (["--tasks_per_epoch", "5"], ["--meta-batch-size", "5"]),
    (["--method", "ssm"], ["--policy", "ssm"]),
    (["--lr", "3e-4"], ["--outer-lr", "3e-4", "--ppo-lr", "3e-4"]),
    (["--benchmark-mode"], []),
    (["--adaptation_mode", "standard"], ["--adapter", "gradient"]),
    (["--adaptation-mode", "hybrid"], ["--adapter", "hybrid"]),
    (["--mode", "meta_rl"], ["--policy", "ssm", "--learner", "maml"]),
    (["--episodes", "850"], ["--epochs", "3"]),  # quick takes 20 tasks x 10 episodes x 2
    (["--mode", "improved", "--episodes", "300"], ["--mode", "improved", "--epochs", "15"]),
]


@pytest.mark.parametrize(("argv", "plain"), SAME, ids=[" ".join(argv) for argv, _ in SAME])
def test_a_spelling_acts_as_what_it_stands_for(argv, plain):
    assert load_config(argv) == load_config(plain)
    assert argv == ["--benchmark-mode"] or load_config(argv) != load_config([])


def test_the_recipe_of_an_environment_is_found_under_its_other_name():
    assert load_config(["--env", "HalfCheetah-v5"]).ppo.ppo_episodes == 16


def test_a_mode_lies_below_flags_and_files(tmp_path):
    config = load_config(["--mode", "policy_gradient", "--policy", "gru"])
    assert (config.policy, config.learner, config.ppo.ppo_passes) == (("gru",), ("multitask",), 1)
    file = tmp_path / "a.yaml"
    file.write_text("ppo: {ppo_passes: 3}\n")
    assert load_config(["--mode", "policy_gradient", "--config", str(file)]).ppo.ppo_passes == 3


def test_train_is_a_run_of_one_policy_whose_checkpoints_are_easily_found(tmp_path):
    config = parse(["train", "--config", "basic", "--outer-steps", "100", "--seed", "3"]).config
    assert (config.policy, config.task_dist, config.seed) == (("ssm",), "point_goal", (3,))
    assert (config.train.epochs, config.train.meta_batch_size, config.env.horizon) == (100, 8, 200)
    assert config.execution.ckpt_dir.name == "checkpoints"
    there = parse(["train", "--ckpt-dir", str(tmp_path)]).config
    assert there.execution.ckpt_dir == tmp_path
    assert load_config([]).execution.ckpt_dir is None


def test_eval_scores_without_adaptation_unless_shots_are_asked_for(tmp_path):
    stored = RunConfig(evaluation=EvalConfig(few_shot=(9,)))
    base = ["--checkpoint", str(tmp_path), "--episodes", "50"]
    scored = parse(["eval", *base]).config.applied_to(stored).evaluation
    assert (scored.shots, scored.query_episodes) == ((0,), 50)
    assert parse(["eval", *base, "--few-shot", "2"]).config.applied_to(stored).evaluation.shots == (
        0,
        2,
    )
    assert parse(["evaluate", *base]).config.applied_to(stored).evaluation.shots == (0, 9)


def test_a_file_gives_scoring_its_evaluation_and_names_its_distribution(tmp_path):
    given = ["--checkpoint", str(tmp_path), "--config", "basic"]
    config = parse(["eval", *given]).config
    assert (config.task_dist, config.few_shot) == ("point_goal", (5,))
    assert parse(["adapt", *given]).config.adapt_steps == 5
    config = parse(["adapt", *given, "--adapt-steps", "10", "--online"]).config
    assert isinstance(config, AdaptCommandConfig)
    assert (config.adapt_steps, config.online) == (10, True)


@pytest.mark.parametrize(
    ("learner", "adapter"), [("maml", "gradient"), ("rl2", "memory"), ("multitask", "gradient")]
)
def test_to_adapt_takes_what_the_learner_trained_for_or_a_gradient(tmp_path, learner, adapter):
    config = parse(["adapt", "--checkpoint", str(tmp_path), "--adapt-steps", "3"]).config
    resolved = config.applied_to(RunConfig(learner=(learner,)))
    assert (resolved.evaluation.shots, resolved.adapt.adapter) == ((0, 3), adapter)


def test_yaml_keeps_the_name_of_the_setting_whose_flag_has_another(tmp_path):
    assert load_config(["--outer-updates", "2"]).train == load_config([]).train.__class__(
        **{**vars(load_config([]).train), "outer_steps": 2}
    )
    assert flags.paths(commands.TRAIN)["--outer-steps"] == ("train", "epochs")
    file = tmp_path / "a.yaml"
    file.write_text("train: {outer_steps: 2}\n")
    assert load_config(["--config", str(file)]).train.outer_steps == 2
    assert TrainConfig().outer_steps != 2
