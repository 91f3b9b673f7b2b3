"""The cells that are still to be played, in order, and the events they report. No ray here.

The cells' own states on disk are the truth: nothing here outlives the process.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.sweep_file import PlannedCell, TuneConfig
from harness.console.listener import RunListener
from harness.console.progress_state import RunProgress
from harness.errors import ExitCode
from harness.experiments.planning import shared_training, write_cell_config
from harness.experiments.trial import DIVERGED, TrialSpec
from harness.reporting.rebuild import CELL_CONFIG
from harness.reporting.store.manifest import CellState, Manifest, Status
from harness.reporting.store.records import RunFolder
from harness.types import Metrics

STOP_FILE = ".stop"
"""File in the run's folder that asks the processes of its cells to checkpoint and end."""
REPORT_SECONDS = 0.5
"""Least time between two reports of a cell that only the display reads."""


@dataclass(slots=True)
class CellQueue:
    """Hands out cells, and records what a dead process could not record itself."""

    folder: RunFolder
    manifest: Manifest
    planned: Mapping[str, PlannedCell]
    chosen: Set[str]
    """Keys of the cells to play."""
    tune: TuneConfig
    listener: RunListener
    revision: str = ""
    waiting: list[str] = field(init=False)
    """Keys of the cells to play that are not finished, in order, reference lines first."""
    running: set[str] = field(default_factory=set)
    shared: dict[str, str] = field(init=False)
    """Cell -> cell whose training it shares."""

    def __post_init__(self) -> None:
        wanted, over = {*self.manifest.references, *self.chosen}, ("ok", "stopped")
        entries = self.manifest.entries.items()
        self.waiting = [key for key, cell in entries if key in wanted and cell.status not in over]
        self.shared = shared_training(self.planned)

    def exit_code(self) -> ExitCode:
        """Return the code that the chosen cells and the reference lines stand for."""
        states = {self._state(key).status for key in (*self.manifest.references, *self.chosen)}
        if states & {"pending", "running"}:
            return ExitCode.INTERRUPTED
        return ExitCode.CELLS_FAILED if "failed" in states else ExitCode.COMPLETE

    @property
    def stop_file(self) -> Path:
        """The file that asks every cell to write a checkpoint and end."""
        return self.folder.path / STOP_FILE

    @property
    def exhausted(self) -> bool:
        """Whether no further cell is to be started."""
        return not self.waiting or self.stop_file.exists()

    def request_stop(self, text: str) -> None:
        """Ask every cell to write a checkpoint and end."""
        self.stop_file.touch()
        self.listener.note(text)

    def progress(self) -> RunProgress:
        """Return where the run stands; cells that were started count as waiting again."""
        progress = RunProgress.of(self.manifest, self.folder.path)
        for key in self.waiting:
            progress.cell(key).status = "waiting"
        return progress

    def next(self, at_once: int = 1) -> str | None:
        """Take the next cell; None while ``at_once`` are played or none may start now."""
        if self.exhausted or len(self.running) >= at_once:
            return None
        unfinished = {*self.waiting, *self.running}
        # A cell that shares a training waits until that is complete.
        key = next((key for key in self.waiting if self.shared.get(key) not in unfinished), None)
        if key is not None:
            self.waiting.remove(key)
            self.running.add(key)
        return key

    def spec(self, key: str, workers: int) -> TrialSpec:
        """Return the specification of a cell's trial.

        Args:
            key: the cell, or a table's reference lines.
            workers: Ray rollout actors of the cell; 0 to play it in one process.
        """
        references = key in self.manifest.references
        if references:  # they are scored as the first cell of their table would be
            info = self.manifest.references[key]
            cells = self.manifest.cells.items()
            key_of_cell = next(k for k, c in cells if c.table == info.table and c.cell == info.cell)
        planned = self.planned[key_of_cell if references else key]
        execution = dataclasses.replace(
            planned.config.execution,
            backend="ray" if workers else "local",
            num_workers=workers or None,
        )
        shared = self.shared.get(key)
        complete = shared is not None and self._state(shared).status == "ok"
        return TrialSpec(
            key=key,
            cell=planned.cell,
            config=dataclasses.replace(planned.config, execution=execution),
            run=self.folder.path.absolute(),
            references=references,
            shared=shared if complete else None,
            checkpoint=None if references else planned.checkpoint,
            factory=None if references else planned.factory,
            alone=len(self.planned) == 1,
            revision=self.revision,
        )

    def _state(self, key: str) -> CellState:
        return self.folder.cell(key).read_state()

    def reported(self, report: Mapping[str, Any]) -> None:
        """Pass on the events that a cell's process reported."""
        for name, arguments in report.get("events", ()):
            getattr(self.listener, name)(*arguments)

    def died(self, key: str, cause: str) -> None:
        """Record that the process of a cell died and that another one continues the cell."""
        self.folder.event("trial_died", cell=key, cause=cause)
        self.listener.note(f"{key}: {cause}; going back to its last checkpoint")

    def failed(self, key: str, reason: str) -> None:
        """Record that the process of a cell died or raised too often."""
        self.folder.event("cell_failed", cell=key, reason=reason)
        self._settle(key, "failed", reason)
        if key in self.planned:  # its process may have died before it wrote this
            path = self.folder.cell(key).path / CELL_CONFIG
            write_cell_config(path, self.planned[key].config)
        self.ended(key)

    def ended(self, key: str, result: Mapping[str, Any] | None = None) -> None:
        """Free the place of a cell whose process is gone.

        A cell that is still running then was stopped by the scheduler.

        Args:
            key: the cell.
            result: the last values that it reported.
        """
        if key not in self.running:
            return
        self.running.discard(key)
        state = self._state(key)
        judged = self.tune.scheduler != "none" and not self.stop_file.exists()
        if state.status == "running" and result and judged:
            iterations, steps = result.get("iteration", 0), result.get("env_steps", 0)
            if math.isfinite(result.get(self.tune.metric, 0.0)):
                done = f"{iterations} iterations, {steps} environment steps"
                self._settle(key, "stopped", f"by {self.tune.scheduler} after {done}")
            else:  # it is the worst because it is broken
                cause = f"{self.tune.metric} is not finite"
                reason = f"diverged: iteration {iterations}: {cause}"
                more = {"iteration": iterations, "cause": cause}
                self.folder.event("cell_failed", cell=key, reason=reason, **more)
                self._settle(key, "failed", reason)
        elif state.status in ("pending", "running"):
            self.listener.cell_finished(key, "waiting")

    def _settle(self, key: str, status: Status, reason: str) -> None:
        made = {"status": status, "reason": reason, "revision": self.revision}
        self.folder.cell(key).write_state(self._state(key).model_copy(update=made))
        self.listener.cell_finished(key, status, reason)


