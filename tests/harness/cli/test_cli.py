"""The command line as its user meets it: what is accepted, what is refused and how it is said."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from harness.cli import run
from harness.cli.parser import load_config, parse
from harness.config.schema import EvaluateConfig
from harness.errors import UsageError

BAD = [
    (["--outer", "trpo", "--baseline", "value"], ["--baseline", "linear", "ppo"]),
    (["--policy", "ssmm"], ["--policy", "'ssmm'", "gru", "did you mean 'ssm'?"]),
    (["--method", "SSM"], ["--method", "'SSM'", "did you mean 'ssm'?"]),
    (["--task-dist", "ant-vell"], ["--task-dist", "'ant-vell'", "did you mean 'ant-vel'?"]),
    (["--learner", "mamll"], ["--learner", "'mamll'", "multitask", "did you mean 'maml'?"]),
    (["--learner", "rl2", "--adapter", "gradient"], ["--adapter", "'gradient'", "'rl2'", "auto"]),
    (
        [
            *("--learner", "rl2", "--episodes-in-context", "20"),
            *("--meta-batch-size", "2", "--episodes-per-task", "2"),
        ],
        ["--episodes-in-context", "20", "of 8", "--ppo-episodes"],
    ),
    (["--learner", "maml", "--adapter", "memory"], ["--adapter", "'memory'", "rl2"]),
    (["--learner", "rl2", "--adapter", "memory+gradient"], ["--adapter", "'rl2'", "maml"]),
    (
        ["--adapter", "memory+gradient", "--query-episodes", "9", "--episodes-per-shot", "8"],
        ["--query-episodes", "--episodes-per-shot (8)"],
    ),
    (["--policy", "ssm", "gru", "ssm"], ["--policy", "'ssm'", "twice"]),
    (["--seeds", "1", "1"], ["--seeds", "1", "twice"]),
    (["--seed"], ["--seed", "at least one"]),
    (["--seed", "0", "--seeds", "1"], ["--seeds", "--seed", "at once"]),
    (["--few-shot", "1", "--zero-shot"], ["--few-shot", "--zero-shot", "contradict"]),
    (["--few-shot", "-1"], ["--few-shot", "-1", "greater than or equal to 0"]),
    (["--epochs", "-3"], ["--epochs", "-3"]),
    (["--outer-lr", "nan"], ["--outer-lr", "NaN", "finite"]),
    (["--epochz", "3"], ["--epochz", "did you mean '--epochs'?"]),
    (["--name", "../../x"], ["--name", "'../../x'", "letters"]),
    (["--name", "published"], ["--name", "'published'"]),
    (["--name", ".hidden"], ["--name", "'.hidden'"]),
    (["--resume"], ["--resume", "--name"]),
    (["--address", "auto", "--backend", "local"], ["--address", "'auto'", "--backend local"]),
    (["--config", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
    (["--task-dist", "point_goal", "--test-tasks", "0", "100000"], ["--test-tasks", "100000"]),
    (["--task-dist", "point_goal", "--train-tasks", "0", "0"], ["--train-tasks", "twice"]),
    (["--reward-version", "v1"], ["--reward-version", "halfcheetah-vel", "metaworld-ml10"]),
    (
        ["--task-dist", "ant-vel", "--imujoco-xml", "x"],
        ["--imujoco-xml", "ant-vel", "imujoco-halfcheetah"],
    ),
    (
        ["--task-dist", "imujoco-halfcheetah", "--imujoco-xml", "nowhere"],
        ["--imujoco-xml", "/nowhere", "no such folder"],
    ),
    (["evalute"], ["'evalute'", "did you mean 'evaluate'?"]),
    (["evaluate", "--checkpoint", "nowhere"], ["--checkpoint", "'nowhere'", "does not exist"]),
    (["evaluate", "--resume"], ["--resume"]),
    (["--no-benchmark-mode"], ["--no-benchmark-mode", "always"]),
    (["--env", "YourEnv-v0"], ["--env", "'YourEnv-v0'", "halfcheetah"]),
    (["--adaptation-mode", "hybrid", "--learner", "rl2"], ["--adaptation-mode", "'hybrid'"]),
    (["--adaptation_mode", "both"], ["--adaptation-mode", "'both'", "standard"]),
    (["--buffer_size", "5000"], ["--buffer-size", "hybrid"]),
    (["--experience-batch-size", "5"], ["--experience-batch-size", "hybrid"]),
    (["--experience_weight", "0.1"], ["--experience-weight", "hybrid"]),
    (["--mode", "magic"], ["--mode", "'magic'", "policy_gradient, meta_rl, improved"]),
    (["--config", "advanced"], ["advanced", "No such file"]),
    (["--episodes", "0"], ["--episodes", "0", "greater than 0"]),
    (["--episodes", "9", "--num-epochs", "2"], ["--episodes", "--num-epochs", "contradict"]),
    (["--outer-steps", "9", "--epochs", "2"], ["--outer-steps", "--epochs"]),
    (["--lr", "-1"], ["--lr", "-1", "greater than 0"]),
    (["--lr", "1e-3", "--ppo-lr", "1e-3"], ["--lr", "--ppo-lr", "contradict"]),
    (["--lr", "1e-3", "--outer", "trpo"], ["--lr", "trpo", "--max-kl"]),
    (["adapt", "--checkpoint", ".", "--adapt-every", "5"], ["--adapt-every", "--online"]),
    (["adapt", "--checkpoint", ".", "--online", "--adapter", "memory"], ["--adapter", "--online"]),
    (["adapt", "--checkpoint", ".", "--adapt-steps", "0"], ["--adapt-steps", "0"]),
    (["eval", "--checkpoint", ".", "--env", "x"], ["--env", "'x'"]),
    (["export", "--checkpoint", "x", "--to", "a.pt"], ["--to", "a.pt", ".npz"]),
    (
        ["evaluate", "--checkpoint", ".", "--few-shot", "1", "--zero-shot"],
        ["--few-shot", "--zero-shot", "contradict"],
    ),
]


@pytest.mark.parametrize(("argv", "said"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_bad_input_is_refused_in_one_message(argv, said, capsys):
    assert run.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for part in said:
        assert part in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--preset", "fast"], ["fast", "smoke", "quick"]),
        (["--few-shot", "1,5"], ["--few-shot", "1,5"]),
        (["--task-dist"], ["--task-dist"]),
        (["evaluate"], ["--checkpoint"]),
        (["adapt"], ["--checkpoint"]),
        (["export", "--checkpoint", "x"], ["--to"]),
    ],
)
def test_values_of_the_wrong_type_are_refused(argv, said, capsys):
    assert run.main(argv) == 2
    err = capsys.readouterr().err
    for part in said:
        assert part in err


@pytest.mark.parametrize(
    "argv",
    [
        ["--task-dist", "ant-vel", "--policy", "ssm", "gru"],
        ["--task_dist=ant-vel", "--method", "ssm", "gru"],
        ["train", "--task-dist=ant-vel", "--policy", "ssm", "gru", "--benchmark-mode"],
    ],
)
def test_spellings_mean_the_same(argv):
    config = load_config(argv[1:]) if argv[0] == "train" else load_config(argv)
    assert replace(parse(argv).config, execution=config.execution) == config
    assert (config.task_dist, config.policy) == ("ant-vel", ("ssm", "gru"))


def test_every_flag_of_the_issue_is_understood():
    argv = ["--task-dist", "point_goal", "--policy", "mlp", "ssm", "--few-shot", "1", "5"]
    argv += ["--learner", "maml", "multitask", "--train-tasks", "0", "1", "--test-tasks", "3", "4"]
    argv += ["--epochs", "3", "--seeds", "0", "1", "--preset", "smoke", "--num-workers", "3"]
    argv += ["--address", "auto", "--backend", "ray", "--name", "a-1", "--resume"]
    argv += ["--benchmark-mode", "--horizon", "50", "--meta-batch-size", "4"]
    argv += ["--inner-lr", "0.2", "--first-order", "--no-normalize-obs"]
    config = load_config(argv)
    assert config.evaluation.shots == (0, 1, 5)
    assert config.env.horizon == 50
    assert (config.env.train_tasks, config.env.test_tasks) == ((0, 1), (3, 4))
    assert (config.execution.num_workers, config.execution.resume) == (3, True)
    assert (config.train.first_order, config.train.normalize_obs) == (True, False)
    assert config.adapt.inner_lr == 0.2
    assert load_config(["--zero-shot"]).evaluation.shots == (0,)


def test_evaluate_leaves_unsaid_what_is_unsaid(tmp_path):
    argv = ["evaluate", "--checkpoint", str(tmp_path), "--no-deterministic", "--name", "again"]
    config = parse(argv).config
    assert isinstance(config, EvaluateConfig)
    assert (config.few_shot, config.zero_shot, config.query_episodes) == (None, None, None)
    assert (config.deterministic, config.execution.name) == (False, "again")


@pytest.mark.parametrize("command", [[], ["evaluate"], ["adapt"]])
def test_help_fits_80_columns_and_begins_with_examples(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run.main([*command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert text.index("examples:") < text.index("--adapt-steps" if command == ["adapt"] else "K [K")
    assert "None" not in text
    assert not re.search(r"(?m)(^[│ ]+$\n){2}", text), "a docstring's own line breaks are shown"


def test_refusing_loads_neither_torch_nor_ray():
    code = (
        "import sys; from harness.cli import run; code = run.main(['--policy', 'x']);"
        "loaded = {'torch', 'ray', 'mujoco'} & set(sys.modules); sys.exit(9 if loaded else code)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 2


def test_task_indices_are_checked_without_torch_and_ray():
    code = (
        "import sys; from harness.cli import run;"
        "code = run.main(['--task-dist', 'halfcheetah-vel', '--test-tasks', '30']);"
        "loaded = {'torch', 'ray'} & set(sys.modules); sys.exit(9 if loaded else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "0 to 29" in done.stderr


def test_yaml_names_file_and_line_in_every_complaint(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("policy: [ssm]\ntrain:\n  inner_lr: 0.2\n")
    with pytest.raises(UsageError, match=rf"{file}:3.*section adapt"):
        load_config(["--config", str(file)])
    file.write_text("policy: [ssm]\n\nlearner: [mamll]\n")
    with pytest.raises(UsageError, match=rf"{file}:3.*did you mean 'maml'"):
        load_config(["--config", str(file)])
    file.write_text("evaluation:\n  few_shot: [1]\n  zero_shot: true\n")
    with pytest.raises(UsageError, match=rf"{file}:2.*{file}:3.*contradict"):
        load_config(["--config", str(file)])
    file.write_text("task_dist: point_goal\nenv:\n  test_tasks: [100000]\n")
    with pytest.raises(UsageError, match=rf"{file}:3.*100000"):
        load_config(["--config", str(file)])


@pytest.mark.parametrize(
    "text", ["train: {first_order: no}", 'train: {epochs: "3"}', "train: {epochs: 3.0}", "train: 3"]
)
def test_yaml_values_are_never_converted(tmp_path, text):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=rf"{file}:1: train"):
        load_config(["--config", str(file)])


def test_the_flag_undoes_the_other_kind_of_evaluation_in_yaml(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("evaluation: {zero_shot: true}\n")
    assert load_config(["--config", str(file), "--few-shot", "3"]).evaluation.shots == (0, 3)
    file.write_text("evaluation: {few_shot: [3]}\n")
    assert load_config(["--config", str(file), "--zero-shot"]).evaluation.shots == (0,)
