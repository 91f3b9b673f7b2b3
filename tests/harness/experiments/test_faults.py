"""Faults of the machine around a run: a full disk, and strangers who knock at Ray's ports."""

import contextlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import ray

import harness.console.display
import harness.reporting.rebuild
from harness.cli import sweep
from harness.errors import UsageError
from harness.execution import checkpoint
from harness.execution.ray import backend
from tests.harness.execution.execution_cases import (
    Listener,
    assert_same,
    curves,
    manifest,
    play,
    played_locally,
    records,
)

pytestmark = pytest.mark.faults

CELL = "point_goal.lstm.maml.s0"
MANIFEST_FITS, CHECKPOINT_DOES_NOT = 100_000, 200_000


@pytest.fixture
def full_disk():
    """Return a switch: from then on no file grows beyond what a manifest needs."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MANIFEST_FITS, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_cell_and_not_its_last_checkpoint(
    workplace, monkeypatch, full_disk, capsys
):
    assert played_locally("whole", policy=("lstm",)) == 0
    listener = Listener(lambda done: full_disk() if done == 2 else None)
    with monkeypatch.context() as patch:
        patch.setattr(harness.console.display, "make_progress", lambda *_: listener)
        assert played_locally("x", policy=("lstm",)) == 3
    assert "Traceback" not in capsys.readouterr().err
    state = manifest().cells[CELL]
    assert state.status == "failed"
    assert state.reason.startswith("disk")
    store = Path("results/x/cells") / CELL / "checkpoints"
    (last,) = store.glob("*.safetensors")
    assert last.stat().st_size > CHECKPOINT_DOES_NOT
    assert checkpoint.read(last).learner["iteration"] == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert played_locally("x", "--resume", policy=("lstm",)) == 0
    assert_same(records("x"), records("whole"))
    assert curves("x") == curves("whole")
    assert not list(Path("results/x").rglob("*.tmp"))


@pytest.mark.parametrize(("failures", "started"), [(1, True), (2, False)])
def test_a_ray_that_does_not_start_is_tried_once_more(monkeypatch, failures, started):
    """On a busy machine: its own limit of 30 s cannot be set."""
    tries = []

    def init(**_):
        tries.append(1)
        if len(tries) <= failures:
            raise Exception("The current node timed out during startup. This could happen …")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    outcome = contextlib.nullcontext() if started else pytest.raises(UsageError, match="too busy")
    with outcome:
        backend.connect(None)
    assert len(tries) == 2


@pytest.mark.parametrize("signalled", [SystemExit(15), KeyboardInterrupt()])
def test_a_signal_while_ray_starts_is_an_interruption(workplace, monkeypatch, signalled, capsys):
    """Ray's own handler of SIGTERM raises SystemExit until ours is in its place."""

    def starting(**_):
        raise signalled

    monkeypatch.setattr(ray, "init", starting)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests may have begun one
    assert play("x") == 4
    Path("s.yaml").write_text("base: {task_dist: point_goal}\nsweep: {policy: [mlp, gru]}\n")
    assert sweep.main(["s.yaml"]) == 4
    assert "Traceback" not in capsys.readouterr().err
    states = manifest().cells.values()
    assert {state.status for state in states} == {"pending"}


STRANGER = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
open("inside", "w").close()
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_a_stranger_without_the_token_does_not_get_into_our_ray(tmp_path):
    """Ray listens on every interface: its token is what keeps others out."""
    address = ray.get_runtime_context().gcs_address
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, address],
        env=clean,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert not (tmp_path / "inside").exists()
    assert "token" in done.stderr.lower()
