"""One finished run, shared by the tests that only read it."""

import pytest

from harness.reporting.rebuild import load_comparison
from tests.harness.reporting.synthetic_run import make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("results") / "run").path


@pytest.fixture(scope="session")
def table(run):
    return load_comparison(run)[0]
