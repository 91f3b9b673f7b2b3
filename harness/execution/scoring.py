"""Jobs that make records: meta-episodes on the scored tasks, and the reference lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.agents import AgentSource
from harness.agents.playing import Outcome, Scoring, TaskPlayer, agent_seed
from harness.config.schema import EvalConfig
from harness.execution.divergence import check_adapted
from harness.execution.jobs import Job
from harness.meta.adapters.base import Adapter
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import PolicySnapshot
from harness.meta.learners.critic import acting_params
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner, SeedStream
from harness.meta.rollouts.episode_loop import Act, Clock, batch, run_episodes
from harness.types import REFERENCE, REFERENCE_LINES, Cell, Episodes, EvalRecord, MetaEpisodes
from policies.params import num_params
from task_distributions import EnvSpec, Task, TaskDistribution

REWARD_PARTS = 20
"""Parts of an episode whose mean reward a record has."""


def support_episodes(evaluation: EvalConfig, adapter: Adapter) -> int:
    """Return the episodes of one shot; memory alone needs one for each query episode."""
    if not adapter.needs_support:
        return 0
    return evaluation.episodes_per_shot if adapter.steps_per_shot else evaluation.query_episodes


def query_episodes(spec: EnvSpec, evaluation: EvalConfig, adapter: Adapter) -> int:
    """Return the query episodes of a task after each number of shots.

    One where further ones would repeat it: where neither start, memory nor action is by chance.
    """
    by_chance = not spec.fixed_start or not evaluation.deterministic or adapter.carries_memory
    return evaluation.query_episodes if by_chance else 1


def plan_of(spec: EnvSpec, evaluation: EvalConfig, adapter: Adapter, job: Job) -> MetaEpisodePlan:
    """Return the meta-episodes of a job, scored after every requested number of shots."""
    return MetaEpisodePlan(
        query_after=evaluation.shots,
        support_episodes=support_episodes(evaluation, adapter),
        query_episodes=query_episodes(spec, evaluation, adapter),
        deterministic_query=evaluation.deterministic,
        seed=job.cell.seed,
        phase=f"{job.phase}/{job.split}",
        seed_keys=job.seed_keys,
    )


def play(
    setup: CellSetup, evaluation: EvalConfig, job: Job, snapshot: PolicySnapshot, clock: Clock
) -> MetaEpisodes:
    """Play one job's tasks; the result depends on the arguments alone.

    Raises:
        DivergedError: adaptation arrived at parameters that are not finite.
    """
    adapter = setup.scoring_adapter()
    runner = MetaEpisodeRunner(setup.dist, adapter, setup.estimator(snapshot))
    tasks = setup.tasks(job.split, job.task_indices)
    plan = plan_of(setup.dist.spec, evaluation, adapter, job)
    outcome = runner.run(tasks, setup.actor(snapshot), plan, clock)
    check_adapted(outcome.adapted.params, evaluation.shots[-1])
    return outcome.episodes


def evaluate(
    setup: CellSetup, evaluation: EvalConfig, job: Job, snapshot: PolicySnapshot, clock: Clock
) -> list[EvalRecord]:
    """Score one job's tasks at every requested number of shots; one record per query episode."""
    tasks = setup.tasks(job.split, job.task_indices)
    adapter = setup.scoring_adapter()
    played = play(setup, evaluation, job, snapshot, clock)
    rows: list[EvalRecord] = []
    for shots, query in played.query.items():
        for n, task in enumerate(tasks):
            lengths = [batch.lengths[n] for batch in played.support[:shots]]
            row = Row(
                adapter=adapter.name,
                shots=shots,
                adaptation_steps=shots * adapter.steps_per_shot,
                support_env_steps=_support_steps(
                    lengths,
                    query.returns.shape[1],
                    own=adapter.carries_memory and not adapter.steps_per_shot,
                ),
                train_env_steps=snapshot.env_steps,
                # Tasks adapt together: each is charged its share of the job's time.
                adapt_seconds=played.adapt_seconds[shots] / len(tasks),
                num_params=num_params(acting_params(snapshot.params)),
            )
            rows += row.records(job, task, query, n)
    return rows


def _support_steps(lengths: Sequence[np.ndarray], query_episodes: int, *, own: bool) -> list[int]:
    """Return the support steps behind each query episode: its own history, or all episodes."""
    if own:
        return [int(sum(shot[e] for shot in lengths)) for e in range(query_episodes)]
    return [int(sum(shot.sum() for shot in lengths))] * query_episodes


def play_agent(
    dist: TaskDistribution,
    evaluation: EvalConfig,
    task: Task,
    seed: int,
    source: AgentSource,
    clock: Clock,
) -> Outcome:
    """Play an agent on one task of the cell with ``seed``.

    Raises:
        AgentError: the agent failed; names the task and the seed.
    """
    counts = (evaluation.shots, evaluation.episodes_per_shot, evaluation.query_episodes)
    scored = Scoring(*counts, seed)
    return TaskPlayer(dist, task, source.make, scored, source.limits, clock).play()


