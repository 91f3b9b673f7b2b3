"""What a run shows when it is started from Python: a progress bar in a notebook, else nothing."""

from __future__ import annotations

import html
import importlib
import sys
import time
from typing import Any

from harness.console.display import ProgressListener
from harness.console.listener import RunListener
from harness.console.progress_state import RunProgress
from harness.types import Metrics

SECONDS = 0.5
"""Least time between two updates."""


def make_listener() -> RunListener:
    """Return a progress bar in a notebook, and a listener that shows nothing elsewhere."""
    return NotebookBar() if in_notebook() else ProgressListener()


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class NotebookBar(ProgressListener):
    """One line of HTML that is updated in place."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None
        self._last = 0.0

    def started(self, progress: RunProgress) -> None:
        """Show the bar."""
        ipython: Any = importlib.import_module("IPython.display")
        super().started(progress)
        self._html = ipython.HTML
        self._handle = ipython.display(self._html(self.render()), display_id=True)

    def iteration(self, key: str, metrics: Metrics) -> None:
        """Move the bar."""
        super().iteration(key, metrics)
        self._update()

    def evaluating(self, key: str, jobs_done: int, jobs: int) -> None:
        """Move the bar."""
        super().evaluating(key, jobs_done, jobs)
        self._update()

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """Move the bar."""
        super().cell_finished(key, status, reason)
        self._update(now=True)

    def closed(self) -> None:
        """Show how the run ended."""
        self._update(now=True)

    def _update(self, *, now: bool = False) -> None:
        if self._handle is not None and (now or time.monotonic() - self._last >= SECONDS):
            self._last = time.monotonic()
            self._handle.update(self._html(self.render()))

    def render(self) -> str:
        """Return the bar: finished cells, and the parts of running ones."""
        cells = self.progress.cells.values()
        done = sum(_part(cell) for cell in cells)
        text = html.escape(f"{self.progress.name}: {self.progress.summary()}")
        return f"<progress max='{max(1, len(cells))}' value='{done:.3f}'></progress> {text}"


def _part(cell: Any) -> float:
    """Return how much of a cell is done, from 0 to 1; its scoring counts as a tenth."""
    if cell.finished:
        return 1.0
    trained = cell.iteration / cell.iterations if cell.iterations else 1.0
    scored = cell.jobs_done / cell.jobs if cell.jobs else 0.0
    return 0.9 * min(1.0, trained) + 0.1 * scored if cell.status == "running" else 0.0
