"""Trackers receive every curve point and score once, and their failures stay with them."""

import contextlib
import json
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

import harness.console.display
from harness.cli import run, sweep
from harness.execution import local, preflight
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import CellFolder, read_curves
from harness.rllib import __main__ as rllib
from harness.tracking import trackers
from tests.harness.execution.execution_cases import SIZES, Listener, events, played_locally, trained

CELL = "point_goal.mlp.maml.s0"


@pytest.fixture(autouse=True)
def _here(workplace):
    """In an empty folder."""


def summaries(run_dir):
    """The (step, value) of every summary in the event file of the cell."""
    (path,) = (Path(run_dir) / "cells" / CELL / "tensorboard").iterdir()
    body, offset = path.read_bytes(), 0
    while offset < len(body):
        (length,) = struct.unpack_from("<Q", body, offset)
        event = Event.FromString(body[offset + 12 : offset + 12 + length])
        offset += 16 + length
        yield from ((event.step, value) for value in event.summary.value)


def scalars(run_dir):
    """The scalars in the event file of the cell: tag -> {step: value}."""
    found = {}
    for step, value in summaries(run_dir):
        if value.WhichOneof("value") == "simple_value":
            steps = found.setdefault(value.tag, {})
            assert step not in steps, "written twice"
            steps[step] = value.simple_value
    return found


def check_texts(run_dir):
    """The event file has the cell's settings and a row for every task and number of shots."""
    texts = {
        value.tag: value.tensor.string_val[0].decode()
        for _, value in summaries(run_dir)
        if value.WhichOneof("value") == "tensor"
    }
    assert "hidden_dim: 64" in texts["settings/text_summary"]
    assert len(texts["scores/text_summary"].splitlines()) == 1 + 5 * 2


def expected(name="x"):
    """The same scalars computed from the run's curve and records."""
    (curve,) = read_curves(Path("results") / name).values()
    frame = trained(name)
    return {
        "return/before_adaptation": {m.env_steps: m.pre_return for m in curve},
        "return/after_adaptation": {m.env_steps: m.post_return for m in curve},
        "learner/outer_kl": {m.env_steps: m.info["outer_kl"] for m in curve},
        "seconds/physics": {m.env_steps: m.seconds["physics"] for m in curve},
        "by_shots/test_return": frame.groupby("shots").return_.mean().to_dict(),
    }


def check(found, want):
    for tag, steps in want.items():
        assert found[tag] == pytest.approx(steps, rel=1e-6), tag
    assert min(found["env_steps_per_second"].values()) > 0


def test_a_resumed_run_has_every_iteration_in_tensorboard_once(monkeypatch):
    def stop(done):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(harness.console.display, "make_progress", lambda *_: Listener(stop))
        assert played_locally("x") == 4
    assert played_locally("x", "--resume") == 0
    check(scalars("results/x"), expected())
    check_texts("results/x")
    (path,) = Path("results/x").glob("cells/*/checkpoints/*3.safetensors")
    argv = ["evaluate", "--checkpoint", str(path), "--backend", "local", "--name", "e"]
    assert run.main(argv) == 0
    assert set(scalars("results/e")) == {"by_shots/test_return", "by_shots/test_success"}
    assert run.main([*argv[:-1], "none", "--no-tensorboard"]) == 0
    assert not list(Path("results/none").rglob("tensorboard"))


def failed_trackers(name="x"):
    """The (cell, tracker) of every failure in the run's log."""
    frame = events(name)
    failed = frame[frame["kind"] == "tracker_failed"]
    return (
        list(failed[["cell", "tracker"]].itertuples(index=False, name=None)) if len(failed) else []
    )


