"""Work in processes of its own: how it is stopped, and what is said of how it ended."""

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
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
print("ready", flush=True)
while not asked or time.monotonic() < asked[0] + 1:
    time.sleep(0.02)
sys.exit(4 if len(asked) == 1 else 9)
"""


def played(folder, monkeypatch, code, *, stops=0):
    """Run ``code`` as a child, stop it so often once it is ready; return it after its end."""
    (folder / "the_part.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    child = RunProcess(folder / "run", [["the_part"]], folder / "log")
    while stops and child.running and child.last_words() != "ready":
        child.wait(0.02)
    for _ in range(stops):
        child.stop()
        time.sleep(0.2)
    child.wait(30)
    assert not child.running
    return child


def begun(folder, given):
    plan = manifest_of(expected_cells(), status="pending")
    plan.model_copy(update={"given": given}).save(folder)


def test_a_second_stop_does_not_cut_the_first_one_short(tmp_path, monkeypatch):
    child = played(tmp_path, monkeypatch, STUBBORN, stops=2)
    assert child.code == 4


def test_only_what_resume_continues_is_said_to_be_continued(tmp_path, monkeypatch):
    child = played(tmp_path, monkeypatch, STUBBORN, stops=1)
    assert "--resume" not in view.standing(child), "there is no run folder"
    child.run.mkdir()
    (child.run / "run.json").write_text("{}")
    assert "--resume" not in view.standing(child), "what there is is no run"
    begun(child.run, {"checkpoint": "x.safetensors"})
    assert "--resume" not in view.standing(child), "the scoring of a checkpoint is not resumed"
    begun(child.run, {})
    assert view.standing(child).endswith("run; continue with --resume.")
    child.code = -signal.SIGTERM
    assert view.standing(child).startswith("Stopped after ")
    assert "--resume" not in view.standing(child)
    child.code = 3
    assert "some cells failed" in view.standing(child)
    child.code = 2
    assert view.standing(child) == "Error: ready."


def test_what_cannot_be_started_is_no_success(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    child = played(tmp_path, monkeypatch, "")
    assert child.code
    assert 0 <= child.seconds < 30
    assert view.standing(child).startswith("Error: could not be started: ")
    assert "no-python" in view.standing(child)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://bucket/runs", "s3 addresses are not written to"),
        ("file://elsewhere/runs", "host 'elsewhere'"),
        ("a-file", "a-file"),
        ("/proc/runs", "/proc/runs"),
    ],
)
def test_a_storage_that_is_none_is_refused_in_a_line(tmp_path, monkeypatch, capsys, address, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    assert app.main(["--storage", address]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: --storage: ")
    assert said in told
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_the_home_folder_and_addresses_of_files_are_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert app._storage("~/runs") == tmp_path / "runs"
    assert app._storage((tmp_path / "my runs").as_uri()) == tmp_path / "my runs"
    assert (tmp_path / "my runs").is_dir()
