"""Train one cell, then score it: the same loop for every learner and backend."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.agents import AgentSource
from harness.config.distributions import open_distribution
from harness.config.protocol import scored_splits, scored_tasks
from harness.config.schema import RunConfig
from harness.execution import heldout, jobs
from harness.execution.backend import Backend, Handle, LearnerHandle, Work
from harness.execution.divergence import MAX_SKIPPED, check_scores, check_training
from harness.execution.jobs import Job
from harness.execution.worker import Receipt
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import DivergedError, IterationInfo, Request, RequestKind
from harness.types import Cell, EvalRecord, Metrics
from task_distributions import TaskDistribution

OnDone = Callable[[int, int], None]
"""(jobs done, all jobs), after every job."""


@dataclass(frozen=True, slots=True)
class CellScorer:
    """Scores whatever a cell consists of on a backend."""

    cell: Cell
    config: RunConfig
    backend: Backend

    @property
    def dist(self) -> TaskDistribution:
        """The cell's distribution."""
        return open_distribution(self.config.task_dist, self.config.env)

    def agent(self, source: AgentSource, on_done: OnDone) -> list[EvalRecord]:
        """Score an agent at every requested number of shots, one task a job."""
        # One that cannot be rewound adapts anew for every number of shots.
        adaptations = 1 + sum(self.config.evaluation.shots)
        patience = source.limits.adapt * adaptations
        request = Request(RequestKind.AGENT, source)
        return self.score(request, self.config.envs_per_job, on_done, patience)[0]

    def reference(self, on_done: OnDone) -> list[EvalRecord]:
        """Score the reference lines on the same tasks and seeds.

        Raises:
            DivergedError: no episode of a reference line was valid.
        """
        request = Request(RequestKind.REFERENCE, None)
        return self.score(request, self.config.evaluation.query_episodes, on_done)[0]

    def jobs(self, phase: str, episodes: int) -> list[Job]:
        """Return the work of a scoring phase with at most ``episodes`` environments per task."""
        size = jobs.ChunkSize.of(self.config, episodes)
        pieces: list[Job] = []
        for split in scored_splits(self.config.evaluation):
            indices = scored_tasks(self.dist, self.config, split)
            pieces += jobs.cut(self.cell, phase, 0, split, indices, size, len(pieces))
        return pieces

    def score(
        self, request: Request, episodes: int, on_done: OnDone, patience: float = 0.0
    ) -> tuple[list[EvalRecord], list[Receipt]]:
        """Do the work of a scoring phase; return the records and receipts in job order.

        Raises:
            DivergedError: no episode was valid.
        """
        pieces = self.jobs(request.kind.value, episodes)
        work = Work(request, pieces, patience=patience)
        receipts, results = self.backend.run(work, lambda done: on_done(done, len(pieces)))
        records = [record for part in self.backend.fetch(results) for record in part]
        check_scores(records)
        return records, receipts


