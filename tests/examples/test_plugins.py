"""A distribution, a policy and a learner from files, on Ray, killed and resumed by name alone."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records
from tests.docs.pages import ROOT

CHOSEN = [
    *("--task-dist", "plugins/halfcheetah_dir.py:halfcheetah_dir"),
    *("--policy", "plugins/minlstm.py:build"),
    *("--learner", "plugins/reptile.py:REPTILE", "--reptile.step-size", "0.5"),
    *("--preset", "smoke", "--meta-batch-size", "4", "--episodes-per-task", "2"),
    *("--few-shot", "1", "--episodes-per-shot", "2", "--query-episodes", "1"),
    *("--horizon", "20", "--no-tensorboard", "--epochs", "8", "--checkpoint-every", "1"),
]
CELL = "halfcheetah_dir.minlstm.reptile.s0"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder outside the repository with the example files, and short paths for Ray's sockets."""
    shutil.copytree(ROOT / "examples" / "plugins", tmp_path / "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def command(*argv):
    return [sys.executable, "-m", *argv]


def run(place, *argv):
    return subprocess.run(command(*argv), cwd=place, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_killed_run_of_plugins_resumes_by_name_alone(place):
    options = ["--num-workers", "2", "--start-timeout", "600", "--name", "killed"]
    started = subprocess.Popen(
        command("harness.run", *CHOSEN, *options),
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoints = place / "results/killed/cells" / CELL / "checkpoints"
    while len(list(checkpoints.glob("*.safetensors"))) < 2:
        assert started.poll() is None, "it ended before it was killed"
        time.sleep(0.05)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert Manifest.load(place / "results/killed").cells[CELL].status == "running"

    # A changed file is refused, and the run is left as it is.
    source = place / "plugins/reptile.py"
    kept = source.read_text()
    source.write_text(f"{kept}# changed\n")
    refused = run(place, "harness.run", "--resume", "killed")
    assert refused.returncode == 2
    assert "plugins/reptile.py:REPTILE has changed" in refused.stderr
    source.write_text((place / "results/killed/plugins/reptile.py").read_text())
    assert source.read_text() == kept

    resumed = run(place, "harness.run", "--resume", "killed")
    assert resumed.returncode == 0, resumed.stderr
    whole = run(place, "harness.run", *CHOSEN, "--backend", "local", "--name", "whole")
    assert whole.returncode == 0, whole.stderr
    returns = [read_records(place / f"results/{name}")["return_"] for name in ("killed", "whole")]
    assert returns[0].tolist() == returns[1].tolist()
    for words in (["harness.status"], ["harness.tables"]):
        done = run(place, *words, "results/killed")
        assert done.returncode == 0, done.stderr
        assert "minlstm" in done.stdout
    newest = max(checkpoints.glob("*.safetensors"))
    done = run(place, "harness.run", "eval", "--checkpoint", str(newest), "--backend", "local")
    assert done.returncode == 0, done.stderr
