"""Which cell of a sweep comes next, and what became of each. No ray: the scheduler asks and tells.

The cells' own manifests are the truth. Nothing here is kept across processes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig, config_as_dict
from harness.config.sweep_file import PlannedCell, TuneConfig
from harness.console.sweep_view import SweepListener, SweepView
from harness.experiments.trial import TrialSpec, first_manifest
from harness.meta import learners
from harness.reporting.store.manifest import Manifest, Status, config_hash
from harness.reporting.store.records import RunFolder
from harness.reporting.store.sweep_manifest import CELLS, SweepManifest, replay_command

STOP_FILE = ".stop"


@dataclass(slots=True)
class CellQueue:
    """Hands out cells, and settles what a dead process could not write itself."""

    folder: Path
    """Of the sweep, absolute."""
    manifest: SweepManifest
    planned: Mapping[str, PlannedCell]
    tune: TuneConfig
    watch: SweepListener
    waiting: list[str]
    """Keys still to be played, in order."""
    view: SweepView
    running: set[str] = field(default_factory=set)
    _twins: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._twins = twins(self.planned)

    @property
    def stop_file(self) -> Path:
        """The file that asks every cell to write a checkpoint and end."""
        return self.folder / STOP_FILE

    @property
    def exhausted(self) -> bool:
        """Whether no further cell is to be started."""
        return not self.waiting or self.stop_file.exists()

    def next(self, at_once: int) -> str | None:
        """Take the next cell; None while ``at_once`` are played or none may start now."""
        if self.exhausted or len(self.running) >= at_once:
            return None
        busy = {*self.waiting, *self.running}
        # finetune waits for its multitask, whose weights it takes.
        key = next((key for key in self.waiting if self._twins.get(key) not in busy), None)
        if key is not None:
            self.waiting.remove(key)
            self.running.add(key)
        return key

    def order(self, key: str, workers: int) -> TrialSpec:
        """Return what the trial of a cell is told."""
        planned, twin = self.planned[key], self._twins.get(key)
        execution = dataclasses.replace(
            planned.config.execution,
            backend="ray" if workers else "local",
            num_workers=workers or None,
        )
        elsewhere = {}
        if twin is not None and self._status(twin) == "ok":
            elsewhere = {self.planned[twin].cell: self.folder / CELLS / twin}
        return TrialSpec(
            cell=planned.cell,
            config=dataclasses.replace(planned.config, execution=execution),
            given=planned.given,
            folder=self.folder / CELLS / key,
            command=replay_command(self.folder / CELLS / key),
            references=key in reference_cells(self.planned),
            elsewhere=elsewhere,
            stop_file=self.stop_file,
            every_iteration=self.tune.scheduler != "none",
        )

    def begun(self, key: str) -> None:
        """Note that the process of a cell has started."""
        self.view.cells[key].status = "running"
        self.watch.begun(key)

    def reported(self, key: str, report: Mapping[str, Any]) -> None:
        """Note where a cell stands."""
        self.view.cells[key].update(report)
        for text in report.get("notes", ()):
            self.watch.note(f"{key}: {text}")
            # The note may be of reference lines: which of them, and why, the manifest lists.
            state = self.manifest.state(self.folder, key)
            self.view.failed_references[key] = state.failed_references if state else {}
        self.watch.reported(key)

    def died(self, key: str, cause: str) -> None:
        """Note that the process of a cell is gone, and that another one takes it up."""
        self._event(key, "trial_died", cause)
        self.watch.note(f"{key}: {cause}; going back to its last checkpoint")

    def failed(self, key: str, reason: str) -> None:
        """Settle a cell whose process died or raised too often."""
        self._event(key, "cell_failed", reason)
        self._settle(key, "failed", reason)
        self.finished(key)

    def finished(self, key: str) -> None:
        """Take note of a cell whose process is gone, for whatever reason."""
        if key not in self.running:
            return
        self.running.discard(key)
        cell = self.view.cells[key]
        if self._status(key) == "running" and not self.stop_file.exists():
            told = f"{cell.iteration} iterations, {cell.env_steps} environment steps"
            self._settle(key, "stopped", f"by {self.tune.scheduler} after {told}")
        state = self.manifest.state(self.folder, key)
        if state is not None:
            settled(self.view, key, state)
        if cell.status not in ("ok", "failed", "stopped"):
            cell.status = "left"
        self.watch.over(key)

    def _status(self, key: str) -> Status | None:
        state = self.manifest.state(self.folder, key)
        return state.cells[self.planned[key].cell.id].status if state else None

    def _settle(self, key: str, status: Status, reason: str) -> None:
        state = self.manifest.state(self.folder, key)
        path = self.folder / CELLS / key
        if state is None:  # its process died before it could begin
            path.mkdir(parents=True, exist_ok=True)
            state = first_manifest(self.order(key, 0), distributions=())
        state = state.with_status(self.planned[key].cell.id, status, reason)
        state.save(path / "manifest.json")

    def _event(self, key: str, kind: str, cause: str) -> None:
        folder = self.folder / CELLS / key
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).event(kind, cell=key, cause=cause)


def settled(view: SweepView, key: str, state: Manifest) -> None:
    """Show a cell as its manifest describes it; a started one is left until it runs again."""
    (found,) = state.cells.values()
    cell = view.cells[key]
    view.failed_references[key] = state.failed_references
    cell.status = found.status if found.status in ("ok", "failed", "stopped") else "left"
    cell.reason = found.reason
    if found.wall_seconds is not None:
        cell.wall_seconds = found.wall_seconds


def twins(planned: Mapping[str, PlannedCell]) -> dict[str, str]:
    """Return, by key, the cell that was trained as another one is to be, where there is one."""
    by_hash = {config_hash(config_as_dict(cell.config)): key for key, cell in planned.items()}
    found = {}
    for key, cell in planned.items():
        learner = learners.spec(cell.cell.learner).shared_training
        if learner is not None:
            twin = dataclasses.replace(cell.config, learner=(learner,))
            other = by_hash.get(config_hash(config_as_dict(twin)))
            if other is not None:
                found[key] = other
    return found


def reference_cells(planned: Mapping[str, PlannedCell]) -> frozenset[str]:
    """Return the first cell of every way to be scored: it scores the reference lines for all."""
    first: dict[str, str] = {}
    for key, cell in planned.items():
        first.setdefault(_scored_how(cell.config), key)
    return frozenset(first.values())


def _scored_how(config: RunConfig) -> str:
    plain = config_as_dict(config)
    names = ("task_dist", "env", "evaluation")
    return config_hash({name: plain[name] for name in names})
