"""What every test runs under: shapes checked at run time, one thread, no telemetry."""

import collections
import os
import sys
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

# Before anything imports these packages: from then on a [2, 3] where a [3, 2] is declared raises.
install_import_hook(["harness.meta", "policies"], "beartype.beartype")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """With ``-n``: a file's tests stay together, as do all of Ray's; the long groups begin first.

    Those are Ray's, and then the files of most tests.
    """
    if not hasattr(config, "workerinput"):
        return
    groups = {
        item: "ray" if item.get_closest_marker("ray") else str(item.path.relative_to(ROOT))
        for item in items
    }
    counts = collections.Counter(groups.values())
    items.sort(key=lambda item: (groups[item] != "ray", -counts[groups[item]], groups[item]))
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep torch on one thread, the setting the workers run with."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
