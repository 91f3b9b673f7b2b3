"""SIGINT and SIGTERM as a request: finish the iteration, write the checkpoint, then stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, Self


class InterruptedRunError(Exception):
    """The user asked to stop, and what was done is saved."""


class Stop(Protocol):
    """What is asked now and then whether to stop."""

    def check(self) -> None:
        """Raise ``InterruptedRunError`` if a stop was asked for."""
        ...


@dataclass(frozen=True, slots=True)
class StopFile:
    """A stop that another process asks for, on whatever node: by making a file."""

    path: Path

    def check(self) -> None:
        """Raise ``InterruptedRunError`` if the file is there."""
        if self.path.exists():
            raise InterruptedRunError


class StopRequest:
    """Context in which the first signal asks to stop and the second one stops at once."""

    def __init__(self, on_request: Callable[[str], None]) -> None:
        self._on_request = on_request
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        name = signal.Signals(number).name
        self._on_request(f"{name}: stopping after this iteration; once more stops at once")

    def check(self) -> None:
        """Raise ``InterruptedRunError`` if a stop was asked for."""
        if self._asked:
            raise InterruptedRunError
