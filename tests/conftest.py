"""What every test runs under: shapes checked at run time, one thread, no telemetry."""

import os
import sys

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

# Before anything imports these packages: from then on a [2, 3] where a [3, 2] is declared raises.
install_import_hook(["harness.meta", "policies"], "beartype.beartype")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """With ``-n``: the tests of a file stay together, as do all of Ray's, which begin first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("ray") is None)
        for item in items:
            ray = item.get_closest_marker("ray")
            group = "ray" if ray else str(item.path.relative_to(config.rootpath))
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep torch on one thread, the setting the workers run with."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
