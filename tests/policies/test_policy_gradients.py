"""Third derivatives of every registered policy, against finite differences."""

import pytest
import torch

from harness.conformance.policies import make_inputs, meta_objective, own_params, used_memory
from policies.base import Params
from policies.params import clone
from tests.policies.policy_cases import CASES, make


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


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
