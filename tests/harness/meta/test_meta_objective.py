"""The meta-gradient of every policy against finite differences, in both orders."""

from dataclasses import replace

import pytest
import torch

import policies
from harness.conformance.adapters import INNER_LR, N, make_batch, make_params
from harness.meta.adapters.base import Shot
from harness.meta.adapters.gradient import STEP_SIZE, GradientAdapter, inner_loss, with_step_sizes
from harness.meta.learners.maml import Terms
from harness.meta.rollouts.batch import Batch
from policies.base import Params
from policies.params import clone, repeat
from tests.harness.meta.meta_cases import (
    along,
    collected,
    directions,
    dot,
    make_objective,
    make_policy,
    moved,
)


def total(terms: Terms) -> torch.Tensor:
    """Everything at once, weighted so that no term hides behind another."""
    weighted = (
        terms.query_loss + 0.3 * terms.value_loss + 0.5 * terms.inner_kl + 0.7 * terms.outer_kl
    )
    return weighted.sum()


def gradient_of(objective, params: Params, data) -> Params:
    leaves = clone(params, requires_grad=True)
    loss = total(objective.terms(leaves, data, create_graph=True))
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {
        key: torch.zeros_like(leaf) if grad is None else grad
        for (key, leaf), grad in zip(leaves.items(), grads, strict=True)
    }


def value_of(objective, params: Params, data) -> float:
    leaves = clone(params, requires_grad=True)
    return total(objective.terms(leaves, data, create_graph=False)).item()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("outer", "baseline"), [("ppo", "value"), ("trpo", "linear")])
@pytest.mark.parametrize("name", policies.names())
def test_second_order_meta_gradient_equals_finite_differences(name, outer, baseline, steps):
    policy = make_policy(name)
    start = make_params(policy)
    data = collected(policy, start, steps)
    objective = make_objective(policy, outer=outer, baseline=baseline)
    params = moved(start)
    gradient = gradient_of(objective, params, data)
    for seed in range(3):
        direction, h = directions(params, seed), 1e-7
        ends = [value_of(objective, along(params, direction, s), data) for s in (h, -h)]
        expected = (ends[0] - ends[1]) / (2 * h)
        assert dot(gradient, direction) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_every_term_takes_part():
    policy = make_policy("gru")
    start = make_params(policy)
    data = collected(policy, start, 1)
    terms = make_objective(policy, baseline="value").terms(
        clone(moved(start), requires_grad=True), data, create_graph=True
    )
    for term in (terms.query_loss, terms.value_loss, terms.inner_kl, terms.outer_kl):
        assert term.shape == (N,)
        assert (term.detach().abs() > 1e-6).all()
    support, query = (replace(batch, value_targets=None) for batch in (*data.support, data.query))
    without = replace(data, support=(support,), query=query)
    linear = make_objective(policy, baseline="linear")
    assert not linear.terms(
        clone(start, requires_grad=True), without, create_graph=True
    ).value_loss.any()


def test_kl_is_zero_where_the_data_was_sampled_and_positive_off_it():
    policy = make_policy("lstm")
    start = make_params(policy)
    data = collected(policy, start, 2)
    objective = make_objective(policy)
    here, there = (
        objective.terms(clone(at, requires_grad=True), data, create_graph=False)
        for at in (start, moved(start))
    )
    assert here.inner_kl.abs().max() < 1e-12
    assert here.outer_kl.abs().max() < 1e-12
    assert (there.inner_kl > 0).all()
    assert (there.outer_kl > 0).all()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", policies.names())
def test_first_order_is_the_gradient_at_the_adapted_parameters(name, steps):
    """Every term's own gradient where it is evaluated, summed over tasks and steps."""
    policy = make_policy(name)
    start = make_params(policy)
    data = collected(policy, start, steps)
    objective = make_objective(policy, baseline="value", first_order=True)
    params = moved(start)
    got = gradient_of(objective, params, data)
    stages, current = [], repeat(params, N)
    for batch in data.support:
        stages.append(current)
        current = plain_step(policy, current, batch)
    stages.append(current)
    summed = {key: torch.zeros_like(value) for key, value in params.items()}
    for index, stage in enumerate(stages):
        part = stage_gradient(objective, stage, data, index)
        summed = {key: value + part[key] for key, value in summed.items()}
    torch.testing.assert_close(got, summed, rtol=1e-9, atol=1e-11)
    exact = gradient_of(make_objective(policy, baseline="value"), params, data)
    difference = {key: exact[key] - got[key] for key in got}
    assert dot(difference, difference) > 1e-6 * dot(got, got)


