"""The events of a run: the seam between the work and whoever watches it."""

from __future__ import annotations

from typing import Protocol

from harness.console.progress_state import RunProgress
from harness.types import Metrics


class RunListener(Protocol):
    """Listener for the events of a run.

    A cell is named by its key. In the run's own process a listener hears of every cell, wherever it
    is played; in a cell's process (trackers) of that one. ``started`` and ``closed`` are called in
    the run's own process only.
    """

    def started(self, progress: RunProgress) -> None:
        """A run begins.

        Args:
            progress: every cell as it stands; the listener keeps it up to date if it shows it.
        """
        ...

    def cell_started(self, key: str, first_iteration: int) -> None:
        """A cell begins, after ``first_iteration`` iterations done before."""
        ...

    def iteration(self, key: str, metrics: Metrics) -> None:
        """One outer iteration of a cell is done."""
        ...

    def evaluating(self, key: str, jobs_done: int, jobs: int) -> None:
        """``jobs_done`` of ``jobs`` pieces of a cell's evaluation are done."""
        ...

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """A cell ended: ``ok``, ``failed``, ``stopped`` by a scheduler, or ``waiting`` again."""
        ...

    def note(self, text: str) -> None:
        """Something a user should read, such as a restarted worker."""
        ...

    def closed(self) -> None:
        """The run is over, for whatever reason: give the terminal back."""
        ...
