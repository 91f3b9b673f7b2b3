"""The command line: what it accepts, what it refuses, and with which exit code."""

import dataclasses
import subprocess
import sys

import pytest

from harness.cli import main as metarl
from harness.cli import parser, run
from harness.cli.parser import load_config, parse
from harness.config.scoring import AdaptConfig, EvaluateConfig
from harness.config.sweep_file import planned_cells
from harness.errors import UsageError
from harness.meta.rollouts.inputs import Goals
from harness.reporting.store.files import safe_name

REFUSED = [
    # argv, and values that the message must name
    (["--policy", "ssmm"], ["--policy", "ssmm", "'ssm'"]),
    (["--method", "SSM"], ["--method", "'ssm'"]),
    (["--task-dist", "ant-vell"], ["--task-dist", "'ant-vel'"]),
    (["--env", "YourEnv-v0"], ["--env", "YourEnv-v0", "halfcheetah"]),
    (["--learner", "mamll"], ["--learner", "'maml'"]),
    (["--policy", "ssm", "gru", "ssm"], ["--policy", "'ssm'"]),
    (["--policy", "a.b=gru"], ["--policy", "a.b"]),
    (["--policy", "rl2=gru", "--learner", "rl2"], ["rl2"]),
    (["--seeds", "1", "1"], ["--seeds", "1"]),
    (["--seed"], ["--seed"]),
    (["--seed", "0", "--seeds", "1"], ["--seeds", "--seed"]),
    (["--few-shot", "1", "--zero-shot"], ["--few-shot", "--zero-shot"]),
    (
        ["--policy", "transformer", "--learner", "rl2", "--rl2.burn-in", "10"],
        ["--rl2.burn-in", "whole sequences"],
    ),
    (["--backend", "local", "--job-timeout", "5"], ["--job-timeout"]),
    (["--few-shot", "-1"], ["--few-shot", "-1"]),
    (["--few-shot", "1,5"], ["--few-shot", "1,5"]),
    (["--epochs", "-3"], ["--epochs", "-3"]),
    (["--epochs", "many"], ["--epochs", "many"]),
    (["--epochs", "3", "--env-steps", "5M"], ["--epochs", "--env-steps"]),
    (["--outer-steps", "9", "--epochs", "2"], ["--outer-steps", "--epochs"]),
    (["--env-steps", "5X"], ["--env-steps", "5X"]),
    (["--lr", "nan"], ["--lr", "nan"]),
    (["--lr", "inf"], ["--lr", "inf"]),
    (["--lr", "-1"], ["--lr", "-1"]),
    (["--lr", "1e-3", "--maml.learning-rate", "1e-3"], ["--lr", "--maml.learning-rate"]),
    (["--lr", "1e-3", "--outer", "trpo"], ["--lr", "trpo"]),
    (["--maml.outer", "trpo", "--maml.baseline", "value"], ["baseline", "trpo"]),
    (["--preset", "fast"], ["--preset", "fast", "smoke"]),
    (["--epochz", "3"], ["--epochz", "'--epochs'"]),
    (["--device", "cuda"], ["--device"]),
    (["stray"], ["stray"]),
    (["--name", "../../x"], ["--name", "../../x"]),
    (["--name", "published"], ["--name", "published"]),
    (["--resume", "../x"], ["--resume", "../x"]),
    (["--resume", "a", "--inner-lr", "3"], ["--inner-lr", "--resume a"]),
    (["--resume", "a", "--epochs", "3", "--env-steps", "9"], ["--epochs", "--env-steps"]),
    (["--resume", "a", "--seeds", "x"], ["--seeds"]),
    (["--address", "auto", "--backend", "local"], ["--address", "auto"]),
    (["--backend", "local", "--num-workers", "2"], ["--num-workers", "local"]),
    (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
    (["--mode", "magic"], ["--mode", "magic", "policy_gradient"]),
    (["--episodes", "9"], ["--episodes", "--env-steps", "--query-episodes"]),
    (["--mode", "improved", "--episodes", "0"], ["--episodes", "0"]),
    (["--mode", "improved", "--episodes", "9", "--num-epochs", "2"], ["--episodes"]),
    (["--task-dist", "point_goal", "--test-tasks", "0", "100000"], ["--test-tasks", "100000"]),
    (["--task-dist", "point_goal", "--train-tasks", "0", "0"], ["--train-tasks", "0"]),
    (["--reward-version", "v1"], ["--reward-version", "halfcheetah-vel", "metaworld-ml10"]),
    (["--task-dist", "ant-vel", "--imujoco-xml", "x"], ["--imujoco-xml", "ant-vel"]),
    (["--no-benchmark-mode"], ["--no-benchmark-mode"]),
    # settings of something that was not chosen, or without effect
    (["--learner", "rl2", "--maml.inner-lr", "3"], ["--maml.inner-lr", "'maml'"]),
    (["--learner", "rl2", "--inner-lr", "3"], ["--inner-lr", "maml"]),
    (["--learner", "rl2", "--rl2.first-order"], ["--rl2.first-order", "first_order", "maml"]),
    (["--learner", "rl2", "--adaptation-steps", "7"], ["--adaptation-steps", "maml"]),
    (["--learner", "maml", "--minibatches", "3"], ["--minibatches", "rl2"]),
    (["--task-dist", "cartpole", "--maml.action-scale", "1"], ["--maml.action-scale", "discrete"]),
    (["--gru.hidden-dimm", "3"], ["--gru.hidden-dimm", "hidden_dim"]),
    (["--buffer_size", "5000"], ["--buffer-size", "hybrid"]),
    (["--zero-shot", "--episodes-per-shot", "4"], ["--episodes-per-shot", "zero_shot"]),
    (["--policy", "gru", "--match-params", "9k", "--hidden-dim", "3"], ["--match-params"]),
    (["--match-params", "10", "--policy", "gru"], ["--match-params", "gru"]),
    # adapters
    (["--learner", "rl2", "--adapter", "gradient"], ["--adapter", "gradient", "rl2", "memory"]),
    (["--learner", "maml", "--adapter", "memory"], ["--adapter", "memory", "maml"]),
    (["--learner", "rl2", "--adapter", "memory+gradient"], ["--adapter", "rl2"]),
    (["--learner", "maml", "--adapter", "ppo"], ["--adapter", "ppo", "maml"]),
    (
        ["--learner", "finetune", "--adapter", "gradient", "--adapt-epochs", "3"],
        ["--adapt-epochs", "--adapter gradient"],
    ),
    (
        ["--learner", "finetune", "--adapter", "ppo", "--finetune.adapt-epochs", "3"],
        ["--finetune.adapt-epochs", "--ppo.adapt-epochs"],
    ),
    (["--adaptation-mode", "hybrid", "--learner", "rl2"], ["--adaptation-mode", "hybrid"]),
    (["--adaptation_mode", "both"], ["--adaptation-mode", "both", "standard"]),
    (["--adaptation-mode", "hybrid", "--adapter", "none"], ["--adaptation-mode", "--adapter"]),
    (
        ["--adapter", "memory+gradient", "--query-episodes", "9", "--episodes-per-shot", "8"],
        ["--query-episodes", "8"],
    ),
    (["--learner", "rl2", "--episodes-in-context", "200"], ["episodes_in_context", "200"]),
    (
        ["--learner", "rl2", "--rl2.baseline", "linear", "--rl2.value-coef", "1"],
        ["--rl2.value-coef", "linear"],
    ),
    (
        ["--learner", "rl2", "--rl2.baseline", "linear", "--rl2.task-critic"],
        ["task_critic", "linear"],
    ),
    # other commands
    (["evalute"], ["evalute", "'evaluate'"]),
    (["evaluate"], ["--checkpoint"]),
    (["evaluate", "--checkpoint", "nowhere"], ["--checkpoint", "nowhere"]),
    (["evaluate", "--checkpoint", ".", "--few-shot", "1", "--zero-shot"], ["--zero-shot"]),
    (["evaluate", "--resume", "x"], ["--resume"]),
    (["eval", "--checkpoint", ".", "--env", "x"], ["--env", "x"]),
    (["adapt", "--checkpoint", ".", "--adapt-every", "5"], ["--adapt-every", "--online"]),
    (["adapt", "--checkpoint", ".", "--online", "--adapter", "memory"], ["--adapter"]),
    (["adapt", "--checkpoint", ".", "--adapt-steps", "0"], ["--adapt-steps", "0"]),
    (["export", "--checkpoint", "x", "--to", "a.pt"], ["--to", "a.pt"]),
    (["export", "--checkpoint", "x"], ["--to"]),
]


def test_tasks_without_parameters_cannot_be_predicted(monkeypatch):
    monkeypatch.setattr(Goals, "dim", 0)
    with pytest.raises(UsageError, match="task-coef"):
        load_config(["--learner", "rl2", "--rl2.task-coef", "1"])


@pytest.mark.parametrize(("argv", "named"), REFUSED, ids=[" ".join(argv) for argv, _ in REFUSED])
def test_bad_input_exits_with_2_and_names_what_is_wrong(argv, named, capsys):
    assert run.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for part in named:
        assert part in err


@pytest.mark.parametrize(
    ("argv", "other"),
    [
        (["--task_dist=ant-vel", "--method", "ssm"], ["--task-dist", "ant-vel", "--policy", "ssm"]),
        (["--env_name", "HalfCheetah-v5"], ["--task-dist", "halfcheetah"]),
        (["--env", "CartPole-v1"], ["--task-dist", "cartpole"]),
        (["--num_epochs", "20"], ["--meta-iterations", "20"]),
        (["--outer-steps", "7"], ["--epochs", "7"]),
        (["--tasks-per-batch", "8"], ["--maml.meta-batch-size", "8"]),
        (["--tasks_per_epoch", "7"], ["--meta-batch-size", "7"]),
        (["--lr", "3e-4"], ["--maml.learning-rate", "3e-4"]),
        (["--env-steps", "2.5M"], ["--env-steps", "2500000"]),
        (["--adaptation_mode", "standard"], ["--adapter", "gradient"]),
        (["--adaptation-mode", "hybrid"], ["--adapter", "hybrid"]),
        (["--mode", "meta_rl"], ["--policy", "ssm", "--learner", "maml"]),
        (["--mode", "improved", "--episodes", "300"], ["--mode", "improved", "--env-steps", "60k"]),
        (
            ["--mode", "improved", "--episodes", "300", "--horizon", "9"],
            ["--mode", "improved", "--env-steps", "2700", "--horizon", "9"],
        ),
    ],
)
def test_alternative_spellings_mean_the_same(argv, other):
    assert load_config(argv) == load_config(other)
    assert load_config(argv) != load_config([])


def test_a_setting_without_a_label_reaches_every_component_that_has_it():
    config = load_config(
        [
            *("--policy", "gru", "mlp", "--learner", "maml", "rl2", "--gamma", "0.5"),
            *("--rl2.clip", "0.1"),
        ]
    )
    assert [part.settings.gamma for part in config.learner.values()] == [0.5, 0.5]
    assert [part.settings.clip for part in config.learner.values()] == [0.3, 0.1]


def test_every_label_names_a_folder(tmp_path):
    config = load_config(["--policy", "a+b=mlp"])
    for cell in config.cells:
        assert safe_name(cell.id, "cell") == cell.id
    source = "from task_distributions.point_goal import point_goal as build"
    (tmp_path / "задачи.py").write_text(source)
    long = load_config(["--policy", f"{'p' * 50}=mlp", "--learner", f"{'l' * 50}=maml"])
    with pytest.raises(UsageError, match="shorter labels"):
        planned_cells(dataclasses.replace(long, task_dist=f"{'d' * 50}=point_goal"), {})
    with pytest.raises(UsageError, match="LABEL=NAME"):
        load_config(["--task-dist", f"{tmp_path}/задачи.py:build"])


def test_labels_make_variants_of_one_policy():
    config = load_config(["--policy", "gru", "wide=gru", "--wide.hidden-dim", "128"])
    assert {label: part.kind for label, part in config.policy.items()} == {
        "gru": "gru",
        "wide": "gru",
    }
    assert [part.settings.hidden_dim for part in config.policy.values()] == [64, 128]


def test_match_params_makes_policies_of_equal_size():
    import policies
    from policies.params import num_params

    config = load_config(["--policy", *policies.names(), "--match-params", "100k"])
    for part in config.policy.values():
        policy = policies.build(part.kind, obs_dim=17, action_dim=6, settings=part.settings)
        assert 90_000 < num_params(policy.init_params(0)) < 110_000


@pytest.mark.parametrize(
    "argv",
    [
        ["--policy", "gru", "wide=gru", "--wide.hidden-dim", "128", "--learner", "rl2"],
        ["--mode", "policy_gradient", "--env", "CartPole-v1", "--episodes", "200"],
        ["--config", "basic", "--gamma", "0.5"],
        ["--adapter", "hybrid", "--hybrid.buffer-size", "3", "--epochs", "4"],
        ["--preset", "smoke", "--task-dist", "metaworld-ml10", "--reward-version", "v1"],
    ],
)
def test_what_was_given_makes_the_same_configuration_again(argv):
    from harness.config import precedence

    request = parser.parse_run(argv)
    assert precedence.resolve(request.given) == request.config


def test_resume_needs_a_name_alone_and_takes_settings_of_where_it_runs():
    assert parse(["--resume", "a"]) == parser.Resume("a", {}, {})
    assert parse(["--resume", "a", "--backend", "local"]).execution == {"backend": "local"}
    more = parse(["--resume", "a", "--seeds", "1", "2", "--env-steps", "5M"]).more
    assert more == {"seed": [1, 2], "train": {"env_steps": 5_000_000, "meta_iterations": None}}


def test_evaluate_leaves_open_what_is_not_given(tmp_path):
    config = parse(["evaluate", "--checkpoint", str(tmp_path), "--no-deterministic"])
    assert isinstance(config, EvaluateConfig)
    assert (config.few_shot, config.zero_shot, config.query_episodes) == (None, None, None)
    assert config.deterministic is False


def test_eval_scores_without_adaptation_unless_shots_are_asked_for(tmp_path):
    stored = load_config(["--few-shot", "9"])
    base = ["--checkpoint", str(tmp_path), "--episodes", "50"]
    scored = parse(["eval", *base]).applied_to(stored).evaluation
    assert (scored.shots, scored.query_episodes) == ((0,), 50)
    asked = parse(["eval", *base, "--few-shot", "2"]).applied_to(stored).evaluation
    assert asked.shots == (0, 2)
    assert parse(["evaluate", *base]).applied_to(stored).evaluation.shots == (0, 9)


def test_a_file_gives_scoring_its_evaluation_and_names_its_distribution(tmp_path):
    given = ["--checkpoint", str(tmp_path), "--config", "basic"]
    config = parse(["eval", *given])
    assert (config.task_dist, config.few_shot) == ("point_goal", (5,))
    assert parse(["adapt", *given]).adapt_steps == 5
    online = parse(["adapt", *given, "--adapt-steps", "10", "--online"])
    assert isinstance(online, AdaptConfig)
    assert (online.adapt_steps, online.online) == (10, True)


@pytest.mark.parametrize(
    ("learner", "adapter"),
    [("maml", "gradient"), ("rl2", "memory"), ("multitask", "gradient"), ("finetune", "ppo")],
)
def test_adapt_uses_the_adapter_of_the_learner_or_a_gradient(tmp_path, learner, adapter):
    config = parse(["adapt", "--checkpoint", str(tmp_path), "--adapt-steps", "3"])
    resolved = config.applied_to(load_config(["--learner", learner]))
    assert (resolved.evaluation.shots, resolved.adapter.kind) == ((0, 3), adapter)


def test_train_is_a_run_of_one_policy_with_checkpoints_in_a_plain_folder(tmp_path):
    config = parse(["train", "--config", "basic", "--outer-steps", "100", "--seed", "3"]).config
    assert (list(config.policy), config.task_dist, config.seed) == (["ssm"], "point_goal", (3,))
    assert (config.train.meta_iterations, config.env.horizon) == (100, 200)
    assert config.learner["maml"].settings.meta_batch_size == 8
    assert config.execution.ckpt_dir.name == "checkpoints"
    assert parse(["train", "--ckpt-dir", str(tmp_path)]).config.execution.ckpt_dir == tmp_path
    assert load_config([]).execution.ckpt_dir is None


@pytest.mark.parametrize("command", [[], ["evaluate"], ["adapt"], ["export"]])
def test_help_fits_its_terminal_and_begins_with_examples(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    assert run.main([*command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert max(len(line) for line in lines if line.startswith("  --")) <= 90
    assert lines[2] == "examples:"


def test_help_lists_the_settings_of_the_chosen_components(capsys):
    assert run.main(["--policy", "wide=gru", "--learner", "rl2", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--wide.hidden-dim" in shown
    assert "--rl2.episodes-in-context" in shown
    assert "--maml.inner-lr" not in shown


def test_refusing_starts_no_ray():
    code = (
        "import sys; from harness.cli import run; code = run.main(['--test-tasks', '30']);"
        "sys.exit(9 if {'ray'} & set(sys.modules) else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "0 to 29" in done.stderr


def test_the_console_script_passes_words_on(capsys):
    assert metarl.main(["run", "--policy", "x"]) == 2
    assert "--policy" in capsys.readouterr().err
    assert metarl.main(["walk"]) == 2
    assert "walk" in capsys.readouterr().err
    assert metarl.main(["--help"]) == 0


def test_yaml_errors_name_file_and_line(tmp_path):
    file = tmp_path / "a.yaml"
    for text, line in [
        ("policy: [ssm]\ntrain:\n  inner_lr: 0.2\n", 3),
        ("policy: [ssm]\n\nlearner: [mamll]\n", 3),
        ("evaluation:\n  few_shot: [1]\n  zero_shot: true\n", 2),
        ("task_dist: point_goal\ntest_tasks: [100000]\n", 2),
        ("policy:\n  gru:\n    hidden_dim: 0\n", 3),
        ("learner: {rl2: {first_order: true}}\n", 1),
        ("train: {normalize_obs: no}", 1),
        ('train: {meta_iterations: "3"}', 1),
        ("train: {meta_iterations: 3.5}", 1),
        ("train: 3", 1),
    ]:
        file.write_text(text)
        with pytest.raises(UsageError, match=rf"{file}:{line}: "):
            load_config(["--config", str(file)])
