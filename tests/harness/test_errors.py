"""Whatever a command raises, it ends with an exit code and a sentence."""

import io
import sys

import pytest

from harness.errors import (
    ArtefactError,
    CrashError,
    ExitCode,
    HarnessError,
    UsageError,
    crash,
    run_command,
)
from harness.execution.checkpoint import CheckpointError
from harness.experiments.rescore import RescoreError


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), ExitCode.BAD_INPUT),
        (RescoreError("x"), ExitCode.BAD_INPUT),
        (OSError(28, "No space left on device"), ExitCode.BAD_INPUT),
        (ArtefactError("x"), ExitCode.REFUSED),
        (CheckpointError("x"), ExitCode.REFUSED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (SystemExit(2), ExitCode.BAD_INPUT),
        (SystemExit(0), ExitCode.COMPLETE),
        (SystemExit(None), ExitCode.COMPLETE),
        (CrashError("x"), ExitCode.INTERNAL),
        (HarnessError("x"), ExitCode.INTERNAL),
        (ZeroDivisionError("x"), ExitCode.INTERNAL),
        (KeyError("x"), ExitCode.INTERNAL),
    ],
)
def test_every_error_has_an_exit_code(error, code):
    assert run_command(raising(error)) == code


def test_the_code_of_a_command_that_ends_is_its_own():
    assert run_command(lambda: 3) == 3


def test_a_message_is_one_line_that_commands_no_terminal(capsys):
    run_command(raising(UsageError("a\n\x1b[2Jb")), hint="See --help.")
    assert capsys.readouterr().err == "error: a [2Jb\nSee --help.\n"
    run_command(raising(ArtefactError("a")), hint="See --help.")
    assert capsys.readouterr().err == "error: a\n"


def test_a_crash_keeps_its_traceback_in_the_folder(tmp_path):
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        raised = crash(tmp_path, error)
    assert raised.code == ExitCode.INTERNAL
    assert str(tmp_path / "crash.txt") in str(raised)
    assert "raise ZeroDivisionError" in (tmp_path / "crash.txt").read_text()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_component_that_closes_a_stream_does_not_end_the_command(name, monkeypatch):
    monkeypatch.setattr(sys, name, io.StringIO())

    def command():
        getattr(sys, name).close()
        getattr(sys, name).write("text")
        getattr(sys, name).flush()
        return 3

    assert run_command(command) == 3
