"""What a run tells whoever watches it: the seam between the work and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from harness.types import Cell, Metrics


class RunListener(Protocol):
    """Listener of a run. Called from the driver process only, never from workers."""

    def started(self, cells: Mapping[Cell, int]) -> None:
        """A run of these cells begins; cells already complete (``--resume``) are not among them."""
        ...

    def cell_started(self, cell: Cell, first_iteration: int) -> None:
        """Training of ``cell`` begins after ``first_iteration`` iterations already done."""
        ...

    def iteration(self, cell: Cell, metrics: Metrics) -> None:
        """One outer iteration of ``cell`` is done."""
        ...

    def evaluating(self, cell: Cell, jobs_done: int, jobs: int) -> None:
        """``jobs_done`` of ``jobs`` pieces of the evaluation of ``cell`` are done."""
        ...

    def cell_finished(self, cell: Cell, status: str, reason: str = "") -> None:
        """``cell`` ended with status ``ok`` or ``failed``."""
        ...

    def note(self, text: str) -> None:
        """Something a user should read: a restarted worker, a skipped update, the time estimate."""
        ...

    def closed(self) -> None:
        """The run is over, for whatever reason: give the terminal back."""
        ...
