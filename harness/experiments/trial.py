"""One cell, played in its folder: train, checkpoint, score, record. No ray here.

A cell always goes on from its last checkpoint. What became of it is written to its ``state.json``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.agents import AgentError, AgentSource, TimeLimits
from harness.config.schema import RunConfig, config_as_dict
from harness.console.listener import RunListener
from harness.execution import checkpoint as checkpoints
from harness.execution.backend import Backend, LearnerHandle, LostError
from harness.execution.cell import CellRunner, CellScorer
from harness.execution.cell_setup import build_setup
from harness.execution.interrupt import InterruptedRunError, Stop
from harness.execution.local import LocalBackend
from harness.execution.worker import JobError
from harness.experiments.lock import alone
from harness.experiments.planning import write_cell_config
from harness.meta.learners.base import DivergedError
from harness.reporting.rebuild import CELL_CONFIG
from harness.reporting.store.manifest import CELLS_DIR, CellState
from harness.reporting.store.provenance import machine
from harness.reporting.store.records import CellFolder, RunFolder
from harness.tracking.trackers import with_trackers
from harness.types import Cell, EvalRecord, Metrics
from metarl_plugins import PluginError

LEARNER_ATTEMPTS = 3
"""Times a cell is tried before it fails because its learner died."""
LOCK_SECONDS = 120.0
"""How long a cell waits until the processes that a killed driver left behind are gone."""
CAUGHT = (DivergedError, AgentError, JobError, LostError, OSError, PluginError)
"""Errors that fail a cell and let the others go on; anything else is a bug and stops the run."""

DIVERGED = "diverged"
"""First word of the reason of a cell that has diverged."""


def agent_source(config: RunConfig, factory: Callable[[], Any] | None = None) -> AgentSource:
    """Return how the agent of a cell's configuration is made."""
    (part,) = config.agent.values()
    limits = TimeLimits(config.execution.act_timeout, config.execution.adapt_timeout)
    return AgentSource(part.kind, part.settings, limits, factory)


StartBackend = Callable[[RunConfig, RunFolder, RunListener], Backend]


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """Everything that is needed to play one cell, in any process."""

    key: str
    cell: Cell
    config: RunConfig
    """Of the cell alone, with the execution settings it is to be played with."""
    run: Path
    """The run's folder, absolute; the same on every node."""
    references: bool = False
    """Score the reference lines of the cell's table, and train nothing."""
    shared: str | None = None
    """Key of a complete cell whose training is the same."""
    checkpoint: Path | None = None
    """Score this checkpoint, and train nothing."""
    factory: Callable[[], Any] | None = None
    """Makes the agent to score, in place of what its name stands for."""
    alone: bool = False
    """Whether it is the only cell of the run."""
    revision: str = ""
    """Git revision of the code that plays it."""

    @property
    def folder(self) -> CellFolder:
        """The cell's folder."""
        return CellFolder(self.run / CELLS_DIR / self.key)


def reason_of(error: Exception) -> str:
    """Return a failure's label and message."""
    labels = {
        DivergedError: DIVERGED,
        AgentError: "agent",
        JobError: "error",
        LostError: "lost",
        OSError: "disk",
        PluginError: "error",
    }
    label = next(name for kind, name in labels.items() if isinstance(error, kind))
    if isinstance(error, LostError) and error.memory:
        label = "oom"
    return f"{label}: {error}"


def start_backend(config: RunConfig, folder: RunFolder, listener: RunListener) -> Backend:
    """Start the workers that the configuration asks for; their faults are events and notes."""

    def notify(kind: str, fields: dict[str, Any]) -> None:
        folder.event(kind, **fields)
        listener.note(f"{kind}: " + ", ".join(f"{key} {value}" for key, value in fields.items()))

    if config.execution.backend == "local":
        return LocalBackend(config)
    # Imported here: a local run, and bad input, need not pay for importing ray.
    from harness.execution.ray.backend import RayBackend

    return RayBackend(config, notify)


def play_cell(spec: TrialSpec, backend: Backend, listener: RunListener, stop: Stop) -> CellState:
    """Play one cell to its end; return what became of it.

    Raises:
        InterruptedRunError: a stop was requested; the cell is ``running`` and can be continued.
        UsageError: another process has held the cell's folder for too long.
    """
    spec.folder.create()
    with alone(spec.folder.path, LOCK_SECONDS):
        if spec.references:
            return _Trial(spec, backend, listener, stop).play()
        if not spec.checkpoint:
            write_cell_config(spec.folder.path / CELL_CONFIG, spec.config)
        with with_trackers(listener, spec.folder, spec.config) as tracking:
            return _Trial(spec, backend, tracking, stop).play()