def plain_step(policy, params: Params, batch: Batch) -> Params:
    """theta − alpha · gradient, written out here once more."""
    leaves = clone(params, requires_grad=True)
    inner_loss(batch.forward(policy, leaves), batch).sum().backward()
    return {
        key: leaf.detach() - (0 if leaf.grad is None else INNER_LR * leaf.grad)
        for key, leaf in leaves.items()
    }


def stage_gradient(objective, stage: Params, data, index: int) -> Params:
    """The gradient of the terms at inner step ``index`` in the parameters there."""
    none: dict = {"support": (), "support_sampled": ()}
    leaves = clone(stage, requires_grad=True)
    kind = type(data)
    if index < len(data.support):
        part = kind(query=data.support[index], query_sampled=data.support_sampled[index], **none)
        terms = objective.terms(leaves, part, create_graph=True)
        loss = (0.3 * terms.value_loss + 0.5 * terms.outer_kl).sum()
    else:
        part = kind(query=data.query, query_sampled=data.query_sampled, **none)
        loss = total(objective.terms(leaves, part, create_graph=True))
    loss.backward()
    return {
        key: torch.zeros_like(leaf[:1]) if leaf.grad is None else leaf.grad.sum(0, keepdim=True)
        for key, leaf in leaves.items()
    }


@pytest.mark.parametrize(("outer", "baseline"), [("ppo", "value"), ("trpo", "linear")])
def test_what_the_mask_hides_changes_nothing(outer, baseline):
    policy = make_policy("gru")
    start = make_params(policy)
    data = collected(policy, start, 1)
    objective = make_objective(policy, outer=outer, baseline=baseline)
    params = moved(start)
    before = gradient_of(objective, params, data), value_of(objective, params, data)
    for batch in (*data.support, data.query):
        hidden = ~batch.mask
        assert hidden.any()
        for part in (batch.x, batch.actions, batch.log_probs, batch.advantages):
            part[hidden] += 3.0
        batch.value_targets[hidden] -= 50.0
    after = gradient_of(objective, params, data), value_of(objective, params, data)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-13)


def test_tasks_do_not_mix():
    """Each task's term depends on its own data alone."""
    policy = make_policy("ssm")
    start = make_params(policy)
    data = collected(policy, start, 1)
    objective = make_objective(policy)
    before = objective.terms(clone(start, requires_grad=True), data, create_graph=False).query_loss
    data.support[0].advantages[1] *= -2
    data.query.actions[1] += 1
    after = objective.terms(clone(start, requires_grad=True), data, create_graph=False).query_loss
    assert after[0].item() == pytest.approx(before[0].item(), abs=1e-13)
    assert abs(after[1] - before[1]) > 1e-4


def test_make_batch_is_on_policy():
    policy = make_policy("mlp")
    start = make_params(policy)
    batch = make_batch(policy, repeat(start, N), 0)
    loss = inner_loss(batch.forward(policy, repeat(start, N)), batch)
    expected = -torch.where(batch.mask, batch.advantages, 0).sum((1, 2)) / batch.mask.sum((1, 2))
    torch.testing.assert_close(loss, expected)


def test_learned_step_sizes_get_their_gradient_too():
    policy = make_policy("gru")
    start = with_step_sizes(make_params(policy), INNER_LR)
    data = collected(policy, start, 1)
    objective = make_objective(policy)
    gradient = gradient_of(objective, start, data)
    sizes = [key for key in start if key.startswith(STEP_SIZE)]
    direction = {
        key: value if key in sizes else torch.zeros_like(value)
        for key, value in directions(start, 0).items()
    }
    ends = [value_of(objective, along(start, direction, h), data) for h in (1e-5, -1e-5)]
    assert dot(gradient, direction) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)
    assert max(gradient[key].abs().max() for key in sizes) > 1e-5


def test_a_step_size_scales_the_step_of_its_own_number():
    policy = make_policy("mlp")
    params = with_step_sizes(repeat(make_params(policy), N), INNER_LR)
    batch = make_batch(policy, params, 0)
    adapter = GradientAdapter(99.0)
    key = STEP_SIZE + "mean.bias"
    doubled = {**params, key: params[key].clone()}
    doubled[key][..., 0] *= 2
    steps = [
        adapter.adapt(policy, p, Shot(batch))["mean.bias"] - p["mean.bias"]
        for p in (params, doubled)
    ]
    assert steps[0].abs().min() > 1e-6
    torch.testing.assert_close(steps[1][..., 0], 2 * steps[0][..., 0])
    torch.testing.assert_close(steps[1][..., 1:], steps[0][..., 1:])
