"""Runs in processes of their own, so that reloading or closing the page harms no result."""

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
"""Exit code when stopped between two commands."""
FAILED = 1
"""Exit code when a command could not be started."""
LOGS = ".app"
"""Folder of the log files, beside the run folders."""
LOG_TAIL = 20_000
"""Characters at the end of a log that are searched for an error message."""


class RunProcess:
    """Commands of this Python interpreter, run one after another until one fails."""

    def __init__(self, folder: Path, commands: Sequence[Sequence[str]], log: Path) -> None:
        """Start ``commands``, each without ``python -m``, that write the run in ``folder``."""
        self.folder, self._commands, self._log = folder, list(commands), log
        self.exit_code = FAILED
        self._start_time, self._end_time = time.monotonic(), 0.0
        self._start_error = ""
        self._stopping, self._lock = False, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        self._thread = threading.Thread(target=self._run, name=folder.name)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._run_commands()
        except OSError as error:
            self.exit_code, self._start_error = FAILED, f"could not be started: {error}"
        finally:
            self._end_time = time.monotonic()

    def _run_commands(self) -> None:
        with self._log.open("wb") as log:
            for command in self._commands:
                with self._lock:
                    if self._stopping:
                        self.exit_code = STOPPED
                        break
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", *command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Ctrl-C in the terminal reaches only the page
                        env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    )
                self.exit_code = self._process.wait()
                if self.exit_code:
                    break

    @property
    def running(self) -> bool:
        """Whether a command is running or about to start."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping

    @property
    def seconds(self) -> float:
        """Running time so far."""
        return (time.monotonic() if self.running else self._end_time) - self._start_time

    def stop(self) -> None:
        """Send SIGTERM: the run writes a checkpoint and its table, and ends.

        Further calls do nothing, because a second signal would end it with nothing saved. SIGINT
        would not do: a page started in the background ignores it, and so do its subprocesses.
        """
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            if self._process and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, for ``seconds`` at most."""
        self._thread.join(seconds)

    def last_message(self) -> str:
        """Return the last error message in the log; the last line if there is none."""
        if self._start_error:
            return self._start_error
        text = self._log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or ["no output"])[-1].removeprefix("error: ")
