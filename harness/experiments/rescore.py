"""Scored episodes, played again exactly as they were recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.config.schema import RunConfig
from harness.config.validation import config_from_dict
from harness.errors import UsageError
from harness.execution import scoring
from harness.execution.backend import Work
from harness.execution.cell import CellScorer
from harness.execution.cell_setup import build_setup
from harness.execution.jobs import Job, evaluation_episodes
from harness.execution.learner_host import LearnerHost
from harness.execution.local import LocalBackend
from harness.experiments.trial import agent_source
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import Request, RequestKind
from harness.meta.meta_episode import SeedStream
from harness.meta.rollouts.episode_loop import Clock
from harness.reporting.store.checksums import check_sum
from harness.reporting.store.manifest import CELLS_DIR, CellInfo, Manifest
from harness.reporting.store.records import CellFolder
from harness.types import AGENT, Episodes, EvalRecord, MetaEpisodes
from task_distributions import Task, TaskDistribution

QUERY_KEY = ["split", "task_index", "shots", "query_episode"]
"""Columns that tell the records of a cell apart."""


class RescoreError(UsageError):
    """There is nothing to play again, or the returns do not match the records."""


@dataclass(frozen=True, slots=True)
class CellReplay:
    """A scored cell that can be played again, in the jobs it was first played in.

    Batch sizes change the last bits, so a job is the least that can be repeated.
    """

    info: CellInfo
    config: RunConfig
    request: Request
    """What scores the cell."""
    jobs: tuple[Job, ...]
    records: pd.DataFrame
    """A row per query episode, as in ``read_records``."""
    dist: TaskDistribution
    setup: CellSetup | None
    """None for agents and reference lines."""

    @classmethod
    def of(
        cls,
        folder: CellFolder,
        info: CellInfo,
        config: RunConfig,
        model: Path | None,
        *,
        reference: bool = False,
    ) -> CellReplay:
        """Open a cell.

        Args:
            folder: has its records.
            info: from the manifest.
            config: of the cell.
            model: the policy that is scored; None for agents and reference lines.
            reference: it is the reference lines of a table.

        Raises:
            ArtefactError: the records or the policy are malformed.
        """
        setup, evaluation = None, config.evaluation
        if reference:
            request, episodes = Request(RequestKind.REFERENCE, None), evaluation.query_episodes
        elif config.agent:
            request, episodes = (
                Request(RequestKind.AGENT, agent_source(config)),
                config.envs_per_job,
            )
        else:
            setup, host = build_setup(info.cell, config), LearnerHost(config)
            host.open(info.cell, model)
            request = Request(RequestKind.EVALUATE, host.snapshot())
            episodes = evaluation_episodes(evaluation)
        scorer = CellScorer(info.cell, config, LocalBackend(config))
        jobs = tuple(scorer.jobs(request.kind.value, episodes))
        records = folder.read_records().to_pandas()
        return cls(info, config, request, jobs, records, scorer.dist, setup)

    @classmethod
    def open(cls, run: Path, key: str) -> CellReplay:
        """Open the cell ``key`` of a run or published folder.

        Raises:
            RescoreError: there is no such cell, or its policy is not here.
            UsageError: there is no run.
            ArtefactError: one of its files is malformed, or was changed since it was published.
        """
        cells = Manifest.load(run).cells
        if key not in cells:
            raise RescoreError(f"{run} has no cell {key!r}; choose from: {', '.join(cells)}")
        info, folder = cells[key], CellFolder(run / CELLS_DIR / key)
        model = model_of(folder, info)
        if model is None and info.learner != AGENT:
            raise RescoreError(f"{run}: the trained policy of {key} is not here")
        if model is not None and model == folder.policy:
            check_sum(run, model)
        return cls.of(folder, info, config_from_dict(info.config), model)

    @property
    def action_scale(self) -> float:
        """The environment received the ``actions`` of an episode times this."""
        return self.setup.settings.action_scale if self.setup else 1.0

    def score(self, job: Job) -> list[EvalRecord]:
        """Play a job; return its records."""
        _, (rows,) = LocalBackend(self.config).run(Work(self.request, [job]))
        return list(rows)

    def play(self, job: Job) -> MetaEpisodes:
        """Play the support and query episodes of a job of a policy or an agent."""
        evaluation, payload = self.config.evaluation, self.request.payload
        if self.setup is not None:
            return scoring.play(self.setup, evaluation, job, payload, Clock())
        (index,) = job.task_indices
        task = self.dist.tasks(job.split)[index]
        return scoring.play_agent(
            self.dist, evaluation, task, self.info.seed, payload, Clock()
        ).episodes

    def returns(self, job: Job, episodes: MetaEpisodes) -> pd.DataFrame:
        """Return a row per query episode of a job with its return as ``played`` and ``recorded``.

        NaN where invalid. On the same kind of processor, with the same versions, they are equal.
        """
        rows = [
            (job.split, task, shots, episode, float(value))
            for shots, query in episodes.query.items()
            for task, values in zip(job.task_indices, query.returns, strict=True)
            for episode, value in enumerate(values)
        ]
        played = pd.DataFrame(rows, columns=[*QUERY_KEY, "played"])
        recorded = self.records[[*QUERY_KEY, "return_"]].rename(columns={"return_": "recorded"})
        return played.merge(recorded, on=QUERY_KEY, how="left")

    def differences(self, job: Job, episodes: MetaEpisodes) -> pd.DataFrame:
        """Return the rows of ``returns`` whose two values differ."""
        found = self.returns(job, episodes)
        invalid = found["played"].isna() & found["recorded"].isna()
        return found[found["played"].ne(found["recorded"]) & ~invalid]

    def check(self, run: Path, job: Job, episodes: MetaEpisodes) -> None:
        """Raise RescoreError unless the returns of a job's query episodes are those on record."""
        different = self.differences(job, episodes)
        if len(different):
            first = different.iloc[0]
            raise RescoreError(
                f"{run}: {len(different)} episodes of a job do not match the records. First "
                f"{job.split} task {first['task_index']} after {first['shots']} shots: played "
                f"{first['played']}, recorded {first['recorded']}. Another machine or other "
                "versions?"
            )

    def query_seeds(self, split: str, task: int, episodes: int) -> list[int]:
        """Return the seeds that the environment was reset with for a task's query episodes."""
        phase = f"evaluate/{split}"
        return SeedStream.of_query(self.info.seed, phase, (task,), episodes).episode_seeds()

    def support_seeds(self, split: str, task: int, shot: int, episodes: int) -> list[int]:
        """Return the same for the support episodes of ``shot``, the first of which is 0."""
        phase = f"evaluate/{split}"
        return SeedStream.of_support(self.info.seed, phase, shot, (task,), episodes).episode_seeds()


