"""Exit codes, the errors that carry them, and the one place that reports errors to the user."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

from metarl_plugins import PluginError


class ExitCode(IntEnum):
    """How a command ended."""

    COMPLETE = 0
    BAD_INPUT = 2
    """Refused before anything started: the message names the value, the choices and the remedy."""
    CELLS_FAILED = 3
    INTERRUPTED = 4
    """``--resume`` continues."""
    REFUSED = 5
    """A file is malformed, damaged or leads out of its folder."""
    INTERNAL = 70
    """A bug. The run's folder is kept and can be resumed."""


EXIT_CODES = (
    "exit codes: 0 complete, 2 bad input, 3 some cells failed, 4 interrupted (--resume continues), "
    "5 a file was refused, 70 internal error"
)


class HarnessError(Exception):
    """An error that ends a command with an exit code and a sentence."""

    code: ClassVar[ExitCode] = ExitCode.INTERNAL


class UsageError(HarnessError, ValueError):
    """Bad input: the message names the value, what is allowed and the remedy."""

    code = ExitCode.BAD_INPUT


class ArtefactError(HarnessError, ValueError):
    """A file is malformed, oversized or not what it claims to be."""

    code = ExitCode.REFUSED


class CrashError(HarnessError):
    """A bug stopped a run; its traceback is in ``crash.txt`` in the run's folder."""


class RunError(HarnessError):
    """A run from Python is not complete; ``run`` holds what there is of it."""

    def __init__(self, message: str, run: Any) -> None:
        super().__init__(message)
        self.run = run
        """A ``harness.Run``."""


class CellsFailedError(RunError):
    """Some cells failed: ``run.failures`` says why, and ``run`` has the others."""

    code = ExitCode.CELLS_FAILED


class RunInterruptedError(RunError):
    """The run was stopped; ``python -m harness.run --resume`` continues it."""

    code = ExitCode.INTERRUPTED


def crash(folder: Path, error: Exception) -> CrashError:
    """Write the traceback of ``error`` to ``crash.txt`` in a run's folder; return what to raise."""
    path = folder / "crash.txt"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return CrashError(
        f"internal error: {type(error).__name__}: {error}. This is a bug in the harness. The run "
        f"is kept in {folder}, and --resume continues it from its last checkpoints. Please report "
        f"the bug with {path} and {folder / 'run.json'}"
    )


def report(error: HarnessError, hint: str = "") -> ExitCode:
    """Print an error on one line of stderr, with ``hint`` below; return its exit code.

    Text from files may end up in messages, so characters that control the terminal are dropped.
    """
    text = "".join(char if char.isprintable() else " " for char in str(error))
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    if hint:
        sys.stderr.write(f"{hint}\n")
    return error.code


def run_command(command: Callable[[], int], hint: str = "") -> int:
    """Run the body of a command and turn whatever it raises into an exit code.

    Args:
        command: returns an exit code.
        hint: printed below the message after bad input, such as where to find the help.
    """
    try:
        return int(command())
    except SystemExit as answered:  # the help was printed, or a flag could not be parsed
        return answered.code if isinstance(answered.code, int) else int(bool(answered.code))
    except PluginError as error:  # of somebody's component, not of the harness
        return report(UsageError(str(error)), hint)
    except HarnessError as error:
        return report(error, hint if error.code == ExitCode.BAD_INPUT else "")
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except OSError as error:  # a full disk, a missing permission: not a bug
        return report(UsageError(f"{type(error).__name__}: {error}"))
    except Exception as error:  # noqa: BLE001 - the last safety net: no user sees a bare traceback
        traceback.print_exc()
        told = f"internal error: {type(error).__name__}: {error}. This is a bug in the harness: "
        return report(CrashError(told + "please report it with the command and the lines above"))
