"""Jobs that make records: the K path on tasks, and the reference lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness import seeding
from harness.config.protocol import scored_splits
from harness.execution.jobs import Job
from harness.meta import adapters, learners
from harness.meta.adapters import Adapter
from harness.meta.adapters.gradient import without_step_sizes
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import Learner, PolicyState
from harness.meta.learners.iteration import acting
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner
from harness.meta.rollouts.episode_loop import Act, Clock, run_episodes
from harness.types import REFERENCE, REFERENCE_LINES, Cell, Episodes, EvalRecord, MetaEpisodes
from policies.params import num_params
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """What is being scored: a policy as it came out of training."""

    state: PolicyState
    train_env_steps: int = 0


def adapter_name(problem: CellSetup, learner: Learner) -> str:
    """Return the adapter that scores this cell."""
    asked = problem.config.adapt.adapter
    return learner.adapter if asked == "auto" else asked


def planned_env_steps(problem: CellSetup) -> int:
    """Return the environment steps a cell takes if no episode ends early."""
    train, scored = problem.config.train, problem.config.evaluation
    learner = learners.build(problem)
    training = train.epochs * learner.episodes_per_iteration
    adapter = adapters.build(adapter_name(problem, learner), problem.config.adapt)
    support = scored.shots[-1] * support_episodes(problem, adapter)
    per_task = support + len(scored.shots) * scored.query_episodes
    tasks = sum(len(problem.scored_indices(split)) for split in scored_splits(scored))
    scoring = tasks * per_task
    return (training + scoring) * problem.dist.spec.horizon


def support_episodes(problem: CellSetup, adapter: Adapter) -> int:
    """Return the episodes of one shot; where memory is all, one for each query to remember."""
    scored = problem.config.evaluation
    if not adapter.needs_support:
        return 0
    return scored.episodes_per_shot if adapter.steps_per_shot else scored.query_episodes


def plan_of(problem: CellSetup, adapter: Adapter, job: Job) -> MetaEpisodePlan:
    """Return what one job plays: every requested number of shots, on seeds of its own tasks."""
    scored = problem.config.evaluation
    return MetaEpisodePlan(
        query_after=scored.shots,
        support_episodes=support_episodes(problem, adapter),
        query_episodes=scored.query_episodes,
        deterministic_query=scored.deterministic,
        seed=job.cell.seed,
        phase=f"evaluate/{job.split}",
        seed_keys=job.seed_keys,
    )


def play(
    problem: CellSetup, adapter: Adapter, job: Job, subject: PolicySnapshot, clock: Clock
) -> MetaEpisodes:
    """Play one job's tasks; what it returns depends on the job alone."""
    runner = MetaEpisodeRunner(
        problem.dist, adapter, problem.config.train, subject.state.return_scale
    )
    tasks = problem.tasks(job.split, job.task_indices)
    actor = acting(problem, subject.state)
    return runner.run(tasks, actor, plan_of(problem, adapter, job), clock).episodes


def evaluate(
    problem: CellSetup, learner: Learner, job: Job, subject: PolicySnapshot, clock: Clock
) -> list[EvalRecord]:
    """Score one job's tasks at every requested number of shots; a record per query episode."""
    config = problem.config
    tasks = problem.tasks(job.split, job.task_indices)
    adapter = adapters.build(adapter_name(problem, learner), config.adapt)
    played = play(problem, adapter, job, subject, clock)
    rows: list[EvalRecord] = []
    for shots, query in played.query.items():
        for n, task in enumerate(tasks):
            seen = [batch.lengths[n] for batch in played.support[:shots]]
            row = Row(
                adapter=adapter.name,
                shots=shots,
                adaptation_steps=shots * adapter.steps_per_shot,
                support_env_steps=_seen(seen, adapter, config.evaluation.query_episodes),
                train_env_steps=subject.train_env_steps,
                # Tasks adapt together: each is charged its share of the job's time.
                adapt_seconds=played.adapt_seconds[shots] / len(tasks),
                num_params=num_params(without_step_sizes(subject.state.params)),
            )
            rows += row.records(job, task, query, n)
    return rows