def model_of(folder: CellFolder, info: CellInfo) -> Path | None:
    """Return the policy that a cell scored: the folder's copy, or else the original."""
    original = Path(info.checkpoint)
    return folder.policy or (original if info.checkpoint and original.is_file() else None)


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

    Raises:
        UsageError: there is no run, or (``RescoreError``) it did not score the task, or the
            returns do not match the records.
        ArtefactError: one of its files is malformed.
    """
    manifest = Manifest.load(run)
    if "checkpoint" not in manifest.given or len(manifest.cells) != 1:
        raise RescoreError(f"{run} is not the scoring of one checkpoint: run evaluate first")
    (key,) = manifest.cells
    cell = CellReplay.open(run, key)
    holding = [job for job in cell.jobs if job.split == "test" and task_index in job.task_indices]
    if not holding:
        raise RescoreError(f"{run} did not score test task {task_index}: choose another")
    played = cell.play(holding[0])
    cell.check(run, holding[0], played)
    place = holding[0].task_indices.index(task_index)
    return [
        _episode(cell, task_index, shots, query, place) for shots, query in played.query.items()
    ]


def _episode(
    cell: CellReplay, task_index: int, shots: int, query: Episodes, place: int
) -> ScoredEpisode:
    task = cell.dist.tasks("test")[task_index]
    if query.invalid[place, 0]:
        raise RescoreError(f"{task.name} after {shots} shots: the physics went unstable")
    steps = int(query.lengths[place, 0])
    obs = np.concatenate([query.obs[place, 0, :steps], query.last_obs[place, :1]])
    actions = query.actions[place, 0, :steps] * cell.action_scale
    rewards = query.rewards[place, 0, :steps]
    return_ = float(query.returns[place, 0])
    (seed,) = cell.query_seeds("test", task_index, 1)
    return ScoredEpisode(cell.dist, task, shots, seed, obs, actions, rewards, return_)
