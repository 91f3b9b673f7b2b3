"""One writer per run: a lock that goes with the process that holds it, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UsageError

LOCK = ".lock"
SECONDS = 2.0
"""How long to wait for the run's lock: ``harness.status`` holds it for a moment."""


@contextlib.contextmanager
def alone(folder: Path, seconds: float = SECONDS) -> Iterator[None]:
    """Hold the lock of a run's or a cell's folder.

    Raises:
        UsageError: another process has held it for ``seconds``.
    """
    lock = FileLock(folder / LOCK, timeout=seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"{folder} is being played by another process. Wait for it, or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def being_played(folder: Path) -> bool | None:
    """Return whether a process on this machine plays the run; None if its lock is not ours to try.

    It may be another user's, or on a disk that is read-only.
    """
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None
