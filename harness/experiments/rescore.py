"""Scored episodes of one task, played again exactly as they were recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from harness.config.validation import config_from_dict
from harness.errors import UsageError
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.jobs import evaluation_episodes
from harness.execution.learner_host import LearnerHost
from harness.execution.local import LocalBackend
from harness.execution.scoring import plan_of, play
from harness.meta.cell_setup import CellSetup
from harness.meta.rollouts.episode_loop import Clock
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records
from harness.types import Cell, Episodes
from task_distributions import Task, TaskDistribution


class RescoreError(UsageError):
    """There is nothing to play again, or the returns do not match the records."""


@dataclass(frozen=True, slots=True)
class ScoredEpisode:
    """The first query episode of a task after some shots; T steps that happened."""

    dist: TaskDistribution
    task: Task
    shots: int
    seed: int
    """Seed that the environment was reset with."""
    obs: Float[np.ndarray, "T+1 O"]
    """Observations before the first step and after each."""
    actions: Float[np.ndarray, "T A"]
    """Actions as the environment received them, before clipping."""
    rewards: Float[np.ndarray, " T"]
    return_: float
    """Undiscounted, as recorded."""


def rescore(run: Path, task_index: int) -> list[ScoredEpisode]:
    """Play a test task again as the scoring ``run`` of a checkpoint did: an episode per K.

    The whole job that the task was part of is repeated, because batch sizes change the last bits.

    Raises:
        UsageError: there is no run, or (``RescoreError``) it did not score the task, or the
            returns do not match the records.
        ArtefactError: one of its files is malformed.
    """
    manifest = Manifest.load(run)
    checkpoint = manifest.given.get("checkpoint")
    if checkpoint is None or len(manifest.cells) != 1:
        raise RescoreError(f"{run} is not the scoring of one checkpoint: run evaluate first")
    config = config_from_dict(manifest.config)
    (info,) = manifest.cells.values()
    cell = info.cell
    setup, evaluation = build_setup(cell, config), config.evaluation
    runner = CellRunner(setup, config, LocalBackend(config))
    pieces = runner.scorer.jobs("evaluate", evaluation_episodes(evaluation))
    holding = [job for job in pieces if job.split == "test" and task_index in job.task_indices]
    if not holding:
        raise RescoreError(f"{run} did not score test task {task_index}: choose another")
    job, host = holding[0], LearnerHost(config)
    host.open(cell, Path(checkpoint))
    queries = play(setup, evaluation, job, host.snapshot(), Clock()).query
    place = job.task_indices.index(task_index)
    _check(run, cell, task_index, {shots: query.returns[place] for shots, query in queries.items()})
    seeds = plan_of(setup.dist.spec, evaluation, setup.scoring_adapter(), job).query_seeds
    first = seeds.episode_seeds()[place * seeds.episodes]
    return [
        _episode(setup, task_index, shots, first, query, place) for shots, query in queries.items()
    ]


def _check(run: Path, cell: Cell, task_index: int, returns: dict[int, np.ndarray]) -> None:
    """Raise RescoreError unless the returns [E] by number of shots are those on record."""
    frame = read_records(run)
    mine = frame[(frame["cell"] == cell.id) & (frame["split"] == "test")]
    mine = mine[mine["task_index"] == task_index].sort_values("query_episode")
    for shots, played in returns.items():
        recorded = mine.loc[mine["shots"] == shots, "return_"].to_numpy()
        if not np.array_equal(recorded, played.astype(float), equal_nan=True):
            raise RescoreError(
                f"{run}: test task {task_index} after {shots} shots played {played.tolist()}, "
                f"recorded are {recorded.tolist()}. Another machine or other versions?"
            )


def _episode(
    setup: CellSetup, task_index: int, shots: int, seed: int, query: Episodes, place: int
) -> ScoredEpisode:
    (task,) = setup.tasks("test", (task_index,))
    if query.invalid[place, 0]:
        raise RescoreError(f"{task.name} after {shots} shots: the physics went unstable")
    steps = int(query.lengths[place, 0])
    obs = np.concatenate([query.obs[place, 0, :steps], query.last_obs[place, :1]])
    actions = query.actions[place, 0, :steps] * setup.settings.action_scale
    rewards = query.rewards[place, 0, :steps]
    return_ = float(query.returns[place, 0])
    return ScoredEpisode(setup.dist, task, shots, seed, obs, actions, rewards, return_)