@dataclass(slots=True)
class ForwardingListener:
    """A ``RunListener`` in a cell's process: it forwards events in batches, as plain reports."""

    report: Callable[[dict[str, Any]], None]
    every_iteration: bool
    """Whether a scheduler has to see each iteration."""
    _events: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    _metrics: dict[str, Any] = field(default_factory=dict)
    _validation: dict[str, float] = field(default_factory=dict)
    """The last scores on validation tasks, which hold until the next."""
    _last: float = float("-inf")

    def started(self, progress: RunProgress) -> None:
        """Nothing: this process plays one cell."""

    def cell_started(self, key: str, first_iteration: int) -> None:
        """Forward at once."""
        self._metrics, self._validation = {"iteration": first_iteration, "env_steps": 0}, {}
        self._add("cell_started", key, first_iteration, now=True)

    def iteration(self, key: str, metrics: Metrics) -> None:
        """Forward the newest iteration of each batch."""
        self._metrics = {
            "iteration": metrics.iteration,
            "env_steps": metrics.env_steps,
            "pre_return": metrics.pre_return,
            "post_return": metrics.post_return,
        }
        if metrics.validation_return is not None:
            self._validation = {"validation_return": metrics.validation_return}
        self._metrics |= self._validation
        self._events = [event for event in self._events if event[0] != "iteration"]
        self._add("iteration", key, metrics, now=self.every_iteration)

    def evaluating(self, key: str, jobs_done: int, jobs: int) -> None:
        """Forward the newest one of each batch."""
        self._events = [event for event in self._events if event[0] != "evaluating"]
        self._add("evaluating", key, jobs_done, jobs)

    def cell_finished(self, key: str, status: str, reason: str = "") -> None:
        """Forward at once."""
        if status == "failed" and reason.startswith(DIVERGED):
            self._metrics["diverged"] = True
        self._add("cell_finished", key, status, reason, now=True)

    def note(self, text: str) -> None:
        """Forward with the next event."""
        self._events.append(("note", (text,)))

    def closed(self) -> None:
        """Nothing is open here."""

    def _add(self, name: str, *arguments: Any, now: bool = False) -> None:
        self._events.append((name, arguments))
        if now or time.monotonic() - self._last >= REPORT_SECONDS:
            events, self._events = self._events, []
            self._last = time.monotonic()
            self.report({**self._metrics, "events": events})
