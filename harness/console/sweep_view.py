"""Where a sweep stands, cell by cell: what the live table and ``harness.status`` both show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

OVER = ("ok", "failed", "stopped")
"""What a cell may have become."""


@dataclass(slots=True)
class CellView:
    """One cell as it is shown."""

    status: str = "left"
    """``left``, ``running``, or one of ``OVER``."""
    iteration: int = 0
    epochs: int = 0
    env_steps: int = 0
    steps_per_second: float | None = None
    pre_return: float | None = None
    post_return: float | None = None
    wall_seconds: float = 0.0
    """Training time so far; of a cell that is over, all of its time."""
    jobs_done: int = 0
    jobs: int = 0
    """Of the evaluation; 0 before it."""
    reason: str = ""

    def update(self, report: Mapping[str, Any]) -> None:
        """Take over what a cell reports of itself."""
        before = self.env_steps, self.wall_seconds
        for name in ("iteration", "epochs", "jobs_done", "jobs", "env_steps", "wall_seconds"):
            setattr(self, name, report.get(name, getattr(self, name)))
        for name in ("pre_return", "post_return"):
            setattr(self, name, report.get(name, getattr(self, name)))
        steps, seconds = self.env_steps - before[0], self.wall_seconds - before[1]
        if steps > 0 and seconds > 0 and before[1] > 0:
            self.steps_per_second = steps / seconds
        self.status = "running"

    @property
    def seconds_left(self) -> float | None:
        """Return the training seconds ahead; None before the first iteration."""
        if self.status != "running" or not self.iteration:
            return None
        return self.wall_seconds * max(0, self.epochs - self.iteration) / self.iteration


@dataclass(slots=True)
class SweepView:
    """All cells of a sweep, in their order."""

    name: str
    cells: dict[str, CellView] = field(default_factory=dict)
    failed_references: dict[str, dict[str, str]] = field(default_factory=dict)
    """By the key of the cell that was to score them, or "" in a run: reference line -> why it
    could not be scored."""

    def count(self, *statuses: str) -> int:
        """Return how many cells have one of ``statuses``."""
        counts = Counter(cell.status for cell in self.cells.values())
        return sum(counts[status] for status in statuses)

    @property
    def running(self) -> dict[str, CellView]:
        """The cells that are being played."""
        return {key: cell for key, cell in self.cells.items() if cell.status == "running"}

    @property
    def steps_per_second(self) -> float | None:
        """Environment steps a second of all running cells together."""
        known = [cell.steps_per_second for cell in self.running.values() if cell.steps_per_second]
        return sum(known) if known else None

    @property
    def seconds_left(self) -> float | None:
        """Return the time until the sweep is over, if cells go on to be played as many at once.

        None before a cell is over or well begun.
        """
        running = list(self.running.values())
        whole = [c.wall_seconds for c in self.cells.values() if c.status == "ok" and c.wall_seconds]
        whole += [c.wall_seconds * c.epochs / c.iteration for c in running if c.iteration]
        if not whole:
            return None
        usual = sum(whole) / len(whole)
        ahead = [usual if cell.seconds_left is None else cell.seconds_left for cell in running]
        total = sum(ahead) + usual * self.count("left")
        return max([total / max(1, len(running)), *ahead])

    def summary(self) -> str:
        """Return the counts on one line."""
        counts = {
            "ok": self.count("ok"),
            "running": self.count("running"),
            "failed": self.count("failed"),
            "stopped": self.count("stopped"),
            "left": self.count("left"),
        }
        shown = [f"{n} {word}" for word, n in counts.items() if n or word in ("running", "left")]
        text = f"{self.count(*OVER)}/{len(self.cells)} cells done: {', '.join(shown)}"
        lines = sum(len(failed) for failed in self.failed_references.values())
        return f"{text}; reference lines failed: {lines}" if lines else text


class SweepListener(Protocol):
    """Listener of a sweep, in the driver's process."""

    def started(self, view: SweepView) -> None:
        """The sweep begins; ``view`` is kept up to date from now on."""
        ...

    def begun(self, key: str) -> None:
        """A cell's process has started."""
        ...

    def reported(self, key: str) -> None:
        """A cell has told where it stands."""
        ...

    def over(self, key: str) -> None:
        """A cell is over, or was given up for now."""
        ...

    def note(self, text: str) -> None:
        """Something a user should read."""
        ...

    def closed(self) -> None:
        """The sweep is over, for whatever reason: give the terminal back."""
        ...
