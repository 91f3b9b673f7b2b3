"""The fused series, computed in pieces, equals the reference."""

import pytest
import torch

from policies.fused import series as fused_series
from policies.state_space import run_series
from policies.state_space import series_reference as reference

STEPS, BATCH = 7, 2


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(fused_series, "ROWS", 3)  # 14 rows: four whole pieces and a rest


def make_case():
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    shapes = [
        (STEPS * BATCH, 3),
        (BATCH, 4),
        (3, 5),
        (1, 5),
        (1, 4),
        (5, 4),
        (4, 2),
        (3, 2),
        (1, 2),
    ]
    case = [torch.randn(1, *shape, **options) for shape in shapes]
    case[4] = case[4].sigmoid()  # the diagonal of A
    return case


@pytest.mark.parametrize("wants_x", [True, False])
def test_values_and_gradients_equal_the_reference(wants_x):
    rows = []
    for function in (reference, lambda x, h, *parts: run_series(x, h, parts)):
        leaves = [
            part.requires_grad_(number > 0 or wants_x) for number, part in enumerate(make_case())
        ]
        y, last = function(*leaves)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        value = y.square().sum() + (last * y[:, -BATCH:, :1]).sin().sum()
        first = torch.autograd.grad(value, wanted, create_graph=True)
        once = sum(gradient.square().sum() for gradient in first)
        rows.append([y, last, *first, *torch.autograd.grad(once, wanted)])
    for plain, ours in zip(*rows, strict=True):
        torch.testing.assert_close(ours, plain)


def test_gradients_that_need_no_graph_equal_finite_differences():
    case = [part.requires_grad_() for part in make_case()]
    assert torch.autograd.gradcheck(lambda x, h, *parts: run_series(x, h, parts), case)


@pytest.mark.parametrize("wants_x", [True, False])
def test_first_gradients_are_the_same_with_and_without_a_graph(wants_x):
    found = []
    for graph in (True, False):
        leaves = [part.requires_grad_() for part in make_case()]
        leaves[0].requires_grad_(wants_x)
        y, last = run_series(leaves[0], leaves[1], tuple(leaves[2:]))
        wanted = leaves[0 if wants_x else 1 :]
        found.append(torch.autograd.grad(y.sin().sum() + last.sum(), wanted, create_graph=graph))
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right)


def test_autocast_uses_the_reference():
    case = [part.float() for part in make_case()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = run_series(case[0], case[1], tuple(case[2:]))
    plain, _ = run_series(case[0], case[1], tuple(case[2:]))
    torch.testing.assert_close(y.float(), plain, atol=0.2, rtol=0.05)
