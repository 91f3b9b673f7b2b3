"""``harness.score``: agents in rows of their own, and how each of them may fail."""

import hashlib
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from harness.cli import main, score
from harness.errors import UsageError
from harness.execution.preflight import available_cpus
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records

SMALL = [
    *("--task-dist", "point_goal", "--horizon", "6", "--test-tasks", "0", "2", "4"),
    *("--few-shot", "1", "2", "--episodes-per-shot", "3", "--query-episodes", "2"),
    "--no-tensorboard",
]
AGENTS = '''
import dataclasses, numpy as np

@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of mine."""
    gain: float = 0.5
    """Size of every action."""

class Mine:
    num_params, train_env_steps = 3, 5_000

    def __init__(self, settings: Settings = Settings()):
        self.gain, self.shots = settings.gain, 0

    def act(self, obs):
        return np.full((len(obs), 2), self.gain * self.shots)

    def adapt(self, episodes):
        self.shots += 1

class Actionless:
    """No agent."""

def nothing():
    return None

class Broken(Mine):
    def begin_task(self, spec, num_episodes, seed):
        self.steps = 0

    def act(self, obs):
        self.steps += 1
        return np.full((len(obs), 2), np.nan if obs[0, 0] > 0.02 else 0.0)
'''


@pytest.fixture
def place(tmp_path, monkeypatch, no_figures):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(AGENTS)
    return tmp_path


def scored(*words, name="x", backend=("--backend", "local")):
    return main.main(["score", *words, *SMALL, "--name", name, *backend])


def records(name="x"):
    return read_records(Path("results") / name)


def test_a_random_agents_row_is_the_random_reference_line(place):
    assert scored("random", "constant") == 0
    frame = records()
    for agent, line in (("random", "random-action"), ("constant", "zero-action")):
        keys = ["task", "query_episode"]
        reference = frame[frame.policy == line].set_index(keys).return_.sort_index()
        for shots in (0, 1, 2):
            mine = frame[(frame.policy == agent) & (frame.shots == shots)]
            mine = mine.set_index(keys).return_.sort_index()
            pd.testing.assert_series_equal(mine, reference, check_exact=True)
    assert set(frame[frame.policy == "random"].learner) == {"agent"}


def test_a_file_with_settings_makes_rows_with_labels(place):
    assert scored("big=mine.py:Mine", "small=mine.py:Mine", "--small.gain", "0.1") == 0
    frame = records()
    assert set(frame[frame.learner == "agent"].policy) == {"big", "small"}
    assert (frame[frame.learner == "agent"].adapter == "adapt").all()
    table = (place / "results/x/table.md").read_text()
    assert "big / agent, adapt" in table
    assert "3 declared" in table
    assert "5.00k declared" in table
    stored = json.loads((place / "results/x/run.json").read_text())
    (cell,) = (c for c in stored["cells"].values() if c["policy"] == "small")
    assert cell["config"]["agent"]["small"]["gain"] == 0.1
    assert len(cell["config"]["plugins"]["agent"]["mine.py:Mine"]["sha256"]) == 64


def test_one_label_for_each_agent(place):
    assert scored("random", "mine.py:Mine", "--label", "a", "b") == 0
    assert set(Manifest.load(place / "results/x").cells) == {
        "point_goal.a.agent.s0",
        "point_goal.b.agent.s0",
    }


def test_a_saved_module_is_given_by_its_path(place):
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save("my net.pt")
    assert scored("my net.pt") == 0
    frame = records()
    assert set(frame[frame.policy == "my-net"].num_params) == {6}


def test_an_agent_that_fails_fails_its_own_row(place):
    assert scored("mine.py:Broken", "random") == 3
    found = Manifest.load(place / "results/x")
    assert {cell.policy: cell.status for cell in found.cells.values()} == {
        "Broken": "failed",
        "random": "ok",
    }
    reason = found.cells["point_goal.Broken.agent.s0"].reason
    assert reason.startswith("agent: test/")
    assert ", seed 0, after 0 shots, query episodes, step" in reason
    assert "nan" in reason
    assert set(records().policy) == {"random", "random-action", "zero-action"}
    table = (place / "results/x/table.md").read_text()
    assert "harness.score --config" in table


def test_a_cell_is_scored_again_from_its_own_file(place):
    assert scored("mine.py:Mine") == 0
    file = "results/x/cells/point_goal.Mine.agent.s0/cell.yaml"
    assert score.main(["--config", file, "--name", "again", "--backend", "local"]) == 0
    drop = ["run", "adapt_seconds"]
    pd.testing.assert_frame_equal(records().drop(columns=drop), records("again").drop(columns=drop))


def test_a_run_is_resumed_by_its_name(place):
    assert scored("mine.py:Mine", "random") == 0
    before = records()
    folder = place / "results/x/cells/point_goal.Mine.agent.s0"
    for name in ("state.json", "records.parquet"):
        (folder / name).unlink()
    assert main.main(["run", "--resume", "x", "--backend", "local"]) == 0
    drop = "adapt_seconds"
    pd.testing.assert_frame_equal(records().drop(columns=drop), before.drop(columns=drop))


