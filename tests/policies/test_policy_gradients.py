"""Derivatives of every registered policy, to the third order, against finite differences."""

import pytest
import torch

from policies.base import Memory, Params
from policies.params import clone
from tests.policies.policy_cases import CASES, TASKS, make, make_inputs, own_params, used_memory


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


def test_every_parameter_gets_a_gradient(name):
    policy = make(name)
    params = clone(own_params(policy), requires_grad=True)
    x, first = make_inputs()
    out = policy.forward(params, x, first, used_memory(policy, params))
    loss = (out.action_params.square().sum() + out.value.sin().sum()) * out.log_std.exp().sum()
    for key, grad in zip(params, torch.autograd.grad(loss, list(params.values())), strict=True):
        assert grad.isfinite().all(), key
        assert (grad.flatten(1).abs().amax(1) > 0).all(), key


def meta_objective(policy, params: Params, data, memory: Memory) -> torch.Tensor:
    """One inner gradient step, then another loss: the shape of MAML."""
    x, first = data

    def loss(values: Params, shift: float) -> torch.Tensor:
        out = policy.forward(values, x + shift, first, memory)
        spread = (out.log_std + shift).exp().sum()
        return (out.action_params.sin().sum() + out.value.square().sum()) / x.shape[2] + spread

    grads = torch.autograd.grad(loss(params, 0.0), list(params.values()), create_graph=True)
    adapted = {
        key: value - 0.1 * grad for (key, value), grad in zip(params.items(), grads, strict=True)
    }
    return loss(adapted, 0.3)


@pytest.mark.parametrize("shared", [False, True])
def test_gradient_through_an_inner_step_equals_finite_differences(name, shared):
    policy = make(name)
    params = own_params(policy, 1 if shared else TASKS, torch.float64)
    data, memory = make_inputs(torch.float64, steps=9), None
    memory = used_memory(policy, params, torch.float64)
    params = clone(params, requires_grad=True)
    value = meta_objective(policy, params, data, memory)
    grads = torch.autograd.grad(value, list(params.values()))
    generator = torch.Generator().manual_seed(3)
    for key, grad in zip(params, grads, strict=True):
        direction = torch.randn(grad.shape, generator=generator, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            moved = clone(params, requires_grad=True)
            moved[key] = (params[key] + sign * 1e-6 * direction).detach().requires_grad_()
            ends.append(meta_objective(policy, moved, data, memory).item())
        expected = (ends[0] - ends[1]) / 2e-6
        assert (grad * direction).sum().item() == pytest.approx(expected, rel=2e-5, abs=2e-6), key


def test_hessian_vector_product_through_an_inner_step(name):
    """The third order, which exact MAML-TRPO needs."""
    policy = make(name)
    memory = used_memory(policy, own_params(policy), torch.float32)
    memory = tuple(part.double() for part in memory)
    data = make_inputs(torch.float64, steps=6, resets=0.3)
    start = own_params(policy, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    vector, direction = (
        {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in start.items()}
        for _ in range(2)
    )

    def slope(values: Params) -> torch.Tensor:
        value = meta_objective(policy, values, data, memory)
        grads = torch.autograd.grad(value, list(values.values()), create_graph=True)
        return sum((grad * vector[key]).sum() for key, grad in zip(values, grads, strict=True))

    params = clone(start, requires_grad=True)
    product = torch.autograd.grad(slope(params), list(params.values()))
    assert any(part.abs().max() > 0 for part in product)
    got = sum((part * direction[key]).sum() for key, part in zip(params, product, strict=True))
    ends = [
        slope(clone({k: v + step * direction[k] for k, v in start.items()}, requires_grad=True))
        for step in (1e-6, -1e-6)
    ]
    assert got.item() == pytest.approx((ends[0] - ends[1]).item() / 2e-6, rel=1e-5)
