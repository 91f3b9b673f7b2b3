"""A Ray with four CPUs, and faulty learners in every process."""

import os
from pathlib import Path

import pytest
import ray

from harness.execution.ray import backend
from harness.meta import learners
from tests.harness.execution.faulty_learners import NAMES, install


@pytest.fixture(scope="module", autouse=True)
def _no_figures(no_figures):
    """Skip them everywhere."""


@pytest.fixture(autouse=True)
def faults(tmp_path_factory, monkeypatch):
    """Register the faulty learners in this process, with every fault still to come."""
    folder = Path(os.environ.get("FAULTS_DIR") or tmp_path_factory.mktemp("faults"))
    for struck in folder.iterdir():
        struck.unlink()
    monkeypatch.setenv("FAULTS_DIR", str(folder))
    for name in NAMES:
        monkeypatch.setitem(learners.REGISTRY, name, "")
    install()


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="package")
def _ray(tmp_path_factory):
    here, faults = Path(__file__).parent, tmp_path_factory.mktemp("faults")
    before = dict(os.environ)
    # The workers import what the tests import: this tree, and the faulty learners.
    path = os.pathsep.join([str(here.parents[2]), before.get("PYTHONPATH", "")])
    os.environ |= {"FAULTS_DIR": str(faults), "PYTHONPATH": path.rstrip(os.pathsep)}
    backend.start(
        num_cpus=4,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={
            "worker_process_setup_hook": "tests.harness.execution.faulty_learners.install"
        },
    )
    yield
    ray.shutdown()
    os.environ.clear()
    os.environ |= before
