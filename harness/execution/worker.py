"""The rollout worker as a plain class: collect, compute beside the data, evaluate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from harness.agents import AgentError
from harness.config.distributions import open_distribution
from harness.config.schema import RunConfig
from harness.execution import heldout, scoring
from harness.execution.cell_setup import build_setup
from harness.execution.jobs import Job
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import (
    DivergedError,
    JobContext,
    Learner,
    PolicySnapshot,
    RequestKind,
)
from harness.meta.rollouts.episode_loop import Clock
from harness.types import Cell


class JobError(RuntimeError):
    """A job or a learner raised an error: names it, and how to reproduce the error."""

    @classmethod
    def of(cls, place: object, error: Exception) -> JobError:
        """Return what is raised of ``error`` at ``place``."""
        return cls(
            f"{place} failed: {type(error).__name__}: {error}\n"
            "reproduce it in this process: the same command with --backend local"
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """The small part of a job's answer, read by the driver; results bypass the driver."""

    seconds: dict[str, float]
    """Where the worker's time went: physics, inference, adapt, gradient; total is all of it."""


class Worker:
    """Does jobs one at a time on one thread, and keeps what it collected for later requests."""

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(1)
        self._config = config
        self._learners: dict[Cell, tuple[CellSetup, Learner[Any]]] = {}
        self._collected: dict[tuple[str, str, int, int], Any] = {}

    def do(self, kind: RequestKind, job: Job, payload: Any, origin: Any) -> tuple[Receipt, Any]:
        """Answer a request for ``job``.

        Args:
            kind: what is asked for.
            job: the piece of work.
            payload: the payload of the request.
            origin: the ``COLLECT`` payload of this iteration, to collect the job's data again;
                ``None`` if this worker holds the data.

        Raises:
            JobError: the job raised an error.
            AgentError: the agent that was scored failed.
            DivergedError: adaptation arrived at parameters that are not finite.
        """
        began = time.perf_counter()
        clock = Clock()
        try:
            result = self._answer(kind, job, payload, origin, clock)
        except (AgentError, DivergedError):
            raise
        except Exception as error:
            raise JobError.of(job, error) from error
        clock.add("total", began)
        return Receipt(clock.seconds), result

    def _answer(self, kind: RequestKind, job: Job, payload: Any, origin: Any, clock: Clock) -> Any:
        evaluation = self._config.evaluation
        if kind in (RequestKind.REFERENCE, RequestKind.AGENT):  # they need no policy of ours
            dist = open_distribution(self._config.task_dist, self._config.env)
            if kind is RequestKind.REFERENCE:
                return scoring.reference(dist, evaluation, job, clock)
            return scoring.agent(dist, evaluation, job, payload, clock)
        setup, learner = self._built(job.cell)
        match kind:
            case RequestKind.EVALUATE:
                return scoring.evaluate(setup, evaluation, job, payload, clock)
            case RequestKind.VALIDATE:
                few = heldout.evaluation_of(evaluation)
                return scoring.evaluate(setup, few, job, payload, clock)
            case RequestKind.COLLECT:
                return self._collect(job, payload, clock)
            case RequestKind.COMPUTE:
                if job.key not in self._collected:
                    self._collect(job, origin, clock)
                began = time.perf_counter()
                result = learner.compute(self._collected[job.key], payload, clock)
                clock.add("gradient", began)
                return result

    def _collect(self, job: Job, policy: PolicySnapshot, clock: Clock) -> Any:
        setup, learner = self._built(job.cell)
        outdated = [key for key in self._collected if key[:3] != job.key[:3]]
        for key in outdated:
            del self._collected[key]
        tasks = setup.tasks(job.split, job.task_indices)
        context = JobContext(job.iteration, job.seed_keys)
        self._collected[job.key], report = learner.collect(tasks, context, policy, clock)
        return report

    def _built(self, cell: Cell) -> tuple[CellSetup, Learner[Any]]:
        if cell not in self._learners:
            setup = build_setup(cell, self._config)
            self._learners[cell] = (setup, learners.build(setup))
        return self._learners[cell]
