"""What a rollout actor does, as a plain class: collect, compute beside the data, evaluate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from harness.config.schema import RunConfig
from harness.execution import scoring
from harness.execution.jobs import Job
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import JobContext, Learner, PolicyState
from harness.meta.rollouts.episode_loop import Clock
from harness.types import Cell


class JobError(RuntimeError):
    """A job failed by its own doing: says which, and how to see it happen again."""

    def __init__(self, job: Job, cause: str) -> None:
        super().__init__(
            f"{job} failed: {cause}\nreplay in this process: the same command with "
            f"--backend local --policy {job.cell.policy} --learner {job.cell.learner} "
            f"--seed {job.cell.seed}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (str(self),)


def _rebuild(message: str) -> JobError:
    error = JobError.__new__(JobError)
    RuntimeError.__init__(error, message)
    return error


@dataclass(frozen=True, slots=True)
class Receipt:
    """The small part of a job's answer, read by the driver; results go past it."""

    seconds: dict[str, float]
    """physics, inference, adapt, gradient: where the worker's time went; total: all of it."""


class Worker:
    """Does jobs one at a time on one thread, and keeps what it collected for later requests."""

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(1)
        self._config = config
        self._learners: dict[Cell, tuple[CellSetup, Learner]] = {}
        self._kept: dict[tuple[str, str, int, int], Any] = {}

    def do(self, kind: str, job: Job, payload: Any, origin: Any) -> tuple[Receipt, Any]:
        """Answer the request ``kind`` for ``job``.

        Args:
            kind: ``collect``, ``evaluate``, ``reference`` or what the learner's compute knows.
            job: the piece of work.
            payload: what the request carries.
            origin: the ``collect`` payload of this iteration, to collect the job's data again;
                ``None`` where this worker has it.

        Raises:
            JobError: anything went wrong inside.
        """
        began = time.perf_counter()
        clock = Clock()
        try:
            result = self._answer(kind, job, payload, origin, clock)
        except Exception as error:
            raise JobError(job, f"{type(error).__name__}: {error}") from error
        clock.add("total", began)
        return Receipt(clock.seconds), result

    def _answer(self, kind: str, job: Job, payload: Any, origin: Any, clock: Clock) -> Any:
        problem, learner = self._built(job.cell)
        if kind == "evaluate":
            return scoring.evaluate(problem, learner, job, payload, clock)
        if kind == "reference":
            return scoring.reference(problem, job, clock)
        if kind == "collect":
            return self._collect(job, payload, clock)
        if job.key not in self._kept:
            self._collect(job, origin, clock)
        began = time.perf_counter()
        result = learner.compute(kind, self._kept[job.key], payload, clock)
        clock.add("gradient", began)
        return result

    def _collect(self, job: Job, payload: PolicyState, clock: Clock) -> Any:
        problem, learner = self._built(job.cell)
        stale = [key for key in self._kept if key[:3] != job.key[:3]]
        for key in stale:
            del self._kept[key]
        tasks = problem.tasks(job.split, job.task_indices)
        place = JobContext(job.iteration, job.seed_keys)
        data, report = learner.collect(tasks, place, payload, clock)
        self._kept[job.key] = data
        return report

    def _built(self, cell: Cell) -> tuple[CellSetup, Learner]:
        if cell not in self._learners:
            problem = CellSetup.build(cell, self._config)
            self._learners[cell] = (problem, learners.build(problem))
        return self._learners[cell]
