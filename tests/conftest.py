"""What every test runs under: shapes checked at run time, one thread, no telemetry."""

import collections
import os
import shutil
import sys

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

# Before anything imports these packages: from then on a [2, 3] where a [3, 2] is declared raises.
install_import_hook(["harness.meta", "policies"], "beartype.beartype")
pytest.register_assert_rewrite("harness.conformance")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """With ``-n``, where a file's tests stay together: the long files begin first.

    Those are Ray's, and then the files of most tests.
    """
    if not hasattr(config, "workerinput"):
        return
    rays = {item.path for item in items if item.get_closest_marker("ray")}
    counts = collections.Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in rays, -counts[item.path], str(item.path)))


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep torch on one thread, the setting the workers run with."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="module")
def no_figures():
    """Skip figures: they are half the cost of the smallest run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.reporting.rebuild.write_figures", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    assert found, "CI needs a browser: see .ci/install-browser"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(BROWSER_FLAGS))
        yield browser
        browser.close()