def test_a_run_is_not_resumed_with_another_saved_agent(place, capsys):
    saved, other = place / "net.pt", place / "other" / "net.pt"
    other.parent.mkdir()
    with pytest.warns(DeprecationWarning, match="deprecated"):
        net = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    for file in (saved, other):  # of one size, and as if saved within one tick of the clock
        net.weight.data += 1
        net.save(file)
        os.utime(file, ns=(0, 0))
    assert saved.stat().st_size == other.stat().st_size
    assert scored(str(saved)) == 0
    (cell,) = Manifest.load(place / "results/x").cells.values()
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert cell.config["plugins"] == {"files": {str(saved): {"sha256": digest}}}
    assert main.main(["run", "--resume", "x", "--backend", "local"]) == 0
    other.rename(saved)
    assert main.main(["run", "--resume", "x", "--backend", "local"]) == 2
    assert digest[:12] in capsys.readouterr().err
    saved.unlink()
    assert main.main(["run", "--resume", "x", "--backend", "local"]) == 2


BAD = {
    "nothing": ([], "AGENT is missing"),
    "an unknown name": (["randon"], "did you mean 'random'"),
    "a missing file": (["none.py:Mine"], "none.py"),
    "a missing factory": (["mine.py:Yours"], "Yours"),
    "a missing model": (["sb3", "--sb3.path", "none.zip"], "--sb3.path"),
    "no model": (["sb3"], "--sb3.path is missing"),
    "a number without effect": (["random", "--num-workers", "2"], "--num-workers"),
    "too many labels": (["random", "--label", "a", "b"], "--label"),
    "one label twice": (["mine.py:Mine", "mine.py:Mine"], "'Mine'"),
    "a setting of another agent": (["random", "--value", "1"], "--value"),
    "a wrong setting": (["constant", "--constant.value", "2"], "--constant.value"),
    "a wrong negative one": (["constant", "--constant.value", "-2e0"], "at least -1"),
    "a class without act": (["random", "mine.py:Actionless"], "Actionless: "),
    "a factory of no agents": (["mine.py:nothing"], "NoneType"),
    "an adapter": (["random", "--adapter", "gradient"], "--adapter"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_starts(case, place, capsys):
    words, hint = BAD[case]
    assert scored(*words) == 2
    assert hint in capsys.readouterr().err
    assert not (place / "results").exists()


def test_policies_and_agents_are_not_mixed(place):
    (place / "both.yaml").write_text("agent: [random]\npolicy: [gru]\n")
    with pytest.raises(UsageError, match="contradict"):
        score.parse(["--config", "both.yaml"])
    (place / "agent.yaml").write_text(yaml.safe_dump({"agent": ["random"]}))
    assert list(score.parse(["--config", "agent.yaml"]).config.agent) == ["random"]
    assert main.main(["run", "--config", "agent.yaml"]) == 2


def test_the_help_lists_the_settings_of_the_chosen_agents(capsys):
    assert score.main(["constant", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--constant.value" in text
    assert "--act-timeout" in text
    assert "--learner" not in text


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.faults
def test_on_ray_an_agent_that_hangs_fails_its_own_row_and_the_records_are_the_same(place):
    (place / "hangs.py").write_text(
        "import time\n\nclass Hangs:\n    def act(self, obs):\n        time.sleep(100)\n"
    )
    workers = ("--num-workers", "2", "--start-timeout", "600")
    assert scored("mine.py:Mine", name="here") == 0
    names = ("mine.py:Mine", "hangs.py:Hangs", "random")
    assert scored(*names, "--act-timeout", "5", backend=workers) == 3
    found = Manifest.load(place / "results/x")
    assert found.cells["point_goal.Hangs.agent.s0"].reason.endswith("act took longer than 5 s")
    drop = ["run", "adapt_seconds"]
    mine = records()[lambda frame: frame.policy == "Mine"].drop(columns=drop)
    here = records("here")[lambda frame: frame.policy == "Mine"].drop(columns=drop)
    pd.testing.assert_frame_equal(mine.reset_index(drop=True), here.reset_index(drop=True))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.faults
def test_agents_that_hang_are_interrupted_where_cells_are_played_side_by_side(place):
    (place / "hangs.py").write_text(
        "import time\n\nclass Hangs:\n    def act(self, obs):\n        time.sleep(100)\n"
    )
    seeds = [str(seed) for seed in range(available_cpus())]
    argv = ("hangs.py:Hangs", "--seed", *seeds, "--act-timeout", "3")
    assert scored(*argv, backend=("--start-timeout", "600")) == 3
    states = Manifest.load(place / "results/x").cells.values()
    assert len(states) == len(seeds)
    assert all(state.reason.endswith("act took longer than 3 s") for state in states)
