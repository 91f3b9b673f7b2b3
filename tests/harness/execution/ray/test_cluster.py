"""Several nodes on one machine, joined with --address: same numbers, even if a node is lost."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from harness.cli import run
from harness.errors import UsageError
from harness.execution.ray.backend import check_nodes
from tests.harness.execution.execution_cases import assert_same, curves, events, trained

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[4]
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
SIZES = [
    *("--task-dist", "point_goal", "--horizon", "8", "--test-tasks", "0", "1", "2", "3", "4"),
    # 20 jobs an iteration: more than one group of the tree along which gradients are added.
    *("--meta-batch-size", "20", "--episodes-per-task", "2", "--envs-per-job", "2"),
    *("--outer-updates", "2", "--episodes-per-iteration", "40", "--tasks-per-iteration", "20"),
    *("--update-epochs", "1"),
    *("--few-shot", "1", "--episodes-per-shot", "2", "--query-episodes", "2"),
    *("--policy", "gru", "--learner", "maml", "rl2", "--checkpoint-every", "1"),
]


@contextmanager
def cluster(nodes, cpus):
    """A head without CPUs: every worker is on another node than driver and learner."""
    memory = {"object_store_memory": 80 * 1024**2}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK_TO_NOTICE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])  # the nodes import this tree
        started = Cluster(initialize_head=True, head_node_args=head | memory)
        try:
            yield started, [started.add_node(num_cpus=cpus, **memory) for _ in range(nodes)]
        finally:
            for node in list(started.worker_nodes):  # draining each would take half a minute
                started.remove_node(node, allow_graceful=False)
            started.shutdown()


def command(name, address, workers, *argv):
    return [
        *(sys.executable, "-m", "harness.run", *SIZES, "--name", name, "--address", address),
        *("--num-workers", str(workers), "--start-timeout", "600", *argv),
    ]


def environment():
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "MPLBACKEND": "Agg"}


def test_three_nodes_give_the_numbers_of_one_process(workplace):
    with cluster(nodes=3, cpus=2) as (started, _):
        argv = command("x", started.address, 6, "--epochs", "2")
        done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert events("x").empty
    assert run.main([*SIZES, "--epochs", "2", "--name", "local", "--backend", "local"]) == 0
    assert_same(trained("x"), trained("local"))
    assert curves("x") == curves("local")


def test_a_lost_node_is_reported_and_changes_nothing(workplace):
    sizes = ["--epochs", "12"]
    with cluster(nodes=2, cpus=2) as (started, nodes):
        argv = command("x", started.address, 4, *sizes)
        playing = subprocess.Popen(argv, env=environment())
        try:
            began = Path("results/x/cells")
            while not list(began.glob("*/checkpoints/*.safetensors")):
                assert playing.poll() is None, "it ended before the node was lost"
                time.sleep(0.05)
            started.remove_node(nodes[1], allow_graceful=False)
            assert playing.wait(timeout=600) == 0
        finally:
            playing.kill()
    reported = [
        json.loads(line) for line in Path("results/x/events.jsonl").read_text().splitlines()
    ]
    (lost,) = [event for event in reported if event["kind"] == "node_lost"]
    assert lost["workers"] == 2
    assert run.main([*SIZES, *sizes, "--name", "local", "--backend", "local"]) == 0
    assert_same(trained("x"), trained("local"))
    assert curves("x") == curves("local")


def test_a_node_without_the_folder_of_the_run_is_named(tmp_path):
    with cluster(nodes=1, cpus=2) as (started, _):
        ray.init(address=started.address, log_to_driver=False)
        try:
            check_nodes([], tmp_path)
            with pytest.raises(UsageError, match="does not have"):
                check_nodes([], tmp_path / "absent")
        finally:
            ray.shutdown()


def test_plug_in_files_reach_nodes_with_another_folder_and_home(workplace, tmp_path, monkeypatch):
    place, home = Path.cwd(), tmp_path / "home"
    shutil.copytree(ROOT / "examples/plugins", home / "mine")
    shutil.copy(ROOT / "examples/plugins/reptile.py", place)
    if (token := Path.home() / ".ray").exists():  # Ray's, once another test has asked for one
        shutil.copytree(token, home / ".ray")
    sizes = [
        *("--task-dist", "point_goal", "--horizon", "8", "--test-tasks", "0", "1", "--epochs", "1"),
        *("--policy", "~/mine/minlstm.py:build", "--learner", "reptile.py:REPTILE"),
        *("--meta-batch-size", "4", "--episodes-per-task", "2", "--few-shot", "1"),
    ]
    monkeypatch.chdir("/")  # where the nodes' processes start
    with cluster(nodes=1, cpus=2) as (started, _):
        monkeypatch.chdir(place)
        monkeypatch.setenv("HOME", str(home))
        argv = [sys.executable, "-m", "harness.run", *sizes, "--name", "x", "--num-workers", "2"]
        argv += ["--address", started.address, "--start-timeout", "600"]
        done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert run.main([*sizes, "--name", "local", "--backend", "local"]) == 0
    assert_same(trained("x"), trained("local"))
