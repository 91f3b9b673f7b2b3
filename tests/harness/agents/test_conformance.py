"""The conformance suite of agents passes good ones and finds what is wrong with bad ones."""

import pytest

from harness.cli import check
from harness.conformance import agent_suite

TestRandom = agent_suite("random")
TestConstant = agent_suite("constant", value=0.5, task_dist="cartpole")

AGENTS = '''
import numpy as np

class Good:
    def begin_task(self, spec, num_episodes, seed):
        self.gain = 0.0

    def act(self, obs):
        return np.full((len(obs), 2), self.gain)

    def adapt(self, episodes):
        self.gain += 0.1

class Unseeded(Good):
    def act(self, obs):
        return np.random.default_rng().uniform(-1, 1, (len(obs), 2))

class Taught(Good):
    """Restores nothing."""
    def observe(self, *transition):
        self.gain += 0.001

    def snapshot(self):
        return None

    def restore(self, state):
        pass

class Leaky(Good):
    known = [0.0]

    def act(self, obs):
        self.known[0] += 0.001
        return np.full((len(obs), 2), min(self.known[0], 1.0))
'''
FAILING = {
    "Good": set(),
    "Unseeded": {"the same seed", "query episodes", "a task teaches"},
    "Taught": {"query episodes"},
    "Leaky": {"the same seed", "query episodes", "a task teaches"},
}


@pytest.mark.parametrize("name", FAILING)
def test_what_is_wrong_is_found(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(AGENTS)
    code = check.main([f"mine.py:{name}"])
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.lower().startswith("fail")]
    assert code == (3 if FAILING[name] else 0), lines
    assert len(failed) == len(FAILING[name])
    assert all(any(word in line for line in failed) for word in FAILING[name])
