"""On Ray: the same numbers as in one process, whatever dies, hangs or raises on the way."""

import contextlib
import time
from pathlib import Path

import psutil
import pytest
import ray
import torch

from harness.cli import parser
from harness.execution.backend import Work
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.execution.ray.backend import RayBackend
from tests.harness.execution.execution_cases import (
    assert_same,
    curves,
    events,
    manifest,
    play,
    played_locally,
    sizes,
    trained,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("_ray")]
NAMES = ("cell", "learner")


@pytest.fixture(autouse=True)
def _here(monkeypatch, workplace):
    # The tests' Ray has four CPUs, whatever this machine has.
    for module in ("execution.preflight", "experiments.run"):
        monkeypatch.setattr(f"harness.{module}.available_cpus", lambda: 4)


def on_workers(count, name, *argv, **kwargs):
    # On a busy machine torch alone may take minutes to load.
    argv = ["--backend", "ray", "--num-workers", str(count), "--start-timeout", "600", *argv]
    return play(name, *argv, **kwargs)


@pytest.fixture(scope="module")
def maml(tmp_path_factory):
    """The records and the curve of maml in this process, which no fault may change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("maml"))
        assert played_locally("x") == 0
        (curve,) = curves("x").values()
        return trained("x", without=NAMES), curve


def assert_like(maml, name="x", learner=None):
    frame = trained(name)
    if learner:
        frame = frame[frame.cell.str.contains(learner, regex=False)].reset_index(drop=True)
    assert_same(frame.drop(columns=list(NAMES)), maml[0])
    found = [rows for cell, rows in curves(name).items() if learner is None or learner in cell]
    assert found == [maml[1]]


def actors():
    """Our actors' processes on this machine."""
    ours = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a ZombieProcess is one too
            title = " ".join(child.cmdline())
            ours += [title] if "ray::Worker" in title or "ray::LearnerHost" in title else []
    return ours


def failures(name="x"):
    states = manifest(name).cells.values()
    return {state.learner: state.reason for state in states if state.status == "failed"}


def test_the_number_of_workers_changes_nothing(maml):
    assert on_workers(2, "x") == 0
    assert_like(maml)
    assert events("x").empty


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        (["--outer", "trpo"], {"outer_updates": None}),
        (["--learner", "rsac"], {"policy": ("gru",)}),
    ],
)
def test_the_number_of_workers_changes_nothing_in(argv, changed):
    assert played_locally("local", *argv, **changed) == 0
    assert on_workers(3, "x", *argv, **changed) == 0
    assert_same(trained("x"), trained("local"))
    assert curves("x") == curves("local")


@pytest.mark.slow
def test_a_death_changes_nothing(maml):
    faults = {
        "dies-in-collect": "worker_died",
        "dies-in-gradient": "worker_died",
        "learner-dies": "learner_died",
        "learner-dies-before-evaluation": "learner_died",
    }
    assert on_workers(2, "x", "--learner", *faults) == 0
    for fault in faults:
        assert_like(maml, learner=f".{fault}.")
    reported = events("x")
    reported = reported[reported.kind != "waiting"].reset_index(drop=True)
    assert list(reported.kind) == list(faults.values())
    assert list(reported.attempt[:2]) == [1, 1]
    assert reported.job[0].startswith(
        "train point_goal.mlp.dies-in-collect.s0 iteration 0 train tasks"
    )
    assert list(reported.cell[2:]) == [f"point_goal.mlp.{fault}.s0" for fault in list(faults)[2:]]


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_once(maml):
    argv = ["--learner", "hangs-always", "hangs-once", "maml", "--job-timeout", "10"]
    assert on_workers(2, "x", *argv) == 3
    assert_like(maml, learner=".hangs-once.")
    assert_like(maml, learner=".maml.")
    (reason,) = failures().values()
    assert reason.startswith("lost: train point_goal.mlp.hangs-always.s0")
    assert "2 times (job_timeout: no answer in 10 s)" in reason
    reported = events("x")
    assert set(reported.kind) - {"waiting"} == {"job_timeout", "cell_failed"}
    assert reported.job.str.contains("hangs-once", na=False).sum() == 1


@pytest.mark.slow
def test_cells_that_cannot_run_fail_alone(maml):
    faults = {
        "raises": "error: ",
        "dies-always": "lost: ",
        "nan-always": "diverged: ",
        "learner-dies-always": "lost: the learner died",
        "disk-full": "disk: ",
    }
    assert on_workers(2, "x", "--learner", *faults, "maml", "--max-skipped", "3") == 3
    reasons = failures()
    assert reasons.keys() == faults.keys()
    for fault, label in faults.items():
        assert reasons[fault].startswith(label)
        assert "Traceback" not in reasons[fault]
    assert "FloatingPointError: <boom>" in reasons["raises"]
    assert "the same command with --backend local" in reasons["raises"]
    kinds = events("x").kind.value_counts()
    assert kinds["cell_failed"] == len(faults)
    assert kinds["learner_died"] == 2
    assert kinds["worker_died"] >= 3
    assert set(trained("x").learner) == {"maml"}
    assert_like(maml, learner=".maml.")


