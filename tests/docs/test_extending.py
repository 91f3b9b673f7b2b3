"""The examples of docs/extending.md are the files in examples/plugins, and work as it says."""

import shutil
import subprocess
import sys
import tomllib

import gymnasium
import numpy as np
import pytest

import task_distributions
from harness.cli import parser
from harness.conformance import task_dist_suite
from harness.reporting.store.manifest import Manifest
from tests.docs.pages import ROOT, blocks, commands

EXAMPLES = ROOT / "examples" / "plugins"
TINY = [
    *("--preset", "smoke", "--meta-batch-size", "4", "--episodes-per-task", "2"),
    *("--epochs", "2", "--few-shot", "1", "--episodes-per-shot", "2", "--query-episodes", "1"),
    *("--horizon", "10", "--no-tensorboard", "--name", "tried"),
]


def run(place, *argv, path=""):
    """Run a command in a folder outside the repository."""
    command = [sys.executable, "-m", *argv]
    environment = {"PYTHONPATH": f"{ROOT}:{path}", "PATH": "/usr/bin:/bin", "HOME": str(place)}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A working directory with the example files."""
    for source in EXAMPLES.glob("*.py"):
        shutil.copy(source, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_shows_the_files():
    shown = dict(
        block.removeprefix("# ").split("\n", 1)
        for block in blocks("docs/extending.md", "python")
        if block.startswith("# ")
    )
    assert shown.keys() == {path.name for path in EXAMPLES.glob("*.py")}
    for name, text in shown.items():
        assert text == (EXAMPLES / name).read_text(), name


def test_the_command_of_the_page_is_accepted(beside):
    ((_, *argv),) = [words for words in commands("docs/extending.md") if words[0] == "run"]
    config = parser.load_config(argv)
    assert config.label == "halfcheetah_dir"
    assert list(config.policy) == ["minlstm"]
    assert config.learner["reptile"].settings.step_size == 0.5
    assert config.adapter.settings.steps == 3


def test_a_simulator_without_a_batch_conforms(tmp_path, monkeypatch):
    (text,) = [text for text in blocks("docs/extending.md", "python") if "(TaskEnv)" in text]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pendulum.py").write_text(text)
    name = "pendulum.py:pendulum_gravity"
    failed = [v for v in task_dist_suite(name).verdicts() if v.outcome == "failed"]
    assert not failed
    vector = gymnasium.make_vec(task_distributions.env_spec(name), 2, split="train", tasks=[0, 1])
    single = gymnasium.make(task_distributions.env_spec(name), split="train", task=1)
    vector.reset(seed=3)
    single.reset(seed=4)
    for _ in range(3):
        actions = vector.action_space.sample()
        np.testing.assert_array_equal(vector.step(actions)[0][1], single.step(actions[1])[0])


@pytest.mark.slow
def test_the_examples_are_trained_and_scored_from_files(beside):
    ((_, *argv),) = [words for words in commands("docs/extending.md") if words[0] == "run"]
    done = run(beside, "harness.run", *argv, *TINY, "--backend", "local")
    assert done.returncode == 0, done.stderr
    table = (beside / "results/tried/table.md").read_text()
    assert "minlstm / reptile, several-steps" in table
    kept = {path.name for path in (beside / "results/tried/plugins").iterdir()}
    assert kept == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.fixture
def installed(tmp_path):
    """A folder into which pip has installed a package with the page's entry points."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLES, source / "my_pkg")
    (source / "my_pkg/__init__.py").touch()
    (toml,) = blocks("docs/extending.md", "toml")
    head = '[project]\nname = "my-pkg"\nversion = "1.2"\n\n'
    (source / "pyproject.toml").write_text(head + toml)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    return site


@pytest.mark.slow
def test_the_examples_are_trained_and_scored_from_a_package(installed, tmp_path):
    (toml,) = blocks("docs/extending.md", "toml")
    groups = tomllib.loads(toml)["project"]["entry-points"]
    (name,) = groups["metarl_harness.task_distributions"]
    chosen = [f"--task-dist {name} --policy minlstm --learner reptile --reptile.step-size 0.5"]
    words = " ".join([*chosen, "--adapter several-steps --several-steps.steps 2"]).split()
    place = tmp_path / "place"
    place.mkdir()
    done = run(place, "harness.run", *words, *TINY, "--backend", "local", path=installed)
    assert done.returncode == 0, done.stderr
    assert "minlstm / reptile, several-steps" in (place / "results/tried/table.md").read_text()
    (cell,) = Manifest.load(place / "results/tried").cells.values()
    versions = {
        name: origin["package"]
        for family in cell.config["plugins"].values()
        for name, origin in family.items()
    }
    components = ("halfcheetah-dir", "minlstm", "reptile", "several-steps")
    assert versions == dict.fromkeys(components, "my-pkg 1.2")
    # Elsewhere the package is missing: said in a line, before anything starts.
    checkpoint = next((place / "results/tried/cells").glob("*/checkpoints/*.safetensors"))
    done = run(place, "harness.run", "eval", "--checkpoint", str(checkpoint))
    assert done.returncode == 2
    assert "my-pkg 1.2" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "halfcheetah_dir.py:halfcheetah_dir",
        "minlstm.py:build",
        "reptile.py:REPTILE",
        "several_steps.py:SEVERAL_STEPS",
    ],
)
def test_the_examples_conform(beside, name):
    done = run(beside, "harness.check", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok" in done.stdout
