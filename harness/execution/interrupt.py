"""SIGINT and SIGTERM as requests to stop after the current iteration and its checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, Self


class InterruptedRunError(Exception):
    """The run stopped because it was asked to; its progress is saved."""


class Stop(Protocol):
    """A request to stop, polled between iterations and jobs."""

    def check(self) -> None:
        """Raise ``InterruptedRunError`` if a stop was requested."""
        ...


@dataclass(frozen=True, slots=True)
class StopFile:
    """A stop requested by another process, on any node that sees the file."""

    path: Path

    def check(self) -> None:
        """Raise ``InterruptedRunError`` if the file exists."""
        if self.path.exists():
            raise InterruptedRunError


class StopRequest:
    """Context in which the first signal requests a stop and the second stops at once."""

    def __init__(self, on_request: Callable[[str], None]) -> None:
        self._on_request = on_request
        self._requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # signals go to the main thread, which is somebody else's
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        name = signal.Signals(number).name
        self._on_request(f"{name}: stopping after this iteration; a second signal stops at once")

    def check(self) -> None:
        """Raise ``InterruptedRunError`` if a stop was requested."""
        if self._requested:
            raise InterruptedRunError
