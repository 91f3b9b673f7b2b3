"""The compiled loop computes what the torch loop computes."""

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.fused import compiled
from policies.fused import scan as fused_scan
from policies.fused.scan import compiled_loop, torch_loop
from policies.scan import scan
from tests.policies.test_scan import definition, make_case


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 12),
    resets=st.sampled_from([0.0, 0.2, 1.0]),
    reverse=st.booleans(),
    started=st.booleans(),
    shared=st.booleans(),
    varying=st.booleans(),
)
def test_the_compiled_loop_equals_the_torch_loop(length, resets, reverse, started, shared, varying):
    a, b, first, initial = make_case(length, resets, varying=varying)
    keep = None if resets == 0.0 else (~first).unsqueeze(-1).double()
    start = initial if started and not reverse else None
    arguments = (a[:1] if shared else a, b, keep, start, reverse)
    expected = torch_loop(*arguments, torch.empty_like(b))
    torch.testing.assert_close(compiled_loop(*arguments, torch.empty_like(b)), expected)
    for run in (torch_loop, compiled_loop):
        in_place = b.clone()
        torch.testing.assert_close(run(arguments[0], in_place, *arguments[2:], in_place), expected)


@pytest.mark.parametrize("loop", [compiled_loop, torch_loop])
def test_nan_ends_with_its_episode(loop):
    a, b, _, initial = make_case(4, 0.0)
    b[:, 1] = torch.nan
    keep = torch.ones(2, 4, 3, 1, dtype=torch.float64)
    keep[:, 2] = 0.0
    x = loop(a, b, keep, initial, False, torch.empty_like(b))
    assert x[:, 1].isnan().all()
    assert x[:, 2:].isfinite().all()


def test_the_loop_compiles_where_no_cache_can_be_written(monkeypatch):
    def without_cache(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function '_steps': no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "njit", without_cache)
    monkeypatch.setattr(fused_scan, "_loop", compiled.compiled(fused_scan._steps))
    case = make_case(6, 0.2)
    torch.testing.assert_close(scan(*case), definition(*case))