def agent(
    dist: TaskDistribution, evaluation: EvalConfig, job: Job, source: AgentSource, clock: Clock
) -> list[EvalRecord]:
    """Score an agent on one job's tasks, as ``evaluate`` scores a policy.

    Raises:
        AgentError: the agent failed; names the task and the seed.
    """
    rows: list[EvalRecord] = []
    for index in job.task_indices:
        task = dist.tasks(job.split)[index]
        found = play_agent(dist, evaluation, task, job.cell.seed, source, clock)
        played = found.episodes
        for shots, query in played.query.items():
            lengths = [batch.lengths[0] for batch in played.support[:shots]]
            row = Row(
                adapter=found.adapter,
                shots=shots,
                adaptation_steps=shots if found.adaptation == "adapt" else 0,
                support_env_steps=_support_steps(
                    lengths, evaluation.query_episodes, own=found.adaptation == "memory"
                ),
                train_env_steps=found.train_env_steps,
                adapt_seconds=played.adapt_seconds[shots],
                num_params=found.num_params,
            )
            rows += row.records(job, task, query, 0)
    return rows


def reference(
    dist: TaskDistribution, evaluation: EvalConfig, job: Job, clock: Clock
) -> list[EvalRecord]:
    """Score the baselines that any learner must beat: no action, and uniformly random ones.

    Discrete spaces have no null action; action 0 is used. The largest of several uniform numbers
    is at a uniformly random place: a random discrete action.
    """
    tasks = tuple(dist.tasks(job.split)[index] for index in job.task_indices)
    # Without chance no action has one episode; see ``query_episodes``.
    counts = (1 if dist.spec.fixed_start else evaluation.query_episodes, evaluation.query_episodes)
    zero_shape, shape = ((count, dist.spec.action_dim) for count in counts)
    # The seeds of agents, so that the agent ``random`` scores the same.
    own = [agent_seed(job.cell.seed, job.split, key) for key in job.seed_keys]
    rngs = [np.random.default_rng(seed) for seed in own]

    def zero(step: int, obs: np.ndarray) -> tuple[np.ndarray, None]:
        return np.zeros((len(tasks), *zero_shape), np.float32), None

    def uniform(step: int, obs: np.ndarray) -> tuple[np.ndarray, None]:
        return np.stack([rng.uniform(-1, 1, shape) for rng in rngs]).astype(np.float32), None

    rows: list[EvalRecord] = []
    acts: tuple[Act, ...] = (zero, uniform)
    for name, act, count in zip(REFERENCE_LINES, acts, counts, strict=True):
        phase = f"evaluate/{job.split}"
        seeds = SeedStream.of_query(job.cell.seed, phase, job.seed_keys, count).episode_seeds()
        with batch(dist, tasks, count) as env:
            episodes = run_episodes(env, act, seeds, action_scale=1.0, clock=clock)
        for n, task in enumerate(tasks):
            rows += Row(policy=name, learner=REFERENCE).records(job, task, episodes, n)
    return rows


@dataclass(frozen=True, slots=True)
class Row:
    """The columns that are equal for all query episodes of a task at one number of shots."""

    adapter: str = "none"
    shots: int = 0
    adaptation_steps: int = 0
    support_env_steps: Sequence[int] = ()
    """One per query episode; empty without support."""
    train_env_steps: int = 0
    adapt_seconds: float = 0.0
    num_params: int = 0
    policy: str | None = None
    """Name of a reference line; the cell's policy if ``None``."""
    learner: str | None = None

    def cell(self, job: Job) -> Cell:
        """Return the cell of these rows: the job's, or that of a reference line."""
        policy, learner = self.policy or job.cell.policy, self.learner or job.cell.learner
        return dataclasses.replace(job.cell, policy=policy, learner=learner)

    def records(self, job: Job, task: Task, query: Episodes, n: int) -> list[EvalRecord]:
        """Return a record per episode of task ``n`` of ``query``."""
        returns = query.returns
        return [
            EvalRecord(
                run="",  # filled in by the driver, which knows the run's folder
                cell=self.cell(job).id,
                task_dist=job.cell.task_dist,
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
                rewards=() if episode else reward_profile(query.rewards[n, 0], query.mask[n, 0]),
            )
            for episode in range(returns.shape[1])
        ]


def reward_profile(rewards: np.ndarray, mask: np.ndarray) -> tuple[float, ...]:
    """Return the mean reward [T] per step in each part of an episode, in single precision.

    There are ``REWARD_PARTS`` parts, or one per step if the horizon T is shorter; those after the
    last step marked in ``mask`` [T] are left out.
    """
    parts = min(REWARD_PARTS, len(rewards))
    starts = np.arange(parts) * len(rewards) // parts
    steps = np.add.reduceat(mask.astype(int), starts)
    sums = np.add.reduceat(np.where(mask, rewards, 0.0), starts)
    means = sums[steps > 0] / steps[steps > 0]
    return tuple(means.astype(np.float32).tolist())
