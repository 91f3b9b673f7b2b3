"""The examples of docs/extending.md, taken from the page, work together as it says."""

import ast
import importlib

import pytest

import policies
import task_distributions
from harness.cli import main, parser
from harness.meta import adapters, learners
from task_distributions import registry
from tests.docs.pages import blocks, commands

REGISTRIES = {
    "task_distributions/registry.py": registry.REGISTRY,
    "policies/__init__.py": policies.REGISTRY,
    "harness/meta/learners/__init__.py": learners.REGISTRY,
    "harness/meta/adapters/__init__.py": adapters.REGISTRY,
}
PACKAGES = (task_distributions, policies, learners, adapters)


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Put the page's files on the packages' paths, and its lines into the registries."""
    root = tmp_path_factory.mktemp("extending")
    with pytest.MonkeyPatch.context() as patch:
        for block in blocks("docs/extending.md", "python"):
            path = block.partition("\n")[0].removeprefix("# ").partition(",")[0]
            if path in REGISTRIES:
                ((name, target),) = ast.literal_eval(f"{{{block}}}").items()
                patch.setitem(REGISTRIES[path], name, target)
            else:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(block)
        for package in PACKAGES:
            folder = str(root / package.__name__.replace(".", "/"))
            patch.setattr(package, "__path__", [*package.__path__, folder])
        importlib.invalidate_caches()
        yield


def test_the_command_of_the_page_is_accepted(registered):
    ((_, *argv),) = commands("docs/extending.md")
    config = parser.load_config(argv)
    assert (config.task_dist, list(config.policy)) == ("hidden-stop", ["rnn", "wide"])
    assert config.policy["wide"].settings.hidden_dim == 128
    assert config.adapter.settings.steps == 3


def test_the_components_train_and_are_scored(registered, tmp_path):
    argv = (
        "--task-dist hidden-stop --policy rnn --learner reptile --adapter several-steps "
        "--several-steps.steps 2 --epochs 2 --meta-batch-size 4 --episodes-per-task 2 "
        "--few-shot 1 --episodes-per-shot 2 --query-episodes 1 --test-tasks 0 1 "
        "--backend local --no-tensorboard --name added"
    )
    assert main.main(["run", *argv.split(), "--storage", str(tmp_path)]) == 0
    table = (tmp_path / "added/table.md").read_text()
    assert "rnn / reptile, several-steps" in table
