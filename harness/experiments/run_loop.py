"""The cells of a run, one after the other: train, checkpoint, score, record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig, config_as_dict
from harness.console.listener import RunListener
from harness.execution import checkpoint as checkpoints
from harness.execution.backend import Backend, LearnerHandle, LostError
from harness.execution.cell import CellRunner
from harness.execution.interrupt import InterruptedRunError, Stop
from harness.execution.scoring import REFERENCE, REFERENCE_LINES, planned_env_steps
from harness.execution.worker import JobError
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import DivergedError
from harness.meta.learners.traits import traits
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import RunFolder
from harness.types import Cell, EvalRecord, Metrics

LEARNER_LIVES = 3
"""Times a cell goes back to its last checkpoint because its learner died."""

FAILURES: dict[type[Exception], str] = {
    DivergedError: "diverged",
    JobError: "error",
    LostError: "lost",
    OSError: "disk",
}
"""What fails a cell and lets the others go on; anything else is a bug and stops the run."""


def reason_of(error: Exception) -> str:
    """Return a failure's label and what it says."""
    label = next(name for kind, name in FAILURES.items() if isinstance(error, kind))
    if isinstance(error, LostError) and error.memory:
        label = "oom"
    return f"{label}: {error}"


@dataclass(slots=True)
class RunLoop:
    """One process's turn at a run."""

    config: RunConfig
    backend: Backend
    folder: RunFolder
    manifest: Manifest
    progress: RunListener
    stop: Stop
    references: bool = True
    """Whether this run is the one that scores the reference lines."""
    elsewhere: Mapping[Cell, Path] = field(default_factory=dict)
    """Folders of other runs whose cells were trained as ones of this run are to be."""

    def play(self, checkpoint: Path | None = None) -> None:
        """Play every cell that is not complete; with ``checkpoint``, only score that."""
        todo = [cell for cell in self._cells() if self.manifest.cells[cell.id].status != "ok"]
        planned = {cell: self._runner(cell).config.train.epochs for cell in todo}
        self.progress.started(dict.fromkeys(todo, 0) if checkpoint else planned)
        self.progress.note(f"writing to {self.folder.path}")
        if self.references:
            self._reference()
        for cell in todo:
            self._cell(cell, checkpoint)

    def _cells(self) -> list[Cell]:
        return [
            Cell(state.task_dist, state.policy, state.learner, state.seed)
            for state in self.manifest.cells.values()
        ]

    def _reference(self) -> None:
        """Score the reference lines once a run, and say how long the physics alone will take."""
        if not self._missing_references():
            self._references({})
            return
        first = self._cells()[0]
        try:
            records, rate = self._runner(first).reference(self._ignore)
            for line in REFERENCE_LINES:
                key = self._reference_cell(first, line).id
                self._write(key, [record for record in records if record.cell == key])
        except (JobError, LostError, OSError) as error:
            self._reference_failed(reason_of(error))
            return
        self._references({})
        self.progress.note(self._estimate(rate))

    def _reference_failed(self, reason: str) -> None:
        """List the reference lines without records as failed; ``--resume`` scores them again."""
        self.folder.event("reference_failed", reason=reason)
        self.progress.note(f"the reference lines could not be scored: {reason}")
        self._references(dict.fromkeys(self._missing_references(), reason))

    def _missing_references(self) -> list[str]:
        first, records = self._cells()[0], self.folder.path / "records"
        cells = {line: self._reference_cell(first, line).id for line in REFERENCE_LINES}
        return [line for line, key in cells.items() if not (records / f"{key}.parquet").exists()]

    def _references(self, failed: Mapping[str, str]) -> None:
        if failed != self.manifest.failed_references:
            self.manifest = self.manifest.with_failed_references(failed)
            self.manifest.save(self.folder.manifest_path)

    @staticmethod
    def _reference_cell(cell: Cell, line: str) -> Cell:
        return Cell(cell.task_dist, line, REFERENCE, cell.seed)

    def _estimate(self, rate: float) -> str:
        ahead = (cell for cell in self._cells() if self.manifest.cells[cell.id].status != "ok")
        steps = sum(planned_env_steps(CellSetup.build(cell, self.config)) for cell in ahead)
        return (
            f"up to {steps / 1e6:.1f} M environment steps ahead, at {rate / 1e3:.0f} k/s without "
            f"a policy: {steps / rate / 60:.1f} min of physics, learning comes on top"
        )

    def _runner(self, cell: Cell) -> CellRunner:
        return CellRunner(CellSetup.build(cell, self.config), self.backend)

    def _cell(self, cell: Cell, checkpoint: Path | None) -> None:
        began = time.perf_counter()
        self._status(cell, "running")
        try:
            spent = self._train_and_score(cell, checkpoint)
        except (DivergedError, JobError, LostError, OSError) as error:
            reason = reason_of(error)
            self.folder.event("cell_failed", cell=cell.id, reason=reason)
            self._status(cell, "failed", reason, time.perf_counter() - began)
            self.progress.cell_finished(cell, "failed", reason)
            return
        self._status(cell, "ok", wall=spent)
        self.progress.cell_finished(cell, "ok")

    def _train_and_score(self, cell: Cell, checkpoint: Path | None) -> float:
        """Return the wall seconds of the cell, resumed parts of its training included."""
        lives = LEARNER_LIVES
        while True:
            try:
                return self._attempt(cell, checkpoint)
            except LostError as error:
                lives -= 1
                if not lives or not error.learner:
                    raise
                self.folder.event("learner_died", cell=cell.id, cause=str(error))
                self.progress.note(f"{error}; going back to its last checkpoint")

    def _attempt(self, cell: Cell, checkpoint: Path | None) -> float:
        runner = self._runner(cell)
        store = self.folder.checkpoints / cell.id
        found = None if checkpoint else checkpoints.latest(store, self._damaged)
        if found is None and checkpoint is None:
            found = self._twin(cell)
        path, first, wall = checkpoint, 0, 0.0
        if found:
            path, saved = found
            first, wall = int(saved.learner["iteration"]), float(saved.run["wall_seconds"])
        # Absolute: the learner may have another working directory.
        learner = self.backend.start_learner(cell, path and path.resolve())
        if checkpoint is None:
            self.progress.cell_started(cell, first)
            wall = self._train(cell, runner, learner, first, wall)
        began = time.perf_counter()
        records = runner.evaluate(learner, lambda done, jobs: self._scored(cell, done, jobs))
        self._write(cell.id, records)
        return wall + time.perf_counter() - began

    def _twin(self, cell: Cell) -> tuple[Path, checkpoints.Checkpoint] | None:
        """Return the last checkpoint of a finished cell that was trained as this one would be."""
        learner = traits(cell.learner).trained_as
        if learner is None:
            return None
        twin = dataclasses.replace(cell, learner=learner)
        folder, manifest = self.folder, self.manifest
        if twin in self.elsewhere:
            folder = RunFolder(self.elsewhere[twin])
            manifest = Manifest.load(folder.manifest_path)
        state = manifest.cells.get(twin.id)
        if state is None or state.status != "ok":
            return None
        found = checkpoints.latest(folder.checkpoints / twin.id, self._damaged)
        if found is None:
            return None
        self.folder.write_curve(cell.id, list(folder.read_curve(twin.id)))
        self.progress.note(f"{cell.id} is trained as {twin.id} was: taking its weights")
        return found

    def _train(
        self, cell: Cell, runner: CellRunner, learner: LearnerHandle, first: int, wall: float
    ) -> float:
        """Train to the end; return the training seconds so far."""
        curve = list(self.folder.read_curve(cell.id))[:first]
        if first and checkpoints.latest(self.folder.checkpoints / cell.id, self._damaged) is None:
            self._save(cell, learner, curve)  # its own, so that it can be scored alone
        for metrics in runner.train(learner, first, wall):
            curve.append(metrics)
            wall = metrics.wall_seconds
            self.progress.iteration(cell, metrics)
            last = metrics.iteration == runner.config.train.epochs
            due = metrics.iteration % self.config.execution.checkpoint_every == 0
            try:
                self.stop.check()
            except InterruptedRunError:
                self._save(cell, learner, curve)
                raise
            if due or last:
                self._save(cell, learner, curve)
        return wall

    def _save(self, cell: Cell, learner: LearnerHandle, curve: list[Metrics]) -> None:
        run: dict[str, Any] = {
            "cell": dataclasses.asdict(cell),
            "config": config_as_dict(self.config),
            "wall_seconds": curve[-1].wall_seconds,
        }
        store = (self.folder.checkpoints / cell.id).resolve()
        # The curve first: a checkpoint without its rows would leave a gap, rows beyond are cut.
        self.folder.write_curve(cell.id, curve)
        path = checkpoints.path_of(store, curve[-1].iteration)
        learner.save(path, run)
        portable = self.config.execution.ckpt_dir
        if portable is not None:
            alone = len(self.manifest.cells) == 1
            checkpoints.export_npz(path, portable if alone else portable / cell.id)

    def _write(self, key: str, records: list[EvalRecord]) -> None:
        name = self.folder.path.name
        self.folder.write_records(key, [dataclasses.replace(row, run=name) for row in records])

    def _scored(self, cell: Cell, done: int, jobs: int) -> None:
        self.progress.evaluating(cell, done, jobs)
        self.stop.check()

    def _ignore(self, done: int, jobs: int) -> None:
        self.stop.check()

    def _damaged(self, path: Path, reason: str) -> None:
        self.folder.event("checkpoint_damaged", path=str(path), reason=reason)
        self.progress.note(f"{reason}; the checkpoint before it is used")

    def _status(self, cell: Cell, status: Any, reason: str = "", wall: float | None = None) -> None:
        self.manifest = self.manifest.with_status(cell.id, status, reason, wall)
        self.manifest.save(self.folder.manifest_path)