def _seen(lengths: Sequence[np.ndarray], adapter: Adapter, query_episodes: int) -> list[int]:
    """Return the support steps behind each query episode: of memory alone, those it remembers."""
    if adapter.carries_memory and not adapter.steps_per_shot:
        return [int(sum(shot[e] for shot in lengths)) for e in range(query_episodes)]
    return [int(sum(shot.sum() for shot in lengths))] * query_episodes


def reference(problem: CellSetup, job: Job, clock: Clock) -> list[EvalRecord]:
    """Score what any learner must beat: no action, and uniformly random ones.

    No discrete action is none: action 0 stands for it. The largest of uniform numbers is a
    uniformly random action.
    """
    count = problem.config.evaluation.query_episodes
    tasks = problem.tasks(job.split, job.task_indices)
    seeds = [
        seed
        for key in job.seed_keys
        for seed in seeding.episode_seeds(
            job.cell.seed, f"evaluate/{job.split}/query", 0, key, count=count
        )
    ]
    spec = problem.dist.spec
    shape = (count, spec.action_dim)
    randoms = [seeding.generator(job.cell.seed, "reference/random", key) for key in job.seed_keys]

    def zero(step: int, obs: np.ndarray) -> tuple[np.ndarray, None]:
        return np.zeros((len(tasks), *shape), np.float32), None

    def uniform(step: int, obs: np.ndarray) -> tuple[np.ndarray, None]:
        return np.stack([rng.uniform(-1, 1, shape) for rng in randoms]).astype(np.float32), None

    rows: list[EvalRecord] = []
    acts: tuple[Act, ...] = (zero, uniform)
    for name, act in zip(REFERENCE_LINES, acts, strict=True):
        env = problem.dist.make_batch(tasks, count)
        episodes = run_episodes(env, act, seeds, action_scale=1.0, clock=clock)
        for n, task in enumerate(tasks):
            rows += Row(policy=name, learner=REFERENCE).records(job, task, episodes, n)
    return rows


@dataclass(frozen=True, slots=True)
class Row:
    """The columns that the query episodes of one task at one number of shots share."""

    adapter: str = "none"
    shots: int = 0
    adaptation_steps: int = 0
    support_env_steps: Sequence[int] = ()
    """One per query episode; none if there was no support."""
    train_env_steps: int = 0
    adapt_seconds: float = 0.0
    num_params: int = 0
    policy: str | None = None
    """Of a reference line; the cell's if not given."""
    learner: str | None = None

    def cell(self, job: Job) -> Cell:
        """Return the cell these rows belong to: the job's, or that of a reference line."""
        policy, learner = self.policy or job.cell.policy, self.learner or job.cell.learner
        return dataclasses.replace(job.cell, policy=policy, learner=learner)

    def records(self, job: Job, task: Task, query: Episodes, n: int) -> list[EvalRecord]:
        """Return a record per episode of task ``n`` of ``query``."""
        returns = query.returns
        return [
            EvalRecord(
                run="",  # the run's folder is not the worker's business: the driver fills it in
                cell=self.cell(job).id,
                task_dist=task.dist,
                dist_version=task.version,
                split=task.split,
                task=task.name,
                task_index=task.index,
                policy=self.cell(job).policy,
                learner=self.cell(job).learner,
                adapter=self.adapter,
                seed=job.cell.seed,
                shots=self.shots,
                adaptation_steps=self.adaptation_steps,
                query_episode=episode,
                return_=float(returns[n, episode]),
                success=bool(query.success[n, episode]),
                length_steps=int(query.lengths[n, episode]),
                invalid=bool(query.invalid[n, episode]),
                support_env_steps=self.support_env_steps[episode] if self.support_env_steps else 0,
                train_env_steps=self.train_env_steps,
                adapt_seconds=self.adapt_seconds,
                num_params=self.num_params,
            )
            for episode in range(returns.shape[1])
        ]
