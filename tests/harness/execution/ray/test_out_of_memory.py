"""Actors that Ray kills to reclaim memory, in a control group with a limit of its own (root)."""

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.reporting.store.manifest import Manifest
from tests.harness.execution.execution_cases import (
    NotPermittedError,
    assert_same,
    curves,
    events,
    played_locally,
    sizes,
    trained,
)
from tests.harness.execution.ray.memory_cases import Allowance

pytestmark = pytest.mark.faults
ALLOWED = 2_400_000_000
"""Bytes for driver, Ray and actors together: they need 1 GB, and Ray acts at 1.9 GB."""
PLAY = """
import sys
import tests.harness.execution.faulty_learners as faulty_learners
from harness.cli import run
from harness.execution.ray import backend
faulty_learners.install()
backend.start(
    num_cpus=1,
    log_to_driver=False,
    logging_level="ERROR",
    object_store_memory=80_000_000,
    runtime_env={"worker_process_setup_hook": "tests.harness.execution.faulty_learners.install"},
    _system_config={"memory_usage_threshold": 0.8, "memory_monitor_refresh_ms": 100},
    _temp_dir=sys.argv[1],
)
sys.exit(run.main(sys.argv[2:]))
"""


@contextmanager
def allowance():
    try:
        given = Allowance(ALLOWED)
    except NotPermittedError as error:
        pytest.skip(str(error))
    folder = tempfile.mkdtemp(prefix="oom-", dir="/tmp")  # short: sockets are in it
    try:
        yield given, folder
    finally:
        given.close()
        shutil.rmtree(folder, ignore_errors=True)


def play_within(name, *learners):
    """Run on a Ray with limited memory; return the exit code."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path.rstrip(os.pathsep), "MPLBACKEND": "Agg"}
    with allowance() as (given, folder):
        argv = [*sizes(*learners), "--epochs", "3", "--checkpoint-every", "1", "--name", name]
        argv += ["--policy", "mlp"]
        argv += ["--backend", "ray", "--num-workers", "1", "--start-timeout", "600"]
        playing = given.start([sys.executable, "-c", PLAY, folder, *argv], env=environment)
        return playing.wait(timeout=600)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_exhausted_memory_costs_only_the_job_that_takes_it(workplace):
    """Ray's own monitor kills the actor, in a control group with a memory limit."""
    assert play_within("x", "eats-once", "eats-always", "maml") == 3
    states = Manifest.load(Path("results/x")).cells.values()
    assert {s.learner: s.status for s in states} == {
        "eats-once": "ok",
        "eats-always": "failed",
        "maml": "ok",
    }
    (reason,) = [state.reason for state in states if state.status == "failed"]
    assert reason.startswith("oom: ")
    reported = events("x")
    assert (reported.kind == "out_of_memory").sum() >= 1 + 3
    # Ray kills the newest first: never the learner, which is older than the workers.
    assert set(reported.kind) <= {"out_of_memory", "cell_failed", "waiting"}
    # The fault has struck already and does not strike here.
    assert played_locally("local", "--learner", "eats-once", "maml") == 0
    assert_same(trained("x"), trained("local"))
    assert curves("local").items() <= curves("x").items()
