"""Train one cell, then score it: the loop of the whole harness, whatever the learner and place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.config.protocol import scored_splits
from harness.config.schema import RunConfig
from harness.execution import jobs
from harness.execution.backend import Backend, Handle, LearnerHandle, Work
from harness.execution.jobs import Job
from harness.execution.worker import Receipt
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import IterationInfo
from harness.types import Cell, EvalRecord, Metrics

OnDone = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CellRunner:
    """Plays one cell on a backend."""

    problem: CellSetup
    backend: Backend

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.problem.config

    def train(self, learner: LearnerHandle, first: int, wall: float) -> Iterator[Metrics]:
        """Run the outer iterations after ``first``, yielding after each.

        Args:
            learner: the learner to advance.
            first: iterations already done (resumed).
            wall: training seconds already spent.
        """
        for iteration in range(first, self.config.train.epochs):
            metrics = self._iterate(learner, iteration, wall)
            wall = metrics.wall_seconds
            yield metrics

    def _iterate(self, learner: LearnerHandle, iteration: int, wall: float) -> Metrics:
        began = time.perf_counter()
        pieces = self.training_jobs(iteration)
        receipts: list[Receipt] = []
        step, payload = learner.advance([])
        origin: Handle = payload
        while step.kind is not None:
            work = Work(step.kind, pieces, payload, origin, step.summable)
            got, results = self.backend.run(work)
            receipts += got
            step, payload = learner.advance(results)
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

    def training_jobs(self, iteration: int) -> list[Job]:
        """Return the work of one outer iteration."""
        config, cell = self.config, self.problem.cell
        episodes = learners.build(self.problem).episodes_per_task
        indices = jobs.training_tasks(
            cell.seed, iteration, self.problem.training_classes(), config.train.meta_batch_size
        )
        size = jobs.ChunkSize.of(config, episodes)
        return jobs.cut(cell, "train", iteration, "train", indices, size)

    def evaluate(self, learner: LearnerHandle, on_done: OnDone) -> list[EvalRecord]:
        """Score the learner at every requested number of shots."""
        episodes = jobs.evaluation_episodes(self.config.evaluation)
        return self._score("evaluate", episodes, learner.subject(), on_done)[0]

    def reference(self, on_done: OnDone) -> tuple[list[EvalRecord], float]:
        """Score the reference lines on the same tasks and seeds.

        Returns the records, and the environment steps per second that all workers together reach
        without a policy.
        """
        episodes = self.config.evaluation.query_episodes
        records, receipts = self._score("reference", episodes, None, on_done)
        physics = sum(receipt.seconds["physics"] for receipt in receipts)
        steps = sum(record.length_steps for record in records)
        return records, steps / physics * self.backend.num_workers

    def scoring_jobs(self, kind: str, episodes: int) -> list[Job]:
        """Return the work of scoring ``kind`` with at most ``episodes`` environments a task."""
        size = jobs.ChunkSize.of(self.config, episodes)
        pieces: list[Job] = []
        for split in scored_splits(self.config.evaluation):
            indices = self.problem.scored_indices(split)
            pieces += jobs.cut(self.problem.cell, kind, 0, split, indices, size, len(pieces))
        return pieces

    def _score(
        self, kind: str, episodes: int, subject: Handle, on_done: OnDone
    ) -> tuple[list[EvalRecord], list[Receipt]]:
        pieces = self.scoring_jobs(kind, episodes)
        work = Work(kind, pieces, subject)
        receipts, results = self.backend.run(work, lambda done: on_done(done, len(pieces)))
        return [record for part in self.backend.fetch(results) for record in part], receipts


def _shares(
    receipts: Sequence[Receipt], learner: float, wall: float, backend: Backend
) -> dict[str, float]:
    """Return worker-seconds by stage; idle is what no worker accounts for: transport, waiting."""
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


def cells(config: RunConfig) -> list[Cell]:
    """Return what a configuration trains, seed by seed so that a partial run compares."""
    return [
        Cell(config.task_dist, policy, learner, seed)
        for seed in config.seed
        for learner in config.learner
        for policy in config.policy
    ]
