"""Every registered distribution keeps its contract."""

import task_distributions
from harness.conformance import task_dist_suite

for name in (*task_distributions.names(), "ant-mass@1", "halfcheetah-gravity@1"):
    globals()[f"Test_{name}"] = task_dist_suite(name)
