"""deploy/slurm.sbatch on stand-ins for Slurm's commands: two logical nodes of this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.reporting.store.manifest import Manifest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
SRUN = """#!/bin/bash
echo "$@" >> "$CALLS"
while [[ $1 == --* ]]; do [[ $1 == --nodes=* ]] && nodes=${1#*=}; shift; done
for ((n = 0; n < nodes; n++)); do "$@" & done
trap 'kill $(jobs -p)' TERM
wait; wait
"""
SCONTROL = """#!/bin/bash
echo "scontrol $@" >> "$CALLS"
if [ "$1" = show ]; then printf 'localhost\\nnode2\\n'; fi
"""
SWEEP = """
base:
  task_dist: point_goal
  preset: smoke
  env: {horizon: 8}
  test_tasks: [0, 1, 2]
  learner: {maml: {meta_batch_size: 4, episodes_per_task: 2, outer_updates: 2}}
  train: {env_steps: null, meta_iterations: %d}
  evaluation: {few_shot: [1], episodes_per_shot: 2, query_episodes: 2}
  execution: {checkpoint_every: 1, tensorboard: false}
sweep:
  policy: [mlp]
  seed: [0, 1]
"""


@pytest.fixture
def batch(tmp_path):
    """Starts the script as Slurm would; ``calls`` are the stand-ins' arguments."""
    commands, calls = tmp_path / "bin", tmp_path / "calls"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    job = str(os.getpid() % 20000)
    environment = os.environ | {
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "CALLS": str(calls),
        "SWEEP": "sweep.yaml",
        "NAME": "x",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_ID": job,
    }  # fmt: skip
    started = []

    def start(iterations):
        (tmp_path / "sweep.yaml").write_text(SWEEP % iterations)
        with (tmp_path / "log").open("ab") as log:
            command = ["bash", str(ROOT / "deploy/slurm.sbatch")]
            process = subprocess.Popen(
                command, env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
            )
        started.append(process)
        return process

    yield start, tmp_path, lambda: calls.read_text().splitlines()
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(120)


def test_a_job_ends_in_time_queues_itself_again_and_goes_on(batch):
    start, folder, calls = batch
    job = start(iterations=40)
    while not list(folder.glob("results/x/cells/*/checkpoints/*.safetensors")):
        assert job.poll() is None, (folder / "log").read_text()
        time.sleep(0.2)
    job.send_signal(signal.SIGTERM)
    assert job.wait(300) == 4, (folder / "log").read_text()
    assert calls()[-1].startswith("scontrol requeue ")
    assert set(Manifest.load(folder / "results/x").cells) == {
        f"point_goal.mlp.maml.s{seed}" for seed in (0, 1)
    }

    assert start(iterations=40).wait(600) == 0, (folder / "log").read_text()
    assert {cell.status for cell in Manifest.load(folder / "results/x").cells.values()} == {"ok"}
    worker, head = sorted(calls()[-2:], key=lambda call: "--head" in call)  # both run at once
    assert "--nodes=1 --nodelist=localhost ray start --head" in head
    assert "--nodes=1 --exclude=localhost ray start --address=localhost:" in worker
    assert (folder / ".ray/auth_token").exists()
