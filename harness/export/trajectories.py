"""Every episode behind the records of a run, support episodes included.

Array letters: T steps that happened, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.errors import UsageError
from harness.execution.jobs import Job
from harness.experiments.rescore import CellReplay, RescoreError, model_of
from harness.reporting.store.manifest import CELLS_DIR, Manifest
from harness.reporting.store.records import CellFolder
from harness.types import AGENT, Episodes


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode."""

    tags: dict[str, Any]
    """Which episode it is: see ``harness.export.parquet.TAGS``."""
    observations: Float[np.ndarray, "T+1 O"]
    """Before the first step and after each, as the policy received them, not normalised."""
    actions: Float[np.ndarray, "T A"]
    """As the environment received them, before clipping; [T, 1], the index, if discrete."""
    rewards: Float[np.ndarray, " T"]
    terminated: bool
    """Whether the last step ended the episode; else the horizon did."""
    success: bool


class Export:
    """The trajectories of some cells of a run.

    ``skipped`` says which cells were left out, ``differing`` how many returns differ from the
    records (only where the run was played elsewhere), ``invalid`` how many episodes were left out
    because the physics went unstable.
    """

    def __init__(self, run: Path, cells: Sequence[str] = ()) -> None:
        """Choose the cells to play; all with a trained policy or an agent if none are named.

        Raises:
            UsageError: there is no such run or cell, or no cell can be played.
            ArtefactError: a file of the run is malformed.
        """
        self.run, self.manifest = run, Manifest.load(run)
        for key in cells:
            if key not in self.manifest.cells:
                known = ", ".join(self.manifest.cells)
                raise UsageError(f"{run} has no cell {key!r}; choose from: {known}")
            if self.manifest.cells[key].status != "ok":
                raise UsageError(f"{key} is {self.manifest.cells[key].status}: it has no scores")
        chosen = list(dict.fromkeys(cells)) or list(self.manifest.ids("ok"))
        self.skipped = [key for key in chosen if not cells and not self._playable(key)]
        self.cells = [key for key in chosen if key not in self.skipped]
        if not self.cells:
            raise UsageError(f"{run}: no cell has a trained policy here: nothing can be played")
        self.differing = self.invalid = 0

    @property
    def elsewhere(self) -> str:
        """How this machine differs from those that played the cells; empty if it does not."""
        return "; ".join(dict.fromkeys(filter(None, map(self.manifest.elsewhere, self.cells))))

    def _playable(self, key: str) -> bool:
        info = self.manifest.cells[key]
        folder = CellFolder(self.run / CELLS_DIR / key)
        return info.learner == AGENT or model_of(folder, info) is not None

    @property
    def task_dists(self) -> tuple[str, ...]:
        """The task distributions of the cells."""
        return tuple(dict.fromkeys(self.manifest.cells[key].task_dist for key in self.cells))

    def trajectories(
        self, on_cell: Callable[[str], None] = lambda key: None
    ) -> Iterator[Trajectory]:
        """Play and yield every episode, checking returns against the records.

        Raises:
            RescoreError: a policy is missing, or the returns differ although the run was played on
                the same kind of processor with the same versions.
        """
        for key in self.cells:
            on_cell(key)
            cell = CellReplay.open(self.run, key)
            scored = 0
            for job in cell.jobs:
                played = cell.play(job)
                scored += sum(query.returns.size for query in played.query.values())
                if self.manifest.elsewhere(key):
                    self.differing += len(cell.differences(job, played))
                else:
                    cell.check(self.run, job, played)
                for shot, support in enumerate(played.support):
                    yield from self._episodes(key, cell, job, support, "support", shot)
                for shots, query in played.query.items():
                    yield from self._episodes(key, cell, job, query, "query", shots)
            if scored != len(cell.records):
                raise RescoreError(
                    f"{self.run}: {key} has {len(cell.records)} records, but {scored} episodes "
                    "belong to its settings"
                )

    def _episodes(
        self, key: str, cell: CellReplay, job: Job, batch: Episodes, phase: str, shots: int
    ) -> Iterator[Trajectory]:
        count = batch.rewards.shape[1]
        for place, index in enumerate(job.task_indices):
            task = cell.dist.tasks(job.split)[index]
            seeds = (
                cell.query_seeds(job.split, index, count)
                if phase == "query"
                else cell.support_seeds(job.split, index, shots, count)
            )
            for episode, seed in enumerate(seeds):
                if batch.invalid[place, episode]:
                    self.invalid += 1
                    continue
                tags = {
                    "run": self.run.name,
                    "cell": key,
                    "task_dist": cell.info.task_dist,
                    "dist_version": task.version,
                    "policy": cell.info.policy,
                    "learner": cell.info.row_learner,
                    "adapter": cell.records["adapter"].iloc[0],
                    "seed": cell.info.seed,
                    "split": job.split,
                    "task": task.name,
                    "task_index": index,
                    "phase": phase,
                    "shots": shots,
                    "episode": episode,
                    "reset_seed": seed,
                }
                yield _trajectory(cell, batch, (place, episode), tags)


def _trajectory(
    cell: CellReplay, batch: Episodes, at: tuple[int, int], tags: dict[str, Any]
) -> Trajectory:
    steps = int(batch.lengths[at])
    actions = batch.actions[at][:steps]
    if cell.dist.spec.discrete:
        actions = actions.argmax(-1, keepdims=True).astype(np.float32)
    else:
        actions = actions * np.float32(cell.action_scale)
    return Trajectory(
        tags | {"return": float(batch.returns[at])},
        np.concatenate([batch.obs[at][:steps], batch.last_obs[at][np.newaxis]]),
        actions,
        batch.rewards[at][:steps],
        bool(batch.terminated[at]),
        bool(batch.success[at]),
    )
