"""Work cut into jobs, independently of the number of workers.

Batch sizes change the last bits of a matrix product, so a job is a fixed set of tasks: the same
seed gives the same numbers on 1, 3 or 300 workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from harness import seeding
from harness.config.schema import EvalConfig, RunConfig
from harness.types import Cell
from task_distributions import Split


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """Sizes by which work is cut, from the configuration alone."""

    tasks: int
    """Tasks per job, at most."""
    min_jobs: int
    """Jobs that even a short list is cut into, so that a few workers share it evenly."""

    @classmethod
    def of(cls, config: RunConfig, episodes: int) -> ChunkSize:
        """Return the size for tasks of ``episodes`` environments each, at least one a job."""
        return cls(max(1, config.envs_per_job // episodes), config.min_jobs)


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work: with the parameters, all it takes to do it, or to repeat it."""

    cell: Cell
    phase: str
    """``train``, ``validate``, ``evaluate``, ``agent`` or ``reference``."""
    iteration: int
    part: int
    """Position among the jobs of the phase and iteration; results are combined in this order."""
    split: Split
    task_indices: tuple[int, ...]
    seed_keys: tuple[int, ...]
    """One per task, its place in the seed tree: the slot in the meta-batch while training (a task
    may be drawn twice), otherwise the task's index (a subset scores as it does in the whole)."""

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Identifies the job among all jobs of a run."""
        return self.cell.id, self.phase, self.iteration, self.part

    def __str__(self) -> str:
        tasks = " ".join(map(str, self.task_indices))
        return f"{self.phase} {self.cell.id} iteration {self.iteration} {self.split} tasks {tasks}"


def cut(
    cell: Cell,
    phase: str,
    iteration: int,
    split: Split,
    task_indices: Sequence[int],
    size: ChunkSize,
    first: int = 0,
) -> list[Job]:
    """Cut a list of tasks into jobs of nearly equal size.

    Jobs are numbered from ``first``.
    """
    keys = range(len(task_indices)) if phase == "train" else task_indices
    count = len(task_indices)
    pieces_count = max(-(-count // size.tasks), min(count, size.min_jobs))
    bounds = [count * part // pieces_count for part in range(pieces_count + 1)]
    pieces = [slice(start, stop) for start, stop in pairwise(bounds)]
    return [
        Job(cell, phase, iteration, part, split, tuple(task_indices[piece]), tuple(keys[piece]))
        for part, piece in enumerate(pieces, first)
    ]


def evaluation_episodes(evaluation: EvalConfig) -> int:
    """Return how many environments one task needs at once while it is scored."""
    if evaluation.shots == (0,):
        return evaluation.query_episodes
    return max(evaluation.episodes_per_shot, evaluation.query_episodes)


def training_tasks(
    seed: int, iteration: int, classes: Sequence[Sequence[int]], count: int
) -> tuple[int, ...]:
    """Draw the meta-batch of one iteration, balanced over classes to within one task.

    Every task of a class is drawn once before any is drawn again. A distribution without classes
    counts as one class.
    """
    rng = seeding.generator(seed, "train/tasks", iteration)
    decks = [_shuffles(rng, indices) for indices in classes]
    if len(decks) == 1:
        return tuple(islice(decks[0], count))
    turns = _shuffles(rng, range(len(decks)))
    return tuple(next(decks[turn]) for turn in islice(turns, count))


def _shuffles(rng: np.random.Generator, values: Sequence[int]) -> Iterator[int]:
    """Yield all ``values`` in random order, then all again in another order, endlessly."""
    while True:
        for value in rng.permutation(values):
            yield int(value)
