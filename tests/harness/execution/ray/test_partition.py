"""A network that is really cut: late answers are discarded, and the run goes on."""

import json
import logging
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.harness.execution.execution_cases import (
    SIZES,
    NotPermittedError,
    assert_same,
    curves,
    played_locally,
    records,
)
from tests.harness.execution.ray.network_cases import Network
from tests.harness.execution.ray.test_cluster import QUICK_TO_NOTICE

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]
LOGGER = logging.getLogger(__name__)
"""Shows the times to recover with ``--log-cli-level=INFO``."""
EPOCHS = 12
POLICY = "gru"
"""Its gradients are above the 100 KiB that Ray would send inline by default."""
CELL = f"point_goal.{POLICY}.maml.s0"


@contextmanager
def cluster(*places, cpus):
    """Ray's head without CPUs, and a node with ``cpus`` in each of ``places``."""
    folder = Path(tempfile.mkdtemp(prefix="cut-", dir="/tmp"))
    network = None
    try:
        network = Network(folder, *places)
        network.start_ray("head", "--num-cpus=0", f"--system-config={json.dumps(QUICK_TO_NOTICE)}")
        for place in places:
            network.start_ray(place, f"--num-cpus={cpus}")
        yield network
    except NotPermittedError as error:
        pytest.skip(str(error))
    finally:
        if network is not None:
            network.close()
        shutil.rmtree(folder, ignore_errors=True)


def start(network, workers):
    return network.start(
        "head",
        [
            *(sys.executable, "-m", "harness.run", *SIZES, "--policy", POLICY, "--name", "x"),
            *("--epochs", str(EPOCHS), "--checkpoint-every", "1", "--address", network.address),
            *("--num-workers", str(workers), "--start-timeout", "600"),
        ],
    )


def iterations():
    """Iterations in the newest checkpoint."""
    paths = Path(f"results/x/cells/{CELL}/checkpoints").glob("*.safetensors")
    return max((int(path.stem.rpartition("-")[2]) for path in paths), default=0)


def reported(kind):
    path = Path("results/x/events.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def seconds_of(event):
    return datetime.fromisoformat(event["time"]).timestamp()


def wait(playing, seconds, what, happened):
    """Wait until ``happened`` returns true while the run goes on."""
    end = time.monotonic() + seconds
    while not happened():
        assert playing.poll() is None, f"it ended before this was seen: {what}"
        assert time.monotonic() < end, f"not seen in {seconds} s: {what}"
        time.sleep(0.02)


def cut_in_the_middle(network, place, playing):
    """Cut the link to ``place`` while results are under way; return the time.

    Its actors are suspended until the link is down, so none of their answers can arrive.
    """
    wait(playing, 240, "two checkpoints", lambda: iterations() >= 2)
    workers = network.workers(place)
    assert workers
    for worker in workers:
        worker.suspend()
    time.sleep(0.5)
    network.cut(place)
    for worker in workers:
        worker.resume()
    return time.time()


def assert_like_an_undisturbed_run():
    assert played_locally("local", epochs=EPOCHS, policy=(POLICY,)) == 0
    assert_same(records("x"), records("local"))
    assert curves("x") == curves("local")


def test_a_run_whose_only_workers_are_cut_off_waits_for_a_fresh_node(workplace):
    with cluster("far", cpus=2) as network:
        playing = start(network, workers=2)
        cut = cut_in_the_middle(network, "far", playing)
        wait(playing, 60, "node_lost", lambda: reported("node_lost"))
        wait(playing, 60, "waiting", lambda: reported("waiting"))
        network.heal("far")
        before = iterations()
        wait(playing, 60, "the end of the Ray beyond", lambda: not network.pids("far"))
        time.sleep(5)  # long enough for what was under way to arrive
        assert iterations() == before, "the node was trusted again, or its answers counted"
        began = time.time()
        network.start_ray("far", "--num-cpus=2")
        up = time.time()
        wait(playing, 240, "the next checkpoint", lambda: iterations() > before)
        LOGGER.info(
            "%.1f s to a fresh node, %.1f s more to a checkpoint", up - began, time.time() - up
        )
        assert playing.wait(timeout=240) == 0
    (lost,) = reported("node_lost")
    assert lost["workers"] == 2
    LOGGER.info("%.1f s from the cut to node_lost", seconds_of(lost) - cut)
    died = reported("worker_died")
    assert len({event["job"] for event in died}) == len(died) in (1, 2)
    assert all(event["attempt"] == 1 for event in died)
    assert_like_an_undisturbed_run()


def test_a_run_with_workers_on_this_side_goes_on_without_the_others(workplace):
    with cluster("near", "far", cpus=1) as network:
        playing = start(network, workers=2)
        cut = cut_in_the_middle(network, "far", playing)
        wait(playing, 60, "node_lost", lambda: reported("node_lost"))
        network.heal("far")
        assert playing.wait(timeout=240) == 0
    (lost,) = reported("node_lost")
    assert lost["workers"] == 1
    LOGGER.info("%.1f s from the cut to node_lost", seconds_of(lost) - cut)
    assert len(reported("worker_died")) == 1
    assert not reported("waiting")
    assert_like_an_undisturbed_run()
