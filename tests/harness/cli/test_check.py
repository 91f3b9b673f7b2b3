"""``harness.check``: verdicts and exit codes, for what conforms and what does not."""

import pytest

from harness.cli.check import family_of, main
from harness.conformance import policy_suite

LEAKY = """
from dataclasses import dataclass, replace
import torch
from policies.mlp import MLPSettings, build as build_mlp

@dataclass(frozen=True)
class Leaky:
    inner: object
    name = "leaky"
    input_dim = property(lambda self: self.inner.input_dim)
    action_dim = property(lambda self: self.inner.action_dim)
    discrete = property(lambda self: self.inner.discrete)

    def init_params(self, seed):
        return self.inner.init_params(seed)

    def initial_memory(self, num_tasks, batch, like):
        return self.inner.initial_memory(num_tasks, batch, like)

    def forward(self, params, x, first, memory):
        out = self.inner.forward(params, x, first, memory)
        return replace(out, value=out.value + x.mean())  # sees all other sequences

def build(*, obs_dim, action_dim, discrete, init_std, settings: MLPSettings):
    return Leaky(build_mlp(obs_dim=obs_dim, action_dim=action_dim, discrete=discrete,
                           init_std=init_std, settings=settings))
"""


@pytest.fixture
def leaky(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaky.py").write_text(LEAKY)
    return "leaky.py:build"


@pytest.mark.slow
def test_what_does_not_conform_is_named_with_code_3(leaky, capsys):
    assert main([leaky]) == 3
    lines = capsys.readouterr().out.splitlines()
    failed = {line[8:].partition(":")[0] for line in lines if line.startswith("FAILED")}
    assert "own parameters equal separate runs" in failed
    assert "unrolling equals stepping" in failed
    assert "its outputs have the documented shapes" not in failed
    passed = [line for line in lines if line.startswith("ok")]
    assert f"{len(passed)} of {len(passed) + len(failed)} tests passed" in lines[-1]


def test_a_suite_reports_all_its_tests(leaky):
    suite = policy_suite(leaky, num_layers=1)
    tests = [name for base in suite.__mro__ for name in vars(base) if name.startswith("test_")]
    assert len(list(suite.verdicts())) == len(tests)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gru", "policy"),
        ("maml", "learner"),
        ("hybrid", "adapter"),
        ("point_goal", "task_dist"),
        ("policies.gru:build", "policy"),
        ("harness.meta.learners.maml:MAML", "learner"),
        ("harness.meta.adapters.hybrid:HYBRID", "adapter"),
        ("task_distributions.point_goal:point_goal", "task_dist"),
    ],
)
def test_the_family_follows_from_the_name(name, family):
    assert family_of(name) == family


@pytest.mark.parametrize("name", ["no-such", "policies.gru:GRUSettings", "no_such.py:build"])
def test_what_is_no_component_is_bad_input(name):
    assert main([name]) == 2
