"""Every registered distribution keeps its contract."""

from harness.conformance import task_dist_suite
from tests.task_distributions.names import with_earlier_versions

for name in with_earlier_versions():
    globals()[f"Test_{name}"] = task_dist_suite(name)
