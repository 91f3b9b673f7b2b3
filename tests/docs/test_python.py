"""The Python of docs/python.md and docs/agents.md runs as it stands."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from harness.cli import main
from tests.docs.pages import ROOT, blocks

AGENT = next(block for block in blocks("docs/agents.md", "python"))
SMALL = [
    *("--task-dist", "point_goal", "--few-shot", "1", "10", "--episodes-per-shot", "5"),
    *("--query-episodes", "2", "--label", "mine", "--no-tensorboard", "--name", "x"),
]


@pytest.mark.slow
def test_the_library_page_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert "rl2" in capsys.readouterr().out
    assert (tmp_path / "adaptation.png").stat().st_size > 10_000
    records = names["run"].records
    mine = records[(records.learner == "rl2") & (records.shots == 0) & (records.task_index == 3)]
    wanted = mine.sort_values("query_episode").return_[:2]
    assert names["before"][:2] == pytest.approx(wanted, rel=1e-4)
    assert set(names["scored"].records.policy) >= {"still", "random"}
    assert set(names["again"].records.shots) >= {0, 3}


def test_the_example_adapts(tmp_path, monkeypatch, no_figures):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_agent.py").write_text(AGENT)
    assert main.main(["score", "my_agent.py:Seeker", *SMALL, "--backend", "local"]) == 0
    table = pd.read_csv("results/x/table.csv", comment="#").set_index("policy")
    assert table.loc["mine", "return_10"] > table.loc["non-adaptive", "return_0"] + 2
    assert table.loc["mine", "adapter"] == "adapt"


@pytest.mark.slow
@pytest.mark.ray
def test_an_installed_package_offers_it_by_name_on_ray(tmp_path):
    source, target = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "my_agent.py").write_text(AGENT)
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'my-agent'\nversion = '1.2'\n"
        "[project.entry-points.'metarl_harness.agents']\nseeker = 'my_agent:Seeker'\n"
        "[tool.setuptools]\npy-modules = ['my_agent']\n"
    )
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    options = ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run([*install, *options], check=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}
    command = [sys.executable, "-m", "harness.score", "seeker", *SMALL]
    command += ["--num-workers", "2", "--start-timeout", "600"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    stored = (tmp_path / "results/x/run.json").read_text()
    assert "my-agent 1.2" in stored
    table = pd.read_csv(tmp_path / "results/x/table.csv", comment="#").set_index("policy")
    assert table.loc["mine", "return_10"] > table.loc["non-adaptive", "return_0"] + 2
