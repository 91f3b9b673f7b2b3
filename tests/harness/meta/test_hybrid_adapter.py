"""The hybrid adapter: the loss it minimises and the experience it keeps."""

import dataclasses

import numpy as np
import pytest
import torch

from harness.conformance.learners import collect, make_setup
from harness.meta import learners
from harness.meta.adapters.base import Shot
from harness.meta.adapters.gradient import GradientAdapter, inner_loss
from harness.meta.adapters.hybrid import HybridGradientAdapter, HybridSettings
from harness.meta.rollouts.batch import Batch
from policies.params import clone, repeat


def hybrid(**settings):
    return HybridGradientAdapter(inner_lr=0.5, settings=HybridSettings(**settings))


def generators(count):
    return [np.random.default_rng(n) for n in range(count)]


@pytest.fixture(scope="module")
def case():
    setup = make_setup("maml", policy="gru")
    learner = learners.build(setup)
    payload = learner.init().snapshot()
    (data,), _ = collect(setup, payload, jobs=1)
    return setup.policy, payload.params, data.support[0], data.query


def test_it_descends_the_present_and_the_weighted_past(case):
    policy, params, present, past = case
    adapter = hybrid(experience_batch_size=7, experience_weight=0.3)
    count = present.x.shape[0]
    got = adapter.adapt(policy, params, Shot(present, [past, present], generators(count)))
    chosen = adapter.sample(Batch.concatenate([past, present]).mask, 2, generators(count))
    assert chosen.sum((1, 2)).tolist() == [7] * count
    gradients = []
    for batch in (present, dataclasses.replace(Batch.concatenate([past, present]), mask=chosen)):
        leaves = clone(repeat(params, count), requires_grad=True)
        loss = inner_loss(batch.forward(policy, leaves), batch).sum()
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradients.append(dict(zip(leaves, grads, strict=True)))
    for name, value in repeat(params, count).items():
        if gradients[0][name] is None:
            torch.testing.assert_close(got[name], value)
            continue
        step = gradients[0][name] + 0.3 * gradients[1][name]
        torch.testing.assert_close(got[name], value - 0.5 * step, rtol=1e-4, atol=1e-6)


def test_without_a_past_it_is_the_gradient_adapter(case):
    policy, params, present, _ = case
    args = (policy, params, Shot(present))
    plain = GradientAdapter(inner_lr=0.5).adapt(*args)
    alike = hybrid().adapt(*args)
    assert all(torch.equal(plain[name], alike[name]) for name in plain)


def test_only_the_latest_steps_are_remembered():
    mask = torch.ones(2, 4, 5, dtype=torch.bool)  # two shots of two episodes of five steps
    mask[1, 2:, 3:] = False
    adapter = hybrid(buffer_size=4, experience_batch_size=99)
    chosen = adapter.sample(mask, 2, generators(2))
    assert chosen[0].nonzero().tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    assert chosen[1].nonzero().tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]
