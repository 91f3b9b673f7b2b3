"""Faults that people have reported of programs like this one, each played on this one.

One test a report; what belongs to one kind is together. Those that take long are elsewhere.
"""

import errno
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.cli import run, status, sweep, tables
from harness.config.distributions import open_distribution
from harness.errors import SurroundingsError
from harness.execution import preflight
from harness.execution.checkpoint import read, write
from harness.experiments.lock import alone
from harness.reporting.store import provenance
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records
from task_distributions import EnvSpec
from task_distributions.point_goal import PointGoal

ROOT = Path(__file__).parents[2]
TINY = [
    "--task-dist",
    "point_goal",
    "--horizon",
    "4",
    "--policy",
    "mlp",
    "--test-tasks",
    "0",
    "1",
    "--few-shot",
    "1",
    "--episodes-per-shot",
    "1",
    "--query-episodes",
    "1",
    "--no-tensorboard",
]
MAML = ["--learner", "maml", "--meta-batch-size", "2", "--episodes-per-task", "1"]
LOCAL = ["--backend", "local"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, no_figures):
    monkeypatch.chdir(tmp_path)


def play(name, *argv, epochs=1):
    return run.main([*TINY, *MAML, "--epochs", str(epochs), *LOCAL, "--name", name, *argv])


def cell(name):
    (found,) = Manifest.load(Path("results", name)).cells.values()
    return found


