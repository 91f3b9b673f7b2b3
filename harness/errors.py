"""Exit codes, the errors that carry them, and the one place that reports errors to the user."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, TextIO, cast

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


class SurroundingsError(UsageError):
    """The machine does not allow it: a folder, a disk, a cluster. No flag need be wrong."""


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
    text = "".join(traceback.format_exception(error))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:  # the disk may be full
        sys.stderr.write(text)
    return CrashError(
        f"internal error: {type(error).__name__}: {error}. This is a bug in the harness. The run "
        f"is kept in {folder}, and --resume continues it from its last checkpoints. Please report "
        f"the bug with {path} and {folder / 'run.json'}"
    )


def shadows(folder: Path) -> list[Path]:
    """Return the files in ``folder`` that hide one of our packages from programs started there."""
    root = Path(__file__).resolve().parents[1]
    if folder.resolve() == root:
        return []
    candidates = [
        path
        for name in ("harness", "policies", "task_distributions", "metarl_plugins")
        for path in (folder / name / "__init__.py", folder / f"{name}.py")
    ]
    return [path for path in candidates if path.is_file()]


def refuse_shadows() -> None:
    """Say which file is in the way, if another package has taken the place of one of ours.

    Raises:
        ImportError: one has; a program started by ``python -m`` ends with ``BAD_INPUT`` instead.
    """
    folder = Path(sys.path[0] or ".") if sys.path else Path()
    found = shadows(folder)
    if not found:
        return
    message = (
        f"{found[0].absolute()} hides a package of metarl-harness: rename it, start in another "
        "folder, or use the command metarl (metarl run ... for python -m harness.run ...)"
    )
    if sys.argv[:1] == ["-m"]:
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(ExitCode.BAD_INPUT)
    raise ImportError(message)


class _Output:
    """Standard output or error whose reader may leave, or whose disk may fill up.

    A run must not end because nobody reads its log. ``failure`` is what was lost, if anything.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # the locale of the terminal lacks a character
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except ValueError:  # somebody's component has closed it
            return len(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except ValueError:
            pass
        except OSError as error:
            self._failed(error)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def _failed(self, error: OSError) -> None:
        if error.errno != errno.EPIPE:  # such as head, which has read enough
            self.failure = error
        with contextlib.suppress(OSError, ValueError):  # else Python fails once more when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _outputs() -> Iterator[list[_Output]]:
    """Put up with standard streams that are closed, full or of another encoding."""
    before = sys.stdout, sys.stderr
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        # It was closed: a library may open a file in its place, and print into that.
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    with contextlib.ExitStack() as stack:
        streams = [
            _Output(stream or stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
            for stream in before
        ]
        sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in streams)
        try:
            yield streams
            for stream in streams:
                stream.flush()
        finally:
            sys.stdout, sys.stderr = before


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C until a run takes the signals over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
    with _outputs() as streams, _sigterm_interrupts():
        code = _run(command, hint)
    for stream in streams:
        if stream.failure and not code:
            code = report(SurroundingsError(f"not everything was printed: {stream.failure}"))
    return code


def _run(command: Callable[[], int], hint: str) -> int:
    try:
        return int(command())
    except SystemExit as answered:  # the help was printed, or a flag could not be parsed
        return answered.code if isinstance(answered.code, int) else int(bool(answered.code))
    except PluginError as error:  # of somebody's component, not of the harness
        return report(UsageError(str(error)), hint)
    except HarnessError as error:
        of_flags = error.code == ExitCode.BAD_INPUT and not isinstance(error, SurroundingsError)
        return report(error, hint if of_flags else "")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return ExitCode.INTERRUPTED
    except OSError as error:  # a full disk, a missing permission: not a bug
        return report(SurroundingsError(f"{error.strerror or error}{_place(error)}"))
    except MemoryError:
        return report(SurroundingsError("memory has run out"))
    except Exception as error:  # noqa: BLE001 - the last safety net: no user sees a bare traceback
        traceback.print_exc()
        told = f"internal error: {type(error).__name__}: {error}. This is a bug in the harness: "
        return report(CrashError(told + "please report it with the command and the lines above"))


def _place(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""