def test_a_full_disk_costs_the_curve_and_not_the_run(monkeypatch, capsys):
    def full(_, event):
        if event.step:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventsWriter, "write_event", full)
    assert played_locally("x", epochs=2) == 0
    assert failed_trackers() == [(CELL, "TensorBoard")]
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_missing_package_is_refused_before_a_folder_is_made(monkeypatch, capsys):
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    assert played_locally("x") == 2
    assert "--no-tensorboard" in capsys.readouterr().err
    assert played_locally("x", "--no-tensorboard", "--wandb") == 2
    assert "pip install wandb" in capsys.readouterr().err
    settings = "{task_dist: point_goal, execution: {tensorboard: false, wandb: true}}"
    Path("s.yaml").write_text(f"base: {settings}\nsweep: {{policy: [mlp]}}\n")
    assert sweep.main(["s.yaml"]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    monkeypatch.setattr(rllib, "run_reference", lambda *_, **__: 0)
    assert rllib.main(["--task-dist", "point_goal", "--no-tensorboard", "--wandb"]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    assert not Path("results").exists()


class FakeRun:
    """Remembers what was logged to it."""

    def __init__(self, settings):
        self.settings, self.logged, self.finished = settings, [], False
        self.log = self.logged.append

    def define_metric(self, name, step_metric):
        self.step_metric = {name: step_metric}

    def finish(self):
        self.finished = True


@pytest.fixture
def runs(monkeypatch):
    """The runs of a fake ``wandb``."""
    runs, fake = [], ModuleType("wandb")
    fake.Settings = dict
    fake.Table = lambda dataframe: dataframe

    def init(**settings):
        # wandb 0.31 returns the last run if it was not finished, unless reinit says otherwise.
        if not runs or runs[-1].finished or settings.get("reinit") == "create_new":
            runs.append(FakeRun(settings))
        return runs[-1]

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(preflight, "find_spec", lambda name: name)
    return runs


class ServiceDiedError(Exception):
    """Not a ``wandb.Error``, as with the errors of its mailbox."""


def broken(*_, **__):
    raise ServiceDiedError("<gone>")


@pytest.mark.parametrize("method", ["define_metric", "finish"])
def test_a_failing_wandb_is_reported_once_and_the_run_goes_on(monkeypatch, capsys, runs, method):
    monkeypatch.setattr(FakeRun, method, broken)
    assert played_locally("x", "--wandb", epochs=2) == 0
    assert failed_trackers() == [(CELL, "WeightsAndBiases")]
    assert capsys.readouterr().err.count("ServiceDiedError: <gone>") == 1
    check(scalars("results/x"), expected())


def test_the_cell_after_a_failed_one_has_its_own_wandb_run(monkeypatch, runs):
    init = FakeRun.__init__

    def first_breaks(run, settings):
        init(run, settings)
        run.log = run.log if runs else broken

    monkeypatch.setattr(FakeRun, "__init__", first_breaks)
    assert played_locally("x", "--wandb", "--seeds", "0", "1", epochs=1) == 0
    assert failed_trackers() == [(CELL, "WeightsAndBiases")]
    failed, whole = runs
    assert not failed.finished
    assert whole.finished
    assert [row["env_steps"] for row in whole.logged if "env_steps" in row] == [
        m.env_steps for m in read_curves(Path("results/x"))["point_goal.mlp.maml.s1"]
    ]
    assert whole.settings["name"] == "point_goal.mlp.maml.s1"


def test_workers_end_before_trackers_are_closed(monkeypatch):
    ended = []
    monkeypatch.setattr(local.LocalBackend, "close", lambda _: ended.append("backend"))
    listener = Listener()
    listener.closed = lambda: ended.append("display")
    monkeypatch.setattr(harness.console.display, "make_progress", lambda *_: listener)
    assert played_locally("x", epochs=1) == 0
    assert ended == ["backend", "display"]


def test_wandb_gets_the_same_numbers_settings_and_scores(runs):
    assert played_locally("x", "--wandb", epochs=2) == 0
    (run,) = runs
    assert run.finished
    assert run.settings["mode"] == "offline"
    assert Path(run.settings["dir"]) == Path("results/x/cells").absolute() / CELL / "wandb"
    assert run.step_metric == {"by_shots/*": "shots"}
    (cell,) = Manifest.load(Path("results/x")).cells.values()
    assert run.settings["config"] == {"cell": CELL, **cell.config}
    scores = run.logged.pop()["scores"]
    mean = trained("x").groupby(["task", "shots"]).return_.mean()
    assert scores.set_index(["task", "shots"])["return"].to_dict() == mean.to_dict()
    found = {}
    for row in run.logged:
        step = row.pop("shots" if "shots" in row else "env_steps")
        for tag, value in row.items():
            found.setdefault(tag, {})[step] = value
    check(found, expected())


@pytest.mark.parametrize(
    ("environment", "mode", "project"),
    [
        ({}, "offline", "metarl-harness"),
        ({"WANDB_API_KEY": "k", "WANDB_PROJECT": "mine"}, "online", "mine"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline", "metarl-harness"),
        ({"WANDB_MODE": "online"}, "online", "metarl-harness"),
    ],
)
def test_wandb_follows_its_environment_variables(
    monkeypatch, runs, tmp_path, environment, mode, project
):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    trackers.WeightsAndBiases(CellFolder(tmp_path / "run/cells/a"), {})
    assert (runs[0].settings["mode"], runs[0].settings["project"]) == (mode, project)
    assert runs[0].settings["group"] == "run"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_real_package_keeps_settings_curves_and_scores(name, tmp_path):
    pytest.importorskip(name)
    store = tmp_path / "store"
    store.mkdir()
    command = [sys.executable, "-m", "harness.run", *SIZES, "--policy", "mlp", "--epochs", "2"]
    command += ["--backend", "local", "--name", "x", f"--{name}", "--no-tensorboard"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "TRACKIO_"))}
    environment |= {"TRACKIO_DIR": str(store), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "trackio" not in done.stdout.lower()
    assert failed_trackers() == []
    (curve,) = read_curves(Path("results/x")).values()
    if name == "wandb":
        (path,) = Path("results/x").glob(f"cells/{CELL}/wandb/**/*.wandb")
        kept = path.read_bytes()
        for part in (b"hidden_dim", b"return/after_adaptation", b"table-file"):
            assert part in kept
        (table,) = path.parent.rglob("*.table.json")
        assert len(json.loads(table.read_text())["data"]) == 5 * 2
        return
    (path,) = store.glob("metarl-harness*.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = [json.loads(row) for (row,) in database.execute("select metrics from metrics")]
        (config,) = database.execute("select config from configs").fetchone()
    assert [r["env_steps"] for r in rows if "env_steps" in r] == [m.env_steps for m in curve]
    assert json.loads(config)["policy"]["mlp"]["hidden_dim"] == 64
    (scores,) = (row["scores"] for row in rows if "scores" in row)
    assert len(scores["_value"]) == 5 * 2
