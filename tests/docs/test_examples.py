"""What the pages show runs: the quickstart from the first command to the last, at tiny size."""

import re
import shlex
import shutil
from pathlib import Path

import gymnasium
import pytest

from harness.cli import main
from tests.docs.pages import PAGES, blocks

TINY = {
    "--seeds": "0",
    "--policy": "gru",
    "--env-steps": "200",
    "--meta-batch-size": "2",
    "--episodes-per-task": "2",
    "--episodes-per-iteration": "2",
    "--tasks-per-iteration": "2",
    "--minibatches": "2",
    "--horizon": "10",
    "--few-shot": "1",
    "--episodes-per-shot": "2",
    "--query-episodes": "1",
    "--test-tasks": "0 1",
    "--backend": "local",
}
"""Flag -> what is given instead of the page's value when a page trains something."""


def made_small(argv):
    """Return a training command with the values of TINY."""
    flags = {}
    for word in argv:
        if word.startswith("--"):
            flags[word] = []
        else:
            flags[next(reversed(flags))].append(word)
    flags |= {flag: value.split() for flag, value in TINY.items()}
    return [word for flag, values in flags.items() for word in (flag, *values)]


def shown_commands(page):
    """Yield the words after ``python -m harness.`` of every command of a page, in order."""
    for found in re.findall(r"python -m harness\.([^`\n]+)", PAGES[page]):
        yield shlex.split(found, comments=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quickstart_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    played = []
    for name, *argv in shown_commands("docs/quickstart.md"):
        if not argv or argv == ["--help"]:
            continue
        if argv[0] == "--task-dist":
            argv = made_small(argv)
        trained = sorted(tmp_path.glob("results/cheetah/cells/*.maml.*/checkpoints/*.safetensors"))
        argv = [str(trained[-1]) if word == "PATH.safetensors" else word for word in argv]
        assert main.main([{"reporting": "report"}.get(name, name), *argv]) == 0, (name, argv)
        played.append(name)
    assert {"run", "status", "tables", "publish"} <= set(played)
    assert len(played) >= 10
    assert (tmp_path / "results/published/cheetah-5m/report.html").is_file()
    (code,) = blocks("docs/quickstart.md", "python")
    capsys.readouterr()
    exec(compile(code, "quickstart", "exec"), {})
    assert "multitask" in capsys.readouterr().out


def test_the_official_imujoco_files_are_loaded_as_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    robot = Path(gymnasium.__file__).parent / "envs/mujoco/assets/half_cheetah.xml"
    (tmp_path / "path/to/xml").mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(robot, f"path/to/xml/halfcheetah-{name}.xml")
    (code,) = blocks("docs/imujoco.md", "python")
    exec(compile(code, "imujoco", "exec"), {})
    assert "official XML, 2 files" in capsys.readouterr().out
