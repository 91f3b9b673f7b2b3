"""The PPO adapter: the loss it minimises, what it changes, and what it gains on a task."""

from dataclasses import replace

import pytest
import torch

from harness.config.schema import EvalConfig
from harness.conformance.adapters import N, make_batch, make_params
from harness.conformance.learners import iterate, make_setup
from harness.execution.jobs import Job
from harness.execution.scoring import evaluate
from harness.meta import adapters, learners, objectives
from harness.meta.adapters import ppo
from harness.meta.adapters.base import Shot
from harness.meta.adapters.ppo import FinetuningSettings, PPOAdapter, finetuning_loss
from harness.meta.rollouts.episode_loop import Clock
from policies.params import clone, repeat, select
from tests.harness.meta.meta_cases import make_policy


def start():
    policy = make_policy("gru")
    params = make_params(policy)
    return policy, params, make_batch(policy, repeat(params, N), 0)


def test_the_loss_is_clipped_and_holds_the_value_head():
    policy, params, batch = start()
    shared = repeat(params, N)
    batch.log_probs.sub_(5.0)  # every ratio is far above the clip
    batch.advantages.fill_(1.0)
    out = batch.forward(policy, shared)
    error = (out.value - batch.value_targets).abs()
    huber = torch.where(error < 1, 0.5 * error.square(), error - 0.5)
    expected = -1.2 + 0.5 * objectives.masked_mean(huber, batch.mask)
    torch.testing.assert_close(finetuning_loss(out, batch), expected)


def test_without_value_targets_the_value_head_stays():
    policy, params, batch = start()
    batch = replace(batch, value_targets=None)
    after = PPOAdapter(FinetuningSettings()).adapt(policy, params, Shot(batch))
    same = {key for key in params if torch.equal(after[key], repeat(params, N)[key])}
    assert same == {key for key in params if "value" in key}


def test_passes_are_adam_steps_along_each_tasks_own_clipped_gradient(monkeypatch):
    monkeypatch.setattr(ppo, "MAX_GRAD_NORM", 0.05)
    policy, params, batch = start()
    settings = FinetuningSettings(adapt_learning_rate=1e-2, adapt_epochs=3)
    after = PPOAdapter(settings).adapt(policy, params, Shot(batch))
    for task in range(N):
        own = batch.map(lambda x, n=task: x[n : n + 1])
        leaves = clone(params, requires_grad=True)
        optimizer = torch.optim.Adam(leaves.values(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            finetuning_loss(own.forward(policy, leaves), own).sum().backward()
            size = torch.nn.utils.clip_grad_norm_(leaves.values(), 0.05)
            assert size > 0.05
            optimizer.step()
        one = select(after, slice(task, task + 1))
        torch.testing.assert_close(one, clone(leaves), rtol=0, atol=1e-9)
    assert {key for key in params if not torch.equal(after[key], repeat(params, N)[key])} == set(
        params
    ), "all parameters move, the value head's included"


def scored(setup, snapshot, shots, adapter_episodes=10):
    evaluation = EvalConfig(few_shot=shots, episodes_per_shot=adapter_episodes, query_episodes=4)
    tasks = tuple(range(6))
    job = Job(setup.cell, "evaluate", 0, 0, "test", tasks, tasks)
    rows = evaluate(setup, evaluation, job, snapshot, Clock())
    means = {
        count: sum(row.return_ for row in own) / len(own)
        for count in {row.shots for row in rows}
        if (own := [row for row in rows if row.shots == count])
    }
    return rows, means


@pytest.mark.parametrize("baseline", ["linear", "value"])
@pytest.mark.parametrize("learner", ["finetune", "scratch"])
def test_fine_tuning_raises_returns_and_its_steps_are_recorded(learner, baseline):
    setup = make_setup(learner, adapt_learning_rate=3e-3, adapt_epochs=20, baseline=baseline)
    state = learners.build(setup).init()
    if setup.learner.trains:
        iterate(setup, state, jobs=1)
    rows, means = scored(setup, state.snapshot(), (5,))
    assert {(row.adapter, row.shots, row.adaptation_steps) for row in rows} == {
        ("ppo", 0, 0),
        ("ppo", 5, 100),
    }
    assert means[5] > means[0] + 3
    horizon = setup.dist.spec.horizon
    assert {row.support_env_steps for row in rows} == {0, 5 * 10 * horizon}


def test_query_episodes_do_not_teach():
    setup = make_setup("finetune", adapt_epochs=3)
    snapshot = learners.build(setup).init().snapshot()
    often, seldom = (scored(setup, snapshot, shots, 2)[1] for shots in ((1, 2, 3), (3,)))
    assert often[3] == seldom[3] != often[0]


def test_it_adapts_policies_with_a_trained_value_head_alone():
    spec = adapters.spec("ppo")
    fitting = {name for name in learners.names() if learners.spec(name).fits(spec)}
    assert fitting == {"multitask", "finetune", "scratch"}
