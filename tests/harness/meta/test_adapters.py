"""Inner loops: own parameters per task, as values."""

from dataclasses import dataclass

import pytest
import torch

import policies
from harness.config.schema import EvalConfig
from harness.conformance import adapter_suite
from harness.conformance.adapters import INNER_LR, N, make_batch, make_params, part
from harness.conformance.learners import make_setup
from harness.execution.jobs import Job
from harness.execution.scoring import evaluate
from harness.meta import adapters, learners
from harness.meta.adapters.base import AdapterSpec, Shot
from harness.meta.adapters.gradient import GradientAdapter
from harness.meta.rollouts.episode_loop import Clock
from policies.base import Params
from policies.params import clone, repeat, select
from tests.harness.meta.meta_cases import make_policy

VALUE_HEAD = "value."


def start_of(name: str) -> tuple:
    policy = make_policy(name)
    params = make_params(policy)
    return policy, params, make_batch(policy, repeat(params, N), 0)


@pytest.mark.parametrize("name", policies.names())
def test_each_task_adapts_as_if_it_were_alone(name):
    policy, params, batch = start_of(name)
    adapter = GradientAdapter(INNER_LR)
    both: Params = adapter.adapt(policy, params, Shot(batch))
    assert all(value.shape[0] == N for value in both.values())
    again = adapter.adapt(policy, both, Shot(batch))
    for task in range(N):
        alone = adapter.adapt(policy, params, Shot(part(batch, task)))
        one = slice(task, task + 1)
        torch.testing.assert_close(select(both, one), alone, rtol=0, atol=1e-11)
        twice = adapter.adapt(policy, alone, Shot(part(batch, task)))
        torch.testing.assert_close(select(again, one), twice, rtol=0, atol=1e-11)
    assert (both["mean.weight"][0] - both["mean.weight"][1]).abs().max() > 1e-6


@pytest.mark.parametrize("name", policies.names())
def test_adapting_makes_new_parameters_and_spares_the_value_head(name):
    policy, params, batch = start_of(name)
    before = clone(params)
    after = GradientAdapter(INNER_LR).adapt(policy, params, Shot(batch))
    assert all(torch.equal(params[key], before[key]) for key in params)
    assert not any(value.requires_grad for value in after.values())
    own = {params[key].data_ptr() for key in params}
    assert not any(value.data_ptr() in own for value in after.values())
    unchanged = {
        key for key in params if torch.equal(after[key], before[key].expand_as(after[key]))
    }
    value_head = {key for key in params if key.startswith(VALUE_HEAD)}
    assert value_head
    assert value_head <= unchanged
    assert "mean.weight" not in unchanged


@pytest.mark.parametrize("name", policies.names())
def test_rewarded_actions_become_likelier_and_the_others_less(name):
    policy, params, batch = start_of(name)
    shared = repeat(params, N)
    good = torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    batch.advantages.copy_(torch.where(good, 1.0, -1.0))
    after = GradientAdapter(0.01).adapt(policy, params, Shot(batch))
    now, before = (batch.forward(policy, params).head for params in (after, shared))
    change = now.log_prob(batch.actions) - before.log_prob(batch.actions)
    for n in range(N):
        steps = batch.mask[n]
        assert change[n][steps & good[n]].mean() > change[n][steps & ~good[n]].mean()
        assert (change[n] * batch.advantages[n])[steps].mean() > 0


def test_the_step_is_the_negative_gradient_times_inner_lr():
    """By hand on a mean-only policy: d(−ratio A)/dmean = −A (a − mean) / s²."""
    mean = torch.tensor([[[[0.5]]]], dtype=torch.float64, requires_grad=True)
    loss = -2.0 * torch.exp(-0.5 * ((1.5 - mean) ** 2 - 1.0)).sum((1, 2, 3))
    out = GradientAdapter(0.1).step({"mean": mean}, loss, order=0)
    assert out["mean"].item() == pytest.approx(0.5 + 0.1 * 2.0 * 1.0)


for registered in adapters.names():
    globals()[f"Test_{registered}"] = adapter_suite(registered)


def test_an_unknown_adapter_is_refused_by_name():
    with pytest.raises(ValueError, match="'sgd'"):
        adapters.build("sgd", inner_lr=INNER_LR)


@dataclass(frozen=True)
class FarSettings:
    """Settings of an adapter from outside."""

    scale: float = 2.0


@dataclass(frozen=True)
class FarAdapter(GradientAdapter):
    """Steps along the oldest batch it was ever given, with noise from its own generators."""

    settings: FarSettings = FarSettings()
    name: str = "far"

    def adapt(self, policy, params, shot):
        assert len(shot.rngs) == shot.batch.x.shape[0]
        SHOTS.append((len(shot.past), [rng.random() for rng in shot.rngs]))
        oldest = [*shot.past, shot.batch][0]
        after = super().adapt(policy, params, Shot(oldest))
        return {key: self.settings.scale * value for key, value in after.items()}


SHOTS: list = []
FAR = AdapterSpec(
    build=lambda settings, inner_lr: FarAdapter(inner_lr, settings=settings), settings=FarSettings
)


def test_an_adapter_from_outside_takes_one_registry_line(monkeypatch):
    monkeypatch.setitem(adapters.REGISTRY, "far", f"{__name__}:FAR")
    setup = make_setup("multitask", adapter="far")
    evaluation = EvalConfig(few_shot=(2,), episodes_per_shot=2, query_episodes=2)
    job = Job(setup.cell, "evaluate", 0, 0, "test", (3, 5), (3, 5))
    snapshot = learners.build(setup).init().snapshot()
    SHOTS.clear()
    records = evaluate(setup, evaluation, job, snapshot, Clock())
    assert {(row.adapter, row.adaptation_steps) for row in records} == {("far", 0), ("far", 2)}
    assert [past for past, _ in SHOTS] == [0, 1]
    drawn = [number for _, numbers in SHOTS for number in numbers]
    assert len(set(drawn)) == 4, "generators differ from task to task and from shot to shot"
