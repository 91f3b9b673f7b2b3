"""Runs that are stopped or killed, and continued: the same numbers as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness.console.display
from harness.errors import ExitCode
from tests.harness.execution.execution_cases import (
    SIZES,
    Listener,
    assert_same,
    curves,
    events,
    manifest,
    played_locally,
    records,
)

pytestmark = pytest.mark.faults

CELL = "point_goal.lstm.maml.s0"
POLICY = ("lstm",)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("uninterrupted"))
        assert played_locally("x", policy=POLICY) == 0
        return records("x"), curves("x")


def listen(monkeypatch, on_iteration=None):
    listener = Listener(on_iteration)
    monkeypatch.setattr(harness.console.display, "make_progress", lambda *_: listener)
    return listener


def state(cell=CELL):
    return manifest().cells[cell]


def signal_at(iteration, *numbers):
    def strike(done):
        if done == iteration:
            for number in numbers:
                os.kill(os.getpid(), number)

    return strike


def resume_and_compare(uninterrupted):
    assert played_locally("x", "--resume", policy=POLICY) == 0
    assert state().status == "ok"
    assert_same(records("x"), uninterrupted[0])
    assert curves("x") == uninterrupted[1]
    assert not list(Path("results/x").rglob("*.tmp"))


@pytest.mark.parametrize(("number", "every"), [(signal.SIGINT, 1), (signal.SIGTERM, 10)])
def test_a_signal_ends_after_the_iteration_and_its_checkpoint(
    workplace, monkeypatch, uninterrupted, number, every
):
    listener = listen(monkeypatch, signal_at(2, number))
    assert played_locally("x", checkpoint_every=every, policy=POLICY) == 4
    assert listener.was_closed
    assert listener.iterations == [1, 2]
    assert any(number.name in note for note in listener.notes)
    assert state().status == "running"
    assert [row[0] for row in curves("x")[CELL]] == [1, 2]
    assert not Path(f"results/x/cells/{CELL}/records.parquet").exists()
    listener = listen(monkeypatch)
    resume_and_compare(uninterrupted)
    assert listener.iterations == [3], "finished iterations were done again"


def test_the_second_signal_ends_at_once_and_nothing_is_lost(workplace, monkeypatch, uninterrupted):
    listener = listen(monkeypatch, signal_at(2, signal.SIGINT, signal.SIGINT))
    assert played_locally("x", policy=POLICY) == 4
    assert listener.was_closed
    assert [row[0] for row in curves("x")[CELL]] == [1]
    listener = listen(monkeypatch)
    resume_and_compare(uninterrupted)
    assert listener.iterations == [2, 3]


def test_a_signal_while_scoring_costs_the_scores_only(workplace, monkeypatch, uninterrupted):
    listener = listen(monkeypatch)

    def strike(key, *_):
        if key == CELL:
            os.kill(os.getpid(), signal.SIGTERM)

    listener.evaluating = strike
    assert played_locally("x", policy=POLICY) == 4
    assert not Path(f"results/x/cells/{CELL}/records.parquet").exists()
    listener = listen(monkeypatch)
    resume_and_compare(uninterrupted)
    assert listener.iterations == []


def test_a_run_that_ends_on_a_bug_can_be_continued(workplace, monkeypatch, uninterrupted, capsys):
    def bug(iteration):
        if iteration == 2:
            raise ZeroDivisionError

    listener = listen(monkeypatch, bug)
    assert played_locally("x", policy=POLICY) == ExitCode.INTERNAL
    assert listener.was_closed
    assert "ZeroDivisionError" in Path("results/x/crash.txt").read_text()
    error = capsys.readouterr().err
    assert "results/x/crash.txt" in error
    assert "Traceback" not in error
    listen(monkeypatch)
    resume_and_compare(uninterrupted)


@pytest.mark.parametrize("victim", ["newest checkpoint", "every checkpoint"])
def test_damaged_checkpoints_cost_time_only(workplace, monkeypatch, uninterrupted, victim):
    listen(monkeypatch, signal_at(2, signal.SIGTERM))
    assert played_locally("x", policy=POLICY) == 4
    stored = sorted(Path(f"results/x/cells/{CELL}/checkpoints").glob("*.safetensors"))
    assert len(stored) == 2
    damaged = stored[-1:] if victim == "newest checkpoint" else stored
    for path in damaged:
        path.write_bytes(path.read_bytes()[:100])
    listener = listen(monkeypatch)
    resume_and_compare(uninterrupted)
    assert listener.iterations == ([2, 3] if victim == "newest checkpoint" else [1, 2, 3])
    told = events("x").query("kind == 'checkpoint_damaged'")
    assert sorted(Path(path).name for path in told.path) == [path.name for path in damaged]
    for reason in told.reason:
        assert any(reason in note for note in listener.notes)


LONG = {"epochs": 20, "policy": ("mlp",)}
LONG_CELL = "point_goal.mlp.maml.s0"


def start():
    argv = [sys.executable, "-m", "harness.run", *SIZES, "--policy", "mlp"]
    argv += ["--epochs", "20", "--checkpoint-every", "1", "--name", "x", "--backend", "local"]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(process, number):
    folder, first = Path(f"results/x/cells/{LONG_CELL}/checkpoints"), f"iteration-{number:06d}"
    # Or a later one: only the newest two are kept.
    while process.poll() is None:
        if any(path.stem >= first for path in folder.glob("iteration-*.safetensors")):
            return
        time.sleep(0.002)


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("twenty"))
        assert played_locally("x", **LONG) == 0
        return records("x"), curves("x")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_is_continued(workplace, monkeypatch, twenty, number):
    process = start()
    wait_for_checkpoint(process, 2)
    process.send_signal(number)
    _, error = process.communicate(timeout=240)
    assert "Traceback" not in error
    assert process.returncode == (4 if number == signal.SIGTERM else -signal.SIGKILL)
    assert state(LONG_CELL).status == "running"
    listener = listen(monkeypatch)
    assert played_locally("x", "--resume", **LONG) == 0
    assert 2 < listener.iterations[0] < 20, "it was over before it was killed"
    assert listener.iterations == list(range(listener.iterations[0], 21))
    assert_same(records("x"), twenty[0])
    assert curves("x") == twenty[1]
