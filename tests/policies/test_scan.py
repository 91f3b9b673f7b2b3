"""Both methods of the linear recurrence equal its definition, in every order of derivative."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.scan import scan
from policies.state_space import discretise


def make_case(steps: int, resets: float, seed: int = 0, varying: bool = False):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    a = 0.3 + 0.7 * torch.rand(2, *((steps, 3) if varying else (1, 1)), 4, **options)
    b = torch.randn(2, steps, 3, 4, **options)
    initial = torch.randn(2, 3, 4, **options)
    first = torch.rand(2, steps, 3, **options) < resets
    return a, b, first, initial


def definition(a, b, first, initial):
    x, states = initial, []
    for t in range(b.shape[1]):
        decay = a[:, t if a.shape[1] > 1 else 0]
        x = decay * torch.where(first[:, t, :, None], 0.0, x) + b[:, t]
        states.append(x)
    return torch.stack(states, 1)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 20),
    resets=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 1000),
    varying=st.booleans(),
)
def test_methods_equal_the_definition(steps, resets, seed, varying):
    case = make_case(steps, resets, seed, varying)
    for method in ("loop", "doubling"):
        torch.testing.assert_close(scan(*case, method=method), definition(*case))


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("resets", [0.0, 0.3])
def test_methods_agree_in_three_orders_of_derivative(resets, varying):
    a, b, first, initial = make_case(13, resets, varying=varying)
    rows = []
    for function in (definition, "loop", "doubling"):
        leaves = [part.clone().requires_grad_() for part in (a, b, initial)]
        args = (leaves[0], leaves[1], first, leaves[2])
        x = function(*args) if callable(function) else scan(*args, method=function)
        value, row = x.sin().square().sum(), []
        for _ in range(3):
            grads = torch.autograd.grad(value, leaves, create_graph=True)
            row.extend(grads)
            value = sum(grad.square().sum() for grad in grads)
        rows.append(row)
    for ours in rows[1:]:
        for left, right in zip(rows[0], ours, strict=True):
            torch.testing.assert_close(left, right)


@pytest.mark.parametrize("method", ["loop", "doubling"])
@pytest.mark.parametrize("resets", [0.0, 0.3])
@pytest.mark.parametrize("varying", [False, True])
def test_gradients_equal_finite_differences(method, resets, varying):
    a, b, first, initial = make_case(5, resets, varying=varying)
    leaves = tuple(part.requires_grad_() for part in (a, b, initial))

    def run(a, b, initial):
        return scan(a, b, first, initial, method=method)

    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


def test_bits_do_not_depend_on_the_other_sequences():
    a, b, first, initial = (
        part.float() if part.is_floating_point() else part for part in make_case(9, 0.2)
    )
    whole = scan(a, b, first, initial)
    for row in range(3):
        one = slice(row, row + 1)
        alone = scan(a[1:], b[1:, :, one], first[1:, :, one], initial[1:, one])
        assert torch.equal(alone, whole[1:, :, one])


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'fast'; choose from: auto, loop, doubling"):
        scan(*make_case(2, 0.0), method="fast")


def test_zero_order_hold_is_the_exact_solution():
    """Constant input, x' = -a x + u, against many small Euler steps."""
    log_a, log_dt = torch.tensor([[0.5, 1.5]]).double(), torch.tensor([[-1.0, -3.0]]).double()
    decay, gain = discretise(log_a, log_dt)
    x, pieces = torch.tensor([[2.0, -1.0]]).double(), 10_000
    exact = decay * x + gain * 0.7
    for _ in range(pieces):
        x = x + log_dt.exp() / pieces * (-log_a.exp() * x + 0.7)
    torch.testing.assert_close(exact, x, atol=1e-3, rtol=0)
    assert ((decay > 0) & (decay < 1)).all()
