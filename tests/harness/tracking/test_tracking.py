"""What TensorBoard and Weights & Biases are given: the curves and scores, nothing twice."""

import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tensorboardX.proto.event_pb2 import Event

import harness.console.display
from harness.cli import run, sweep
from harness.execution import local, preflight
from harness.reporting.store.records import read_curves
from harness.rllib import command
from harness.rllib import run as rllib_run
from harness.tracking import tracking
from tests.harness.execution.execution_cases import Listener, played_locally, trained

CELL = "point_goal.mlp.maml.s0"


@pytest.fixture(autouse=True)
def _here(workplace):
    """In an empty folder."""


def scalars(run_dir):
    """The scalars in the event file of the cell: tag -> {step: value}."""
    (path,) = (Path(run_dir) / "cells" / CELL / "tensorboard").iterdir()
    body, found, offset = path.read_bytes(), {}, 0
    while offset < len(body):
        (length,) = struct.unpack_from("<Q", body, offset)
        event = Event.FromString(body[offset + 12 : offset + 12 + length])
        offset += 16 + length
        for value in event.summary.value:
            steps = found.setdefault(value.tag, {})
            assert event.step not in steps, "written twice"
            steps[event.step] = value.simple_value
    return found


def expected(name="x"):
    """The same from the run's curve and records."""
    (curve,) = read_curves(Path("results") / name).values()
    frame = trained(name)
    return {
        "return/before adaptation": {m.env_steps: m.pre_return for m in curve},
        "return/after adaptation": {m.env_steps: m.post_return for m in curve},
        "learner/outer_kl": {m.env_steps: m.info["outer_kl"] for m in curve},
        "seconds/physics": {m.env_steps: m.seconds["physics"] for m in curve},
        "test/return by shots": frame.groupby("shots").return_.mean().to_dict(),
    }


def check(found, want):
    for tag, steps in want.items():
        assert found[tag] == pytest.approx(steps, rel=1e-6), tag
    assert min(found["env steps per second"].values()) > 0


def test_a_resumed_run_has_its_curve_in_tensorboard_once(monkeypatch):
    def stop(done):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(harness.console.display, "make_progress", lambda *_: Listener(stop))
        assert played_locally("x") == 4
    assert played_locally("x", "--resume") == 0
    check(scalars("results/x"), expected())
    (path,) = Path("results/x").glob("cells/*/checkpoints/*3.safetensors")
    argv = ["evaluate", "--checkpoint", str(path), "--backend", "local", "--name", "e"]
    assert run.main(argv) == 0
    assert set(scalars("results/e")) == {"test/return by shots", "test/success by shots"}
    assert run.main([*argv[:-1], "none", "--no-tensorboard"]) == 0
    assert not list(Path("results/none").rglob("tensorboard"))


def test_a_disk_that_is_full_costs_the_view_and_not_the_run(monkeypatch, capsys):
    class Full(tracking.TensorBoard):
        def _write(self, *_, **fields):
            if fields.get("step"):
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracking, "TensorBoard", Full)
    assert played_locally("x", epochs=1) == 0
    assert f"Full is left out for {CELL}: [Errno 28]" in capsys.readouterr().err


def test_packages_that_are_missing_are_named_before_anything_is_made(monkeypatch, capsys):
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    assert played_locally("x") == 2
    assert "--no-tensorboard" in capsys.readouterr().err
    assert played_locally("x", "--no-tensorboard", "--wandb") == 2
    assert "pip install wandb" in capsys.readouterr().err
    settings = "{task_dist: point_goal, execution: {tensorboard: false, wandb: true}}"
    Path("s.yaml").write_text(f"base: {settings}\nsweep: {{policy: [mlp]}}\n")
    assert sweep.main(["s.yaml"]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    monkeypatch.setattr(rllib_run, "run_reference", lambda *_, **__: 0)
    assert command.main(["--task-dist", "point_goal", "--no-tensorboard", "--wandb"]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    assert not Path("results").exists()


class FakeRun:
    """Remembers what a run of wandb was told."""

    def __init__(self, asked):
        self.asked, self.logged, self.summary, self.finished = asked, [], {}, False
        self.log = self.logged.append

    def finish(self):
        self.finished = True


@pytest.fixture
def runs(monkeypatch):
    """The runs of a wandb that is not installed."""
    runs, fake = [], ModuleType("wandb")
    fake.Settings = dict

    def init(**asked):
        # As wandb 0.31 does, which returns a run that was not finished unless told otherwise.
        if not runs or runs[-1].finished or asked.get("reinit") == "create_new":
            runs.append(FakeRun(asked))
        return runs[-1]

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(preflight, "find_spec", lambda name: name)
    return runs


class ServiceDiedError(Exception):
    """No ``wandb.Error``, as those of its mailbox are not."""


class Brittle(dict):
    """A run, or its summary, one of whose methods fails."""

    def __call__(self, *_):
        raise ServiceDiedError("<gone>")

    update = __call__


@pytest.mark.parametrize("broken", ["log", "summary", "finish"])
def test_wandb_that_fails_is_left_out_and_the_run_goes_on(monkeypatch, capsys, runs, broken):
    monkeypatch.setattr(
        FakeRun,
        "__setattr__",
        lambda run, name, value: object.__setattr__(
            run, name, Brittle() if name == broken else value
        ),
    )
    if broken == "finish":
        monkeypatch.setattr(FakeRun, "finish", Brittle())
    assert played_locally("x", "--wandb", epochs=1) == 0
    assert f"WeightsAndBiases is left out for {CELL}: wandb: ServiceDied" in capsys.readouterr().err


def test_a_cell_after_one_that_wandb_failed_in_has_a_run_of_its_own(monkeypatch, runs):
    def broken(run, name, value):
        first = name == "log" and not runs
        object.__setattr__(run, name, Brittle() if first else value)

    monkeypatch.setattr(FakeRun, "__setattr__", broken)
    argv = ["--wandb", "--seeds", "0", "1"]
    assert played_locally("x", *argv, epochs=1) == 0
    failed, whole = runs
    assert not failed.finished
    assert (len(whole.logged), whole.finished) == (1, True)
    assert whole.asked["name"] == "point_goal.mlp.maml.s1"


def test_workers_are_ended_before_trackers_are_closed(monkeypatch):
    ended = []
    monkeypatch.setattr(local.LocalBackend, "close", lambda _: ended.append("backend"))
    listener = Listener()
    listener.closed = lambda: ended.append("display")
    monkeypatch.setattr(harness.console.display, "make_progress", lambda *_: listener)
    assert played_locally("x", epochs=1) == 0
    assert ended == ["backend", "display"]


def test_wandb_is_told_the_same_offline(runs):
    assert played_locally("x", "--wandb", epochs=2) == 0
    (told,) = runs
    assert told.finished
    assert told.asked["mode"] == "offline"
    assert Path(told.asked["dir"]) == Path("results/x/cells").absolute() / CELL / "wandb"
    tags = {tag for row in told.logged for tag in row} - {"env_steps"}
    found = {tag: {row["env_steps"]: row[tag] for row in told.logged} for tag in tags}
    want = expected()
    scores = want.pop("test/return by shots")
    check(found, want)
    for shots, mean in scores.items():
        assert told.summary[f"test/return by shots/{shots} shots"] == pytest.approx(mean)
