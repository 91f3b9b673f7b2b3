"""The Python snippets of the seed documents run, with nothing but import paths mapped.

``seed_snippets/`` has them word for word, a first line apart that says where each is from. What a
snippet takes for granted ("... Setup models ...") its test gives. docs/parity.md shows the mapping.
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
PARITY = Path(__file__).parents[2] / "docs/parity.md"
SEEDS = Path(__file__).parents[3] / "shared/seeds"

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
"""Modules of the documents -> ours."""


def run(name: str, **given) -> dict:
    """Run a snippet with its imports mapped; return the names it leaves behind."""
    source = (SNIPPETS / f"{name}.txt").read_text().split("\n", 1)[1]
    for theirs, ours in MAPPING.items():
        source = source.replace(f"from {theirs} import", f"from {ours} import")
    torch.manual_seed(0)
    names = dict(given)
    exec(compile(source, name, "exec"), names)
    return names


class Rows:
    """An environment with a row of observations per agent."""

    def reset(self):
        return np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)


def recurrent(name: str) -> PolicyModule:
    return PolicyModule(name, obs_dim=3, action_dim=2)


@pytest.mark.parametrize("snippet", ["agents_1", "agents_2"])
@pytest.mark.parametrize("name", ["ssm", "lstm", "gru", "transformer"])
def test_agents(snippet, name):
    names = run(
        snippet,
        maml_algo=MetaMAML(recurrent(name)),
        adapter=Adapter(recurrent(name)),
        env=Rows(),
    )
    assert list(names["coordinator"].agents) == ["MAML", "Adapt"]
    assert [action.shape for action in names["actions"]] == [(2,), (2,)]


def test_state_space_model(capsys):
    run("state_space_model")
    assert capsys.readouterr().out == "torch.Size([4, 32])\ntorch.Size([4, 128])\n"


def test_meta_maml(capsys):
    """Four rows of hidden state, four tasks of one series: the loss is that of their own rows."""
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


def test_adapter(capsys):
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


def test_create_adapter():
    names = run("create_adapter", **classification())
    assert names["info"]["steps"] == 1
    assert 0 < names["info"]["drift"] < 1e-3
    assert 0 < names["mf"].entropy <= np.log(3)
    assert names["adapter"].config.learning_rate == 5e-5


def test_my_strategy():
    asked = []

    def some_regularizer(outputs, batch):
        asked.append(batch)
        return outputs["logits"].square().mean()

    run("my_strategy", some_regularizer=some_regularizer)
    given = classification()
    adapter = create_adapter(given["model"], strategy="my_strategy")
    outputs = given["model"](**given["batch"])
    plain = F.cross_entropy(outputs["logits"], given["batch"]["labels"])
    info = adapter.adapt(lambda out, b: F.cross_entropy(out["logits"], b["labels"]), given["batch"])
    expected = plain + 0.1 * outputs["logits"].square().mean()
    assert info["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert asked == [given["batch"]]


def test_hybrid_loss():
    """The documents' sketch of a method's body; its ellipses are filled in."""
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


def test_standard_ssm():
    model = run("standard_ssm")["model"]
    assert model(torch.zeros(7, 4), model.init_hidden(7))[0].shape == (7, 2)


def test_improved_ssm():
    model = run("improved_ssm")["model"]
    action, log_prob, value, hidden = model.get_action(torch.zeros(7, 17), model.init_hidden(7))
    assert action.shape == (7, 6)
    assert log_prob.shape == value.shape == (7,)
    assert [part.shape for part in hidden] == [(7, 64), (7, 64)]


def test_test_time_adapter():
    env = gymnasium.make("task_distributions:MetaRL/point_goal-v1", split="test", task=0)
    model = ImprovedSSM(2, 2, state_dim=8, hidden_dim=16)
    names = run("test_time_adapter", model=model, env=env)
    assert len(names["episode_rewards"]) == 5
    assert len(names["stats"]) == 12
    assert all(stat["steps"] == 10 for stat in names["stats"])


def test_the_mapping_is_in_the_docs():
    page = PARITY.read_text()
    for theirs, ours in MAPPING.items():
        assert f"| `{theirs}` | `{ours}` |" in page
    for snippet in SNIPPETS.glob("*.txt"):
        assert f"`{snippet.name}`" in page, snippet.name


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the documents are not part of the repository")
def test_snippets_are_the_documents_own_words():
    documents = [path.read_text() for path in sorted(SEEDS.glob("*.txt"))]
    for snippet in SNIPPETS.glob("*.txt"):
        lines = snippet.read_text().split("\n", 1)[1].rstrip().splitlines()
        where = re.compile("\n".join(r" *" + re.escape(line) for line in lines))
        assert any(where.search(document) for document in documents), snippet.name
