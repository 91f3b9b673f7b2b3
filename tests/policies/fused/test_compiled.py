"""The nonlinearities of compiled loops, and the threads that their matrix products use."""

import math

import pytest
import threadpoolctl
import torch

from policies.fused.compiled import compiled, sigmoid
from policies.fused.tanh import tanh


def logistic(x, y):
    for i in range(len(x)):
        y[i] = sigmoid(x[i])


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 6e-7), (torch.float64, 1e-15)])
def test_tanh_and_sigmoid_are_close_bounded_and_pass_nan_on(dtype, error):
    x = torch.cat([torch.linspace(-20, 20, 40_001), torch.tensor([math.inf, -math.inf])]).to(dtype)
    y = torch.empty_like(x)
    compiled(logistic)(x.numpy(), y.numpy())
    for computed, exact in ((tanh(x), torch.tanh(x.double())), (y, torch.sigmoid(x.double()))):
        assert (computed.double() - exact).abs().max() <= error
        assert computed.abs().max() <= 1
    assert tanh(torch.full((3,), math.nan, dtype=dtype)).isnan().all()


def test_tanh_is_differentiable_to_any_order():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh, x)
    assert torch.autograd.gradgradcheck(tanh, x)


def test_products_inside_loops_use_one_thread():
    pools = threadpoolctl.threadpool_info()
    assert {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"} == {1}
