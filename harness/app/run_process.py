"""Work in processes of its own: a page that hangs, reloads or ends harms no result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

STOPPED = -1
"""Exit code of work that was stopped between two commands."""
FAILED = 1
"""Exit code of work that could not be started."""
LOGS = ".app"
"""Folder of the logs, among the runs' folders."""
LOG_TAIL = 20_000
"""Characters of a log that are looked through for what went wrong."""


class RunProcess:
    """Commands of this interpreter, one after the other as long as each ends with 0."""

    def __init__(self, run: Path, commands: Sequence[Sequence[str]], log: Path) -> None:
        """Start the first of ``commands``, each as after ``python -m``, for the folder ``run``."""
        self.run, self._commands, self._log = run, list(commands), log
        self.began, self.ended, self.code = time.monotonic(), 0.0, FAILED
        self._unstarted = ""
        self._stopping, self._lock = False, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        self._thread = threading.Thread(target=self._play, name=run.name)
        self._thread.start()

    def _play(self) -> None:
        try:
            self._play_all()
        except OSError as error:
            self.code, self._unstarted = FAILED, f"could not be started: {error}"
        finally:
            self.ended = time.monotonic()

    def _play_all(self) -> None:
        with self._log.open("wb") as log:
            for command in self._commands:
                with self._lock:
                    if self._stopping:
                        self.code = STOPPED
                        break
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", *command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # a Ctrl-C in the terminal is for us to pass on
                        env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    )
                self.code = self._process.wait()
                if self.code:
                    break

    @property
    def running(self) -> bool:
        """Whether anything is left to be done."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return (time.monotonic() if self.running else self.ended) - self.began

    def stop(self) -> None:
        """Interrupt it by SIGTERM: it writes a checkpoint and its table, and ends.

        Only the first call does: a second signal would end it at once, with nothing written. Not
        SIGINT: a page that was started in the background ignores it, and so do its children.
        """
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            if self._process and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait for its end, at most ``seconds``."""
        self._thread.join(seconds)

    def last_words(self) -> str:
        """Return what the command said went wrong, or the last line it wrote."""
        if self._unstarted:
            return self._unstarted
        text = self._log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or ["it said nothing"])[-1].removeprefix("error: ")
