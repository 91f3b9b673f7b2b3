"""Runs without figures, which are half the cost of small ones."""

import pytest

import harness.reporting.rebuild


@pytest.fixture(scope="module", autouse=True)
def _no_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.reporting.rebuild, "write_figures", lambda *_: None)
        yield