@dataclass(frozen=True, slots=True)
class CellRunner:
    """Trains one cell on a backend and scores it."""

    setup: CellSetup
    config: RunConfig
    backend: Backend

    @property
    def scorer(self) -> CellScorer:
        """What scores the cell."""
        return CellScorer(self.setup.cell, self.config, self.backend)

    def train(
        self, learner: LearnerHandle, first: int, wall: float, before: Sequence[Metrics] = ()
    ) -> Iterator[Metrics]:
        """Run meta-iterations until the budget is exhausted, yielding after each.

        Args:
            learner: the learner to advance.
            first: iterations already done (when resumed).
            wall: training seconds already spent.
            before: what those iterations reported.

        Raises:
            DivergedError: the policy is not finite, or training has stopped to learn.
        """
        curve, iteration = list(before), first
        every = heldout.interval(self.setup, self.config)
        env_steps = curve[-1].env_steps if curve else 0
        max_skipped = getattr(self.setup.settings, "max_skipped", MAX_SKIPPED)
        while True:
            over = self.setup.budget.exhausted(iteration, env_steps)
            check_training(curve, max_skipped, over=over)
            if over:
                return
            metrics = self._iterate(learner, iteration, wall)
            if every is not None and metrics.env_steps // every > env_steps // every:
                metrics = self._validate(learner, metrics)
            iteration, env_steps = metrics.iteration, metrics.env_steps
            wall = metrics.wall_seconds
            curve.append(metrics)
            yield metrics

    def _iterate(self, learner: LearnerHandle, iteration: int, wall: float) -> Metrics:
        began = time.perf_counter()
        pieces = self.training_jobs(iteration)
        receipts: list[Receipt] = []
        step = learner.advance()
        origin: Handle = None
        while step.request is not None:
            if step.request.kind is RequestKind.COLLECT:
                origin = step.request.payload
            answered, results = self.backend.run(Work(step.request, pieces, origin))
            receipts += answered
            step = learner.advance(*results)
        assert isinstance(step.done, IterationInfo)
        spent = time.perf_counter() - began
        return Metrics(
            iteration=iteration + 1,
            env_steps=step.env_steps,
            pre_return=step.done.pre_return,
            post_return=step.done.post_return,
            wall_seconds=wall + spent,
            seconds=_shares(receipts, step.seconds, spent, self.backend),
            info=step.done.info,
        )

    def _validate(self, learner: LearnerHandle, metrics: Metrics) -> Metrics:
        """Return the iteration's metrics with scores on validation tasks."""
        began = time.perf_counter()
        dist, evaluation = self.setup.dist, heldout.evaluation_of(self.config.evaluation)
        indices = heldout.tasks_of(dist, self.config.execution.eval_tasks)
        # One job unless the batch is large: in several, every step of the policy costs as much.
        whole = jobs.ChunkSize.of(self.config, jobs.evaluation_episodes(evaluation))
        size = replace(whole, min_jobs=1)
        cell, phase = self.setup.cell, RequestKind.VALIDATE.value
        pieces = jobs.cut(cell, phase, metrics.iteration, "validation", indices, size)
        try:
            request = Request(RequestKind.VALIDATE, learner.snapshot())
            results = self.backend.fetch(self.backend.run(Work(request, pieces))[1])
            records = [record for part in results for record in part]
            found = heldout.summary(records, success=dist.spec.has_success)
        except DivergedError:  # by adapting: training itself goes on
            found = {f"return_{shots}": math.nan for shots in evaluation.shots}
        spent = time.perf_counter() - began
        return replace(
            metrics,
            validation=found,
            wall_seconds=metrics.wall_seconds + spent,
            seconds={**metrics.seconds, "validation": spent},
        )

    def training_jobs(self, iteration: int) -> list[Job]:
        """Return the work of one meta-iteration."""
        cell, learner = self.setup.cell, learners.build(self.setup)
        indices = jobs.training_tasks(
            cell.seed, iteration, self.setup.training_classes(), learner.tasks_per_iteration
        )
        size = jobs.ChunkSize.of(self.config, learner.envs_per_task)
        return jobs.cut(cell, "train", iteration, "train", indices, size)

    def evaluate(self, learner: LearnerHandle, on_done: OnDone) -> list[EvalRecord]:
        """Score the learner at every requested number of shots.

        Raises:
            DivergedError: the policy or what it adapts to is not finite, or no episode was valid.
        """
        request = Request(RequestKind.EVALUATE, learner.snapshot())
        episodes = jobs.evaluation_episodes(self.config.evaluation)
        return self.scorer.score(request, episodes, on_done)[0]


def _shares(
    receipts: Sequence[Receipt], learner: float, wall: float, backend: Backend
) -> dict[str, float]:
    """Return worker-seconds by stage; idle is all else, such as transport and waiting."""
    shares: dict[str, float] = {}
    for receipt in receipts:
        for stage, seconds in receipt.seconds.items():
            shares[stage] = shares.get(stage, 0.0) + seconds
    total = shares.pop("total", 0.0)
    shares["other"] = total - sum(shares.values())
    shares["learner"] = learner
    shares["idle"] = max(0.0, wall * backend.num_workers - total)
    shares["wall"] = wall
    return shares