@dataclass(slots=True)
class _Trial:
    """One process's attempt at a cell."""

    spec: TrialSpec
    backend: Backend
    listener: RunListener
    stop: Stop

    @property
    def folder(self) -> CellFolder:
        return self.spec.folder

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.spec.run)

    def play(self) -> CellState:
        began = time.perf_counter()
        before = self.folder.read_state().cpu.split("; ")
        cpus = dict.fromkeys((*filter(None, before), machine()["cpu"]))
        state = CellState(status="running", revision=self.spec.revision, cpu="; ".join(cpus))
        self.folder.write_state(state)
        try:
            untrained = self.spec.references or self.spec.config.agent
            spent = self._score() if untrained else self._train_and_score()
            ended: dict[str, Any] = {"status": "ok"}
        except CAUGHT as error:
            reason, spent = reason_of(error), time.perf_counter() - began
            self.run.event("cell_failed", cell=self.spec.key, reason=reason, **self._facts(error))
            ended = {"status": "failed", "reason": reason}
        state = state.model_copy(update=ended | {"wall_seconds": spent})
        self.folder.write_state(state)
        self.listener.cell_finished(self.spec.key, state.status, state.reason)
        return state

    def _facts(self, error: Exception | None = None) -> dict[str, Any]:
        """Return what an event says about the training: where it diverged, and what was lost."""
        curve = self.folder.read_curve()
        lost = {
            "invalid_training_episodes": sum(metrics.invalid_episodes for metrics in curve),
            "skipped_updates": sum(metrics.skipped for metrics in curve),
        }
        facts: dict[str, Any] = {name: count for name, count in lost.items() if count}
        if isinstance(error, DivergedError):
            done = len(curve) if error.iteration is None else error.iteration
            facts |= {"iteration": done, "cause": error.cause}
        return facts

    def _score(self) -> float:
        """Score the reference lines or an agent; return the wall seconds."""
        began = time.perf_counter()
        scorer = CellScorer(self.spec.cell, self.spec.config, self.backend)
        if self.spec.references:
            self.listener.cell_started(self.spec.key, 0)
            records = scorer.reference(self._evaluating)
        else:
            source = agent_source(self.spec.config, self.spec.factory)
            self.listener.cell_started(self.spec.key, 0)
            records = scorer.agent(source, self._evaluating)
        self._write(records)
        return time.perf_counter() - began

    def _train_and_score(self) -> float:
        """Return the wall seconds of the cell, earlier parts of its training included."""
        for attempt in range(1, LEARNER_ATTEMPTS + 1):
            try:
                return self._attempt()
            except LostError as error:
                if attempt == LEARNER_ATTEMPTS or not error.learner:
                    raise
                self.run.event("learner_died", cell=self.spec.key, cause=str(error))
                self.listener.note(f"{error}; going back to its last checkpoint")
        raise AssertionError("unreachable")

    def _attempt(self) -> float:
        checkpoint, first, wall = self.spec.checkpoint, 0, 0.0
        if checkpoint and not checkpoint.is_file():
            raise FileNotFoundError(f"{checkpoint}, which is to be scored, is gone")
        latest = None if checkpoint else self._latest(self.folder) or self._shared()
        if latest:
            checkpoint, saved = latest
            first, wall = int(saved.learner["iteration"]), float(saved.run["wall_seconds"])
        setup = build_setup(self.spec.cell, self.spec.config)
        runner = CellRunner(setup, self.spec.config, self.backend)
        # Absolute: the learner may have another working directory.
        learner = self.backend.start_learner(self.spec.cell, checkpoint and checkpoint.resolve())
        self.listener.cell_started(self.spec.key, first)
        if not self.spec.checkpoint:
            wall = self._train(runner, learner, first, wall)
            if lost := self._facts():
                self.run.event("training_faults", cell=self.spec.key, **lost)
        began = time.perf_counter()
        self._write(runner.evaluate(learner, self._evaluating))
        return wall + time.perf_counter() - began

    def _latest(self, folder: CellFolder) -> tuple[Path, checkpoints.Checkpoint] | None:
        def damaged(path: Path, reason: str) -> None:
            self.run.event("checkpoint_damaged", path=str(path), reason=reason)
            self.listener.note(f"{reason}; the checkpoint before it is used")

        return checkpoints.latest(folder.checkpoints, damaged)

    def _shared(self) -> tuple[Path, checkpoints.Checkpoint] | None:
        """Return the last checkpoint of the cell that was trained as this one would be."""
        if self.spec.shared is None:
            return None
        other = self.run.cell(self.spec.shared)
        latest = self._latest(other)
        if latest:
            self.folder.write_curve(other.read_curve())
            self.listener.note(f"{self.spec.key} shares the training of {self.spec.shared}")
        return latest

    def _train(self, runner: CellRunner, learner: LearnerHandle, first: int, wall: float) -> float:
        """Train to the end; return the training seconds so far."""
        curve = list(self.folder.read_curve())[:first]
        if first and self._latest(self.folder) is None:
            self._save(learner, curve)  # of its own, so that it can be scored alone
        try:
            for metrics in runner.train(learner, first, wall, tuple(curve)):
                curve.append(metrics)
                wall = metrics.wall_seconds
                self.listener.iteration(self.spec.key, metrics)
                due = metrics.iteration % self.spec.config.execution.checkpoint_every == 0
                try:
                    self.stop.check()
                except InterruptedRunError:
                    self._save(learner, curve)
                    raise
                if due or runner.setup.budget.exhausted(metrics.iteration, metrics.env_steps):
                    self._save(learner, curve)
        except DivergedError:
            self.folder.write_curve(curve)  # it shows how training went until then
            raise
        return wall

    def _save(self, learner: LearnerHandle, curve: list[Metrics]) -> None:
        run: dict[str, Any] = {
            "cell": dataclasses.asdict(self.spec.cell),
            "config": config_as_dict(self.spec.config),
            "wall_seconds": curve[-1].wall_seconds,
            "machine": machine(),
        }
        # The curve first: a checkpoint without its rows would leave a gap, extra rows are cut.
        self.folder.write_curve(curve)
        path = checkpoints.path_of(self.folder.checkpoints.resolve(), curve[-1].iteration)
        learner.save(path, run)
        portable = self.spec.config.execution.ckpt_dir
        if portable is not None:
            checkpoints.export_npz(path, portable if self.spec.alone else portable / self.spec.key)

    def _write(self, records: list[EvalRecord]) -> None:
        run, key = self.spec.run.name, self.spec.key
        self.folder.write_records([dataclasses.replace(row, run=run, cell=key) for row in records])

    def _evaluating(self, done: int, jobs: int) -> None:
        self.listener.evaluating(self.spec.key, done, jobs)
        self.stop.check()