def config_of(learner, *flags, workers=2, **changed):
    argv = [*sizes(learner, **changed), "--policy", "mlp", "--num-workers", str(workers)]
    return parser.load_config([*argv, "--name", "x", "--start-timeout", "600", *flags])


@pytest.fixture
def config():
    return config_of("maml")


def runner_of(backend, config):
    (cell,) = config.cells
    return CellRunner(build_setup(cell, config), config, backend)


def one_iteration(backend, config):
    """The parameters after one iteration, all handles by request, and the jobs."""
    runner = runner_of(backend, config)
    learner = backend.start_learner(runner.setup.cell, None)
    pieces, handles = runner.training_jobs(0), []
    step = learner.advance()
    origin = step.request.payload
    while step.request is not None:
        _, results = backend.run(Work(step.request, pieces, origin))
        handles.append([*results, step.request.payload])
        step = learner.advance(*results)
    (snapshot,) = backend.fetch([learner.snapshot()])
    return snapshot.params, handles, pieces


def assert_same_params(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_a_slow_worker_leaves_its_waiting_jobs_to_the_other(config):
    """One is kept busy with its first job until the other has begun all the rest."""
    params, _, _ = one_iteration(LocalBackend(config), config)
    config = config_of("first-job-last")
    faults = []
    backend = RayBackend(config, lambda *fault: faults.append(fault))
    try:
        found, _, pieces = one_iteration(backend, config)
        slow, *others = (backend.pool.data_owner(job) for job in pieces)
    finally:
        backend.close()
    assert others == [1 - slow] * 3
    assert_same_params(found, params)
    assert not faults


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learner", "expected"), [("dies-in-gradient", [("worker_died", 1)]), ("slow-gradient", [])]
)
def test_jobs_that_wait_behind_another_are_neither_late_nor_lost(config, learner, expected):
    """One worker holds the data of all four jobs and is sent them all at once."""
    params, _, _ = one_iteration(LocalBackend(config), config)
    config = config_of(learner, "--job-timeout", "16", workers=1)
    faults = []
    backend = RayBackend(config, lambda kind, fields: faults.append((kind, fields.get("attempt"))))
    try:
        found, *_ = one_iteration(backend, config)
    finally:
        backend.close()
    assert [fault for fault in faults if fault[0] != "waiting"] == expected
    assert_same_params(found, params)


MANY_JOBS = ("maml", "--envs-per-job", "2")


@pytest.fixture(scope="module")
def iteration(_ray):
    """One iteration of 20 jobs on Ray, and what the driver read: first to last."""
    config = config_of(*MANY_JOBS, meta_batch_size=20)
    backend, read, get = RayBackend(config, lambda *_: None), [], ray.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", lambda what: read.append(get(what)) or read[-1])
        try:
            params, handles, _ = one_iteration(backend, config)
            assert len(actors()) >= 3
        finally:
            backend.close()
    return params, handles, read


def test_more_jobs_than_are_added_in_one_group_change_nothing(iteration):
    """20 jobs are two groups of the tree along which gradients are added."""
    found, handles, _ = iteration
    config = config_of(*MANY_JOBS, meta_batch_size=20)
    params, *_ = one_iteration(LocalBackend(config), config)
    assert [len(of_request) for of_request in handles] == [20 + 1] * 3
    assert_same_params(found, params)


def test_the_driver_gets_references_and_reads_receipts_only(iteration):
    _, handles, read = iteration
    assert all(isinstance(handle, ray.ObjectRef) for of_request in handles for handle in of_request)
    *read, (snapshot,) = read  # which the test fetched
    assert type(snapshot).__name__ == "PolicySnapshot"
    # str: the node of a worker that has answered its probe.
    names = {type(value).__name__ for value in read}
    assert names - {"str"} == {"NoneType", "LearnerStep", "Receipt"}


@pytest.mark.usefixtures("iteration")
def test_nothing_of_ours_is_left_after_closing():
    assert ray.is_initialized(), "a Ray that was there before was shut down"
    for _ in range(600):
        if not actors():
            return
        time.sleep(0.05)
    pytest.fail(f"still there: {actors()}")


def test_more_workers_than_the_cluster_has_are_refused():
    assert on_workers(9, "x") == 2
    assert not Path("results/x").exists()