def program(*argv, **changes):
    """Run a program of ours in the working directory."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | changes.pop("env", {})
    return subprocess.run(
        [sys.executable, *argv],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **changes,
    )


# --- divergence ----------------------------------------------------------------------------------


def test_a_policy_that_blew_up_is_a_failed_cell_and_no_number():
    argv = [
        "--learner",
        "multitask",
        "--learning-rate",
        "1e4",
        "--episodes-per-iteration",
        "8",
        "--epochs",
        "9",
    ]
    assert run.main([*TINY, *argv, *LOCAL, "--name", "x"]) == 3
    assert cell("x").reason.startswith("diverged: iteration ")
    events = pd.read_json("results/x/events.jsonl", lines=True)
    (event,) = events[events.kind == "cell_failed"].to_dict("records")
    assert event["iteration"] >= 1
    assert event["cause"]
    table = pd.read_csv("results/x/table.csv").set_index("policy")
    assert table.loc["mlp"].filter(like="return_").isna().all()


# --- one writer ----------------------------------------------------------------------------------


def test_a_second_process_on_a_run_is_refused(capsys):
    assert play("x") == 0
    with alone(Path("results/x")):
        assert run.main(["--resume", "x", *LOCAL]) == 2
    assert "another process" in capsys.readouterr().err
    assert play("x") == 2  # and a new run of that name too


def test_a_run_that_nobody_plays_is_not_shown_as_running(capsys):
    assert play("x", epochs=2) == 0
    state = next(Path("results/x/cells").glob("*maml*/state.json"))
    state.write_text(json.dumps(json.loads(state.read_text()) | {"status": "running"}))
    assert status.main(["results/x"]) == 0
    shown = capsys.readouterr().out
    assert "1 interrupted" in shown
    assert not re.search(r"(\d|–) left", shown)
    with alone(Path("results/x")):
        assert status.main(["results/x"]) == 0
    assert "1 running" in capsys.readouterr().out


def test_checkpoints_of_two_runs_do_not_share_a_folder():
    def train(name, *argv):
        return run.main(["train", *TINY, *MAML, *LOCAL, "--name", name, *argv])

    assert train("a", "--epochs", "2") == 0
    assert train("b", "--epochs", "1", "--seed", "5") == 0
    names = {
        path.relative_to("checkpoints").as_posix() for path in Path("checkpoints").rglob("*.npz")
    }
    assert names == {"latest.npz", "step_1.npz", "a/latest.npz", "a/step_2.npz"}
    with alone(Path("results/b")):
        assert train("c", "--epochs", "1") == 2
    assert not Path("results/c").exists()
    Path("checkpoints/.run.json").unlink()
    assert train("c", "--epochs", "1") == 2


# --- surroundings --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [run, sweep])
def test_a_temporary_folder_too_long_for_ray_is_refused_before_the_run(monkeypatch, command):
    folder = Path("a" * 60, "b" * 60).absolute()
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with pytest.raises(SurroundingsError, match="TMPDIR"):
        preflight.check_socket_path(None)
    Path("s.yaml").write_text("base: {task_dist: point_goal}\n")
    argv = ["s.yaml"] if command is sweep else [*TINY, *MAML, "--num-workers", "1"]
    assert command.main(argv) == 2
    assert not Path("results").exists()


def test_reference_lines_that_are_not_numbers_fail_and_the_cells_go_on(monkeypatch):
    step = PointGoal.step

    def nan_when_still(self, obs, controls, parameters):
        obs, reward, ended = step(self, obs, controls, parameters)
        return obs, np.where(controls.any(1), reward, np.nan), ended

    monkeypatch.setattr(PointGoal, "step", nan_when_still)
    assert play("x") == 3
    assert cell("x").status == "ok"
    failed = Manifest.load(Path("results/x")).failed_references
    assert "zero-action" in failed
    table = pd.read_csv("results/x/table.csv").set_index("policy")
    assert table.return_0.notna()["mlp"]
    assert table.seeds_failed["zero-action"] == 1


class Broken:
    """A stream that takes nothing."""

    encoding = "utf-8"

    def __init__(self, number):
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))

    flush = fileno = isatty = lambda self: False


@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 0), (errno.ENOSPC, 2)])
def test_a_run_does_not_end_because_nobody_can_read_it(monkeypatch, number, code):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Broken(number))
        assert play("x") == code
    assert cell("x").status == "ok"


@pytest.mark.parametrize("streams", [">&-", ">&- 2>&-", "| true"])
def test_closed_streams_are_no_fault(streams):
    command = f"set -o pipefail; {sys.executable} -m harness.check --help {streams}"
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0


def test_a_character_that_the_terminal_lacks_is_replaced():
    help_ = program("-m", "harness.check", "--help", env={"PYTHONIOENCODING": "ascii"})
    assert help_.returncode == 0
    code = 'from harness.errors import run_command as r; r(lambda: print("na\\u00efve \\u2013"))'
    done = program("-c", code, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, "na?ve ?\n")


def test_sigterm_before_a_run_begins_is_an_interruption():
    code = (
        "import os, signal, sys; from harness.errors import run_command\n"
        "sys.exit(run_command(lambda: os.kill(os.getpid(), signal.SIGTERM) or 0))"
    )
    done = program("-c", code)
    assert (done.returncode, done.stderr) == (4, "interrupted\n")


def test_results_that_cannot_be_written_are_refused(monkeypatch, capsys):
    Path("plain").touch()
    assert play("x", "--storage", "plain/y") == 2
    monkeypatch.setattr(
        "harness.experiments.run._open",
        lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
    )
    assert play("x") == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "--help" not in error


def test_a_disk_that_fills_up_at_the_end_keeps_the_run(monkeypatch, capsys):
    def full(run):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("harness.experiments.run.rebuild", full)
        assert play("x") == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert run.main(["--resume", "x", *LOCAL]) == 0
    assert tables.main(["results/x"]) == 0


def test_a_bug_is_exit_70_with_a_report_and_the_run_goes_on_afterwards(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("harness.experiments.trial.build_setup", lambda *_: 1 / 0)
        assert play("x") == 70
    assert "results/x/crash.txt" in capsys.readouterr().err.replace("\n", "")
    assert run.main(["--resume", "x", *LOCAL]) == 0


# --- names that users have too -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["policies/__init__.py", "task_distributions.py"])
def test_a_file_that_hides_one_of_our_packages_is_named(name):
    path = Path(name).absolute()
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise RuntimeError('not ours')\n")
    done = program("-m", "harness.run", "--help")
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    # The console script is started from its own folder, which comes first in its path.
    metarl = "from harness.cli.main import main; main(['check', '--help'])"
    assert program("-P", "-c", metarl).returncode == 0


# --- numbers from elsewhere ----------------------------------------------------------------------


def test_a_checkpoint_from_another_processor_is_announced(monkeypatch, capsys):
    def shown(code):
        assert code == 0
        return " ".join("".join(capsys.readouterr()).split())

    assert play("x") == 0
    (checkpoint,) = Path("results/x/cells").glob("*/checkpoints/*.safetensors")
    score = ["evaluate", "--checkpoint", str(checkpoint), *LOCAL, "--name"]
    assert "elsewhere" not in shown(run.main([*score, "here"]))
    assert "elsewhere" not in shown(tables.main(["results/x"]))
    there = {"cpu": "Abacus", "packages": provenance.machine()["packages"] | {"torch": "0.1"}}
    monkeypatch.setattr(provenance, "machine", lambda: there)
    told = shown(run.main([*score, "there"]))
    assert "here Abacus; torch" in told
    assert "here 0.1" in told
    assert "here Abacus" in shown(play("y", "--pretrained", str(checkpoint)))
    assert "here Abacus" in shown(tables.main(["results/x"]))
    saved = read(checkpoint)
    del saved.run["machine"]  # of an earlier version: the run around it knows
    assert "here Abacus" in shown(
        run.main([*score[:2], str(write(checkpoint, saved)), *score[3:], "old"])
    )


# --- episodes that cannot differ -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "episodes"),
    [
        (MAML, [0]),
        ([*MAML, "--no-deterministic"], [0, 1, 2]),
        (["--learner", "rl2", "--episodes-per-iteration", "8"], [0, 1, 2]),  # by memory
    ],
)
def test_an_episode_that_can_only_repeat_is_played_once(monkeypatch, argv, episodes):
    monkeypatch.setattr(PointGoal, "start", lambda self, rng: np.zeros(2))
    fixed = functools.partial(EnvSpec, fixed_start=True)
    monkeypatch.setattr("task_distributions.point_goal.EnvSpec", fixed)
    open_distribution.cache_clear()
    words = [*TINY[:-2], "3", TINY[-1], *argv, "--epochs", "1"]
    assert run.main([*words, *LOCAL, "--name", "x"]) == 0
    frame = read_records(Path("results/x"))
    own = frame[frame.learner != "reference"]
    assert sorted(own.query_episode.unique()) == episodes
    grouped = frame.groupby(["policy", "split", "task", "shots"]).return_
    if "rl2" not in argv:  # its episodes differ by memory, which mlp has none of
        assert (grouped.nunique() == grouped.size())[own.policy.unique()].all()
    lines = frame[frame.learner == "reference"].groupby("policy").query_episode.nunique()
    assert lines.to_dict() == {"zero-action": 1, "random-action": 3}
    table = Path("results/x/table.md").read_text()
    assert ("mlp" in table.partition("Played once")[2].partition(".")[0]) == (episodes == [0])
    open_distribution.cache_clear()
