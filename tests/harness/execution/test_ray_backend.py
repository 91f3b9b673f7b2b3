"""On Ray: the same numbers as in one process, whoever dies, hangs or raises in between."""

from pathlib import Path

import psutil
import pytest
import ray
from execution_cases import SIZES, assert_same, curves, events, played_locally, trained

import harness.reporting.rebuild
from harness import cli
from harness.execution import on_ray
from harness.execution.backend import Work
from harness.execution.cell import CellRunner, cells
from harness.execution.on_ray import RayBackend
from harness.meta.problem import Problem
from harness.reporting.manifest import Manifest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("_ray")]
NAMES = ("cell", "learner")


@pytest.fixture(autouse=True)
def _here(monkeypatch, workplace):
    monkeypatch.setattr(harness.reporting.rebuild, "write_figures", lambda *_: None)
    # The tests' Ray has four CPUs, whatever this machine has.
    monkeypatch.setattr("harness.execution.preflight.available_cpus", lambda: 4)


def on_workers(count, name, *argv, **kwargs):
    argv = ["--backend", "ray", "--num-workers", str(count), *argv]
    from execution_cases import play

    return play(name, *argv, **kwargs)


@pytest.fixture(scope="module")
def maml(tmp_path_factory):
    """What a fault must not change: the records and the curve of maml, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("maml"))
        assert played_locally("x") == 0
        (curve,) = curves("x").values()
        return trained("x", without=NAMES), curve


def assert_like(maml, name="x", learner=None):
    frame = trained(name)
    if learner:
        frame = frame[frame.learner == learner].reset_index(drop=True)
    assert_same(frame.drop(columns=list(NAMES)), maml[0])
    found = [rows for cell, rows in curves(name).items() if learner is None or learner in cell]
    assert found == [maml[1]]


def actors():
    """Our actors' processes on this machine."""
    children = psutil.Process().children(recursive=True)
    titles = [" ".join(child.cmdline()) for child in children if child.is_running()]
    return [title for title in titles if "ray::Worker" in title or "ray::LearnerHost" in title]


@pytest.mark.parametrize("outer", ["ppo", "trpo"])
def test_the_number_of_workers_changes_nothing(outer):
    assert played_locally("local", "--outer", outer) == 0
    for count in (1, 3):
        assert on_workers(count, f"on-{count}", "--outer", outer) == 0
        assert_same(trained(f"on-{count}"), trained("local"))
        assert curves(f"on-{count}") == curves("local")
        assert events(f"on-{count}").empty


@pytest.mark.parametrize("fault", ["dies-in-collect", "dies-in-gradient"])
def test_a_worker_that_dies_changes_nothing(fault, maml):
    assert on_workers(2, "x", "--learner", fault) == 0
    assert_like(maml)
    (event,) = events("x").to_dict("records")
    assert event["kind"] == "worker_died"
    assert event["attempt"] == 1
    assert "train tasks" not in event["cause"]
    assert f"point_goal.mlp.{fault}.s0 iteration" in event["job"]


@pytest.mark.parametrize("fault", ["learner-dies", "learner-dies-before-evaluation"])
def test_a_learner_that_dies_goes_back_to_its_checkpoint(fault, maml):
    assert on_workers(2, "x", "--learner", fault) == 0
    assert_like(maml)
    assert list(events("x").kind) == ["learner_died"]


def test_a_worker_that_hangs_once_changes_nothing(maml):
    assert on_workers(2, "x", "--learner", "hangs-once", "--job-timeout", "2") == 0
    assert_like(maml)
    assert list(events("x").kind) == ["job_timeout"]


@pytest.mark.parametrize(
    ("fault", "label", "kinds"),
    [
        ("hangs-always", "lost: ", {"job_timeout"}),
        ("dies-always", "lost: ", {"worker_died"}),
        ("learner-dies-always", "lost: ", {"learner_died"}),
        ("raises", "error: ", set()),
        ("nan-always", "diverged: ", set()),
        ("disk-full", "disk: ", set()),
    ],
)
def test_a_cell_that_cannot_be_played_fails_alone(fault, label, kinds, maml):
    argv = ["--learner", fault, "maml", "--job-timeout", "2"]
    assert on_workers(2, "x", *argv) == 3
    states = Manifest.load(Path("results/x/manifest.json")).cells.values()
    failed, fine = states
    assert (failed.status, fine.status) == ("failed", "ok")
    assert failed.reason.startswith(label)
    assert "Traceback" not in failed.reason
    if fault == "raises":
        assert "FloatingPointError: <boom>" in failed.reason
        assert "--backend local --policy mlp --learner raises --seed 0" in failed.reason
    assert set(events("x").kind) == {"cell_failed", *kinds}
    assert_like(maml, learner="maml")


@pytest.fixture
def config():
    argv = [*SIZES, "--policy", "mlp", "--num-workers", "2", "--name", "x"]
    return cli.load_config(argv)


def test_the_driver_gets_references_and_reads_receipts_only(config, monkeypatch):
    backend = RayBackend(config, lambda *_: None)
    read = []
    get = ray.get
    monkeypatch.setattr(on_ray.ray, "get", lambda what: read.append(get(what)) or read[-1])
    try:
        (cell,) = cells(config)
        learner = backend.start_learner(cell, None)
        pieces = CellRunner(Problem.build(cell, config), backend).training_jobs(0)
        step, payload = learner.advance([])
        receipts, results = backend.run(Work(step.kind, pieces, payload, payload))
        learner.advance(results)
    finally:
        backend.close()
    assert len(receipts) == len(results) == len(pieces) > 1
    assert all(isinstance(result, ray.ObjectRef) for result in (*results, payload))
    assert {type(value).__name__ for value in read} == {"NoneType", "Advance", "Receipt"}


def test_nothing_of_ours_is_left_after_closing(config):
    backend = RayBackend(config, lambda *_: None)
    (cell,) = cells(config)
    backend.start_learner(cell, None)
    assert len(actors()) >= 3
    backend.close()
    assert ray.is_initialized(), "a Ray that was there before was shut down"
    gone = psutil.wait_procs([], timeout=0)
    for _ in range(200):
        if not actors():
            break
        gone = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=0.05)
    assert not actors(), gone


def test_more_workers_than_the_cluster_has_are_refused():
    assert on_workers(4, "fits", epochs=0) == 0
    assert on_workers(9, "x") == 2
    assert not Path("results/x").exists()
