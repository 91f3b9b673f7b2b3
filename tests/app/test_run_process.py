"""Runs in processes of their own: stopping them, and the status line afterwards."""

import signal
import sys
import time

import pytest

pytest.importorskip("PIL")

from harness.app import __main__ as app
from harness.app import view
from harness.app.run_process import RunProcess
from tests.harness.reporting.synthetic_run import expected_cells, manifest_of

STUBBORN = """
import signal, sys, time
signals = []
signal.signal(signal.SIGTERM, lambda *_: signals.append(time.monotonic()))
print("ready", flush=True)
while not signals or time.monotonic() < signals[0] + 1:
    time.sleep(0.02)
sys.exit(4 if len(signals) == 1 else 9)
"""


def finished(folder, monkeypatch, code, *, stops=0):
    """Run ``code`` as a process and call ``stop`` that often once it is ready; wait for its end."""
    (folder / "the_part.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    process = RunProcess(folder / "run", [["the_part"]], folder / "log")
    while stops and process.running and process.last_message() != "ready":
        process.wait(0.02)
    for _ in range(stops):
        process.stop()
        time.sleep(0.2)
    process.wait(30)
    assert not process.running
    return process


def test_a_second_stop_does_not_cut_the_first_one_short(tmp_path, monkeypatch):
    process = finished(tmp_path, monkeypatch, STUBBORN, stops=2)
    assert process.exit_code == 4


def test_resume_is_offered_only_for_runs_that_can_be_resumed(tmp_path, monkeypatch):
    process = finished(tmp_path, monkeypatch, STUBBORN, stops=1)
    assert not view.resumable(process), "there is no run folder"
    process.folder.mkdir()
    (process.folder / "run.json").write_text("{}")
    assert not view.resumable(process), "the manifest is malformed"
    manifest = manifest_of(expected_cells())
    scoring = manifest.model_copy(update={"given": {"checkpoint": "x.safetensors"}})
    scoring.save(process.folder)
    assert not view.resumable(process), "the scoring of a checkpoint is not resumed"
    manifest.save(process.folder)
    assert view.resumable(process)
    process.exit_code = -signal.SIGTERM
    assert view.status(process).startswith("Stopped after ")
    assert not view.resumable(process)
    process.exit_code = 3
    assert "failed cells" in view.status(process)
    process.exit_code = 2
    assert view.status(process) == "Error: ready."


def test_a_command_that_cannot_be_started_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    process = finished(tmp_path, monkeypatch, "")
    assert process.exit_code
    assert 0 <= process.seconds < 30
    assert view.status(process).startswith("Error: could not be started: ")
    assert "no-python" in view.status(process)


@pytest.mark.parametrize(
    "address", ["s3://bucket/runs", "file://elsewhere/runs", "a-file", "/proc/runs"]
)
def test_a_bad_storage_folder_is_refused_in_one_line(tmp_path, monkeypatch, capsys, address):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    assert app.main(["--storage", address]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: --storage: ")
    assert message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_the_home_folder_and_addresses_of_files_are_accepted(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert app._storage("~/runs") == tmp_path / "runs"
    assert app._storage((tmp_path / "my runs").as_uri()) == tmp_path / "my runs"
    assert (tmp_path / "my runs").is_dir()
