"""The Python snippets of the seed documents, as written there except for their import paths.

``seed_snippets/`` holds them word for word, below a first line that names the source. A test is
named after the promise (docs/parity.md) and provides what its snippet assumes.
"""

import copy
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness.toolkit import (
    AdaptationConfig,
    Adapter,
    ExperienceBuffer,
    HybridAdapter,
    MetaMAML,
    create_adapter,
)
from policies.modules import PolicyModule
from policies.ssm import ImprovedSSM, StateSpaceModel

SNIPPETS = Path(__file__).parent / "seed_snippets"
ROOT = Path(__file__).parents[2]
PARITY = ROOT / "docs/parity.md"

MAPPING = {
    "core.ssm": "policies.ssm",
    "core.improved_ssm": "policies.ssm",
    "core.coordinator": "harness.toolkit",
    "meta_rl.meta_maml": "harness.toolkit",
    "meta_rl.maml_agent": "harness.toolkit",
    "adaptation.test_time_adaptation": "harness.toolkit",
    "adaptation.test_time_adapter": "harness.toolkit",
    "adaptation.adaptation_agent": "harness.toolkit",
}
"""Module in the documents -> module here."""


def run(name: str, **variables) -> dict:
    """Run a snippet with its imports mapped, given ``variables``; return all its variables."""
    source = (SNIPPETS / f"{name}.txt").read_text().split("\n", 1)[1]
    for theirs, ours in MAPPING.items():
        source = source.replace(f"from {theirs} import", f"from {ours} import")
    torch.manual_seed(0)
    exec(compile(source, name, "exec"), variables)
    return variables


class Rows:
    """A batched environment with one row of observations per agent."""

    def reset(self):
        return np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)


def recurrent(name: str) -> PolicyModule:
    return PolicyModule(name, obs_dim=3, action_dim=2)


@pytest.mark.parametrize("snippet", ["agents_1", "agents_2"])
@pytest.mark.parametrize("name", ["ssm", "lstm", "gru", "transformer"])
def test_s8_agents(snippet, name):
    names = run(
        snippet,
        maml_algo=MetaMAML(recurrent(name)),
        adapter=Adapter(recurrent(name)),
        env=Rows(),
    )
    assert list(names["coordinator"].agents) == ["MAML", "Adapt"]
    assert [action.shape for action in names["actions"]] == [(2,), (2,)]


def test_s1_state_space_model(capsys):
    run("state_space_model")
    assert capsys.readouterr().out == "torch.Size([4, 32])\ntorch.Size([4, 128])\n"


def test_s3_meta_maml(capsys):
    """With four rows of hidden state and four tasks of one sequence, each task uses its own row."""
    names = run("meta_maml")
    assert re.fullmatch(r"Meta Loss: \d\.\d{4}\n", capsys.readouterr().out)
    torch.manual_seed(0)
    model = StateSpaceModel(state_dim=64, input_dim=32, output_dim=16)
    losses = []
    for i, (sx, sy, qx, qy) in enumerate(names["tasks"]):
        task_model, start = copy.deepcopy(model), names["initial_hidden"][i : i + 1]
        optimizer = torch.optim.SGD(task_model.parameters(), lr=0.01)
        F.mse_loss(task_model(sx, start)[0], sy).backward()
        optimizer.step()
        losses.append(F.mse_loss(task_model(qx, start)[0], qy).item())
    assert names["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_s4_adapter(capsys):
    names = run("adapter")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[9].startswith("Adapt Call 9, Loss: ")
    assert lines[9].endswith("Internal Steps: 5")
    assert names["hidden_state"].shape == (1, 64)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, labels):
        return {"logits": self.layer(x)}


def classification():
    torch.manual_seed(0)
    batch = {"x": torch.randn(16, 4), "labels": torch.randint(3, (16,))}
    return {"model": Classifier(), "batch": batch, "F": F}


def test_s5_create_adapter():
    names = run("create_adapter", **classification())
    assert names["info"]["steps"] == 1
    assert 0 < names["info"]["drift"] < 1e-3
    assert 0 < names["mf"].entropy <= np.log(3)
    assert names["adapter"].config.learning_rate == 5e-5


def test_s5_my_strategy():
    batches = []

    def some_regularizer(outputs, batch):
        batches.append(batch)
        return outputs["logits"].square().mean()

    run("my_strategy", some_regularizer=some_regularizer)
    given = classification()
    adapter = create_adapter(given["model"], strategy="my_strategy")
    outputs = given["model"](**given["batch"])
    plain = F.cross_entropy(outputs["logits"], given["batch"]["labels"])
    info = adapter.adapt(lambda out, b: F.cross_entropy(out["logits"], b["labels"]), given["batch"])
    expected = plain + 0.1 * outputs["logits"].square().mean()
    assert info["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert batches == [given["batch"]]


def test_s6_hybrid_loss():
    """The snippet is the body of a method; the test fills in its ellipses."""
    torch.manual_seed(0)
    buffer = ExperienceBuffer(100)
    buffer.add(torch.randn(5, 3), torch.randn(5, 2))
    model = StateSpaceModel(6, 3, 2, 8)
    adapter = HybridAdapter(
        model, AdaptationConfig(experience_batch_size=5, experience_weight=0.4), buffer
    )
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    output = model(x)[0]
    expected = adapter.total_loss(output, y)
    source = (SNIPPETS / "hybrid_loss.txt").read_text()
    source = source.replace("get_batch(...)", "get_batch(self.config.experience_batch_size)")
    source = source.replace("x_exp, ...)", "x_exp, self.model.init_hidden(len(x_exp)))")
    names = {"self": adapter, "output_current": output, "y_current": y}
    exec(source, names)
    torch.testing.assert_close(names["total_loss"], expected)
    assert adapter.update_step(x, y)[0] == pytest.approx(expected.item(), rel=1e-5)


def test_s1_standard_ssm():
    model = run("standard_ssm")["model"]
    assert model(torch.zeros(7, 4), model.init_hidden(7))[0].shape == (7, 2)


def test_s2_improved_ssm():
    model = run("improved_ssm")["model"]
    action, log_prob, value, hidden = model.get_action(torch.zeros(7, 17), model.init_hidden(7))
    assert action.shape == (7, 6)
    assert log_prob.shape == value.shape == (7,)
    assert [part.shape for part in hidden] == [(7, 64), (7, 64)]


def test_s7_test_time_adapter():
    env = gymnasium.make("task_distributions:MetaRL/point_goal-v1", split="test", task=0)
    model = ImprovedSSM(2, 2, state_dim=8, hidden_dim=16)
    names = run("test_time_adapter", model=model, env=env)
    assert len(names["episode_rewards"]) == 5
    assert len(names["stats"]) == 12
    assert all(stat["steps"] == 10 for stat in names["stats"])


def test_the_parity_page_names_every_mapping_and_only_paths_that_exist():
    page = PARITY.read_text()
    for theirs, ours in MAPPING.items():
        assert f"| `{theirs}` | `{ours}` |" in page
    paths = re.findall(r"`((?:tests|examples|docs|deploy|\.github)/[^`]*)`", page)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
