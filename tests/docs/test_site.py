"""The documentation site builds without a warning and has every page, command, flag and name."""

import argparse
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
from sphinx.util.inventory import InventoryFile

import harness
import policies
import task_distributions
from harness import toolkit, types
from harness.cli import main, parser
from harness.meta import learners
from tests.docs.pages import PAGES, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGES = (harness, policies, task_distributions, learners, toolkit, types)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as ``make docs`` builds it."""
    out = tmp_path_factory.mktemp("site")
    tools = Path(sys.executable).parent
    command = ["make", "-s", "-o", "install", "docs", f"BIN={tools}", f"SITE={out}"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return out


@pytest.fixture(scope="module")
def inventory(site):
    """Kind -> every name that can be linked to."""
    data = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    return {kind: set(names) for kind, names in data.items()}


def test_every_page_is_there_and_in_llms_txt(site):
    pages = [name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")]
    listed = (site / "llms.txt").read_text()
    assert len(pages) > 15
    for name in pages:
        assert (site / name).with_suffix(".html").is_file()
        assert f"(_sources/{name}.txt)" in listed
        assert (site / "_sources" / f"{name}.txt").is_file()


def test_every_page_can_be_reached_from_the_first(site):
    first = (site / "index.html").read_text()
    for name in PAGES:
        if name.startswith("docs/") and name != "docs/index.md":
            assert f'href="{name.removeprefix("docs/").removesuffix(".md")}.html"' in first


def test_every_command_and_flag_is_in_the_reference(inventory):
    shown = {command: set() for command in main.COMMANDS}
    for option in inventory["std:cmdoption"]:
        command, _, name = option.removeprefix("metarl-").partition(".")
        shown[command].add(name)
    assert all(shown.values())
    config = parser.load_config(["--policy", "gru", "ssm", "--learner", "rl2", "maml"])
    listed = [f for f in parser.run_flags(config) if f.group and f.help != argparse.SUPPRESS]
    flags = {f"--{flag.names[0]}" for flag in listed}
    assert len(flags) > 60
    assert flags <= shown["run"]
    assert {"--against", "run"} <= shown["tables"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package, inventory):
    known = set().union(*(names for kind, names in inventory.items() if kind.startswith("py:")))
    objects = {name: getattr(package, name) for name in getattr(package, "__all__", ())}
    public = {n for n, x in objects.items() if inspect.isclass(x) or inspect.isroutine(x)}
    assert public <= {name.rpartition(".")[2] for name in known}
