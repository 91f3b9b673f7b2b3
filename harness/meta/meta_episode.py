"""The core: support -> adapt -> query on a batch of tasks, for every number of shots on one path.

Meta-training and evaluation both run this, so that training optimises what evaluation measures. One
shot is one adaptation step on a fresh, on-policy support batch of its own; zero-shot is 0 shots.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from harness import seeding
from harness.meta.adapters.base import Adapter, Shot
from harness.meta.rollouts.actor import Actor, Context, rollout
from harness.meta.rollouts.batch import AdvantageEstimator, Batch, prepare
from harness.meta.rollouts.episode_loop import Clock, batch, draw_noise
from harness.types import Episodes, MetaEpisodes
from policies.base import Params
from task_distributions import EnvSpec, Task, TaskDistribution


@dataclass(frozen=True, slots=True)
class SeedStream:
    """A branch of the seed tree with one leaf per task, and the episodes to draw from each leaf."""

    seed: int
    phase: str
    path: tuple[int, ...]
    keys: tuple[int, ...]
    episodes: int
    sample: bool
    """Sample actions rather than take the likeliest."""

    @classmethod
    def of_query(
        cls,
        seed: int,
        phase: str,
        keys: tuple[int, ...],
        episodes: int,
        *,
        iteration: int = 0,
        sample: bool = False,
    ) -> SeedStream:
        """Return the stream of the query episodes of ``phase``, such as ``evaluate/test``."""
        return cls(seed, f"{phase}/query", (iteration,), keys, episodes, sample)

    @classmethod
    def of_support(
        cls,
        seed: int,
        phase: str,
        shot: int,
        keys: tuple[int, ...],
        episodes: int,
        *,
        iteration: int = 0,
    ) -> SeedStream:
        """Return the stream of the support episodes of ``shot``, the first of which is 0."""
        return cls(seed, f"{phase}/support", (iteration, shot), keys, episodes, sample=True)

    def episode_seeds(self) -> list[int]:
        """Return reset seeds for N·E environments."""
        return [
            value
            for key in self.keys
            for value in seeding.episode_seeds(
                self.seed, self.phase, *self.path, key, count=self.episodes
            )
        ]

    def generators(self, purpose: str) -> list[np.random.Generator]:
        """Return one generator per task, below the branch ``purpose``."""
        phase = f"{self.phase}/{purpose}"
        return [seeding.generator(self.seed, phase, *self.path, key) for key in self.keys]

    def noise(self, spec: EnvSpec) -> Float[np.ndarray, "T N E A"]:
        """Return action noise, drawn for each task from its own leaf."""
        return draw_noise(self.generators("noise"), spec, self.episodes)


@dataclass(frozen=True, slots=True)
class MetaEpisodePlan:
    """Numbers of episodes, the shots to score after, and the branch of the seed tree."""

    query_after: tuple[int, ...]
    """Numbers of shots after which to run query episodes, ascending."""
    support_episodes: int
    query_episodes: int
    deterministic_query: bool
    seed: int
    phase: str
    """Branch of the seed tree, e.g. ``train`` or ``evaluate/test``."""
    seed_keys: tuple[int, ...]
    """One per task: its place in the seed tree."""
    iteration: int = 0

    @classmethod
    def for_training(
        cls, *, seed: int, iteration: int, seed_keys: tuple[int, ...], shots: int, episodes: int
    ) -> MetaEpisodePlan:
        """Return the plan to learn from: ``shots``, then one query batch, all actions sampled."""
        return cls(
            query_after=(shots,),
            support_episodes=episodes,
            query_episodes=episodes,
            deterministic_query=False,
            seed=seed,
            phase="train",
            seed_keys=seed_keys,
            iteration=iteration,
        )

    def support_seeds(self, shot: int) -> SeedStream:
        """Return the stream of the support episodes of ``shot``."""
        return SeedStream.of_support(
            self.seed,
            self.phase,
            shot,
            self.seed_keys,
            self.support_episodes,
            iteration=self.iteration,
        )

    @property
    def query_seeds(self) -> SeedStream:
        """The stream of query episodes, the same for every number of shots: gains are paired."""
        return SeedStream.of_query(
            self.seed,
            self.phase,
            self.seed_keys,
            self.query_episodes,
            iteration=self.iteration,
            sample=not self.deterministic_query,
        )

    def adapter_rngs(self, shot: int) -> list[np.random.Generator]:
        """Return a generator per task for whatever the adapter draws at ``shot``."""
        path = (self.iteration, shot)
        stream = SeedStream(self.seed, self.phase, path, self.seed_keys, 0, sample=False)
        return stream.generators("experience")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The episodes of a meta-episode, the batches adapted on, and the adapted actor."""

    episodes: MetaEpisodes
    support: tuple[Batch, ...]
    samplers: tuple[Params, ...]
    """The parameters that collected each support batch, [1, ...] or [N, ...]."""
    adapted: Actor


@dataclass(frozen=True, slots=True)
class MetaEpisodeRunner:
    """Runs meta-episodes on tasks of one distribution."""

    dist: TaskDistribution
    adapter: Adapter
    estimator: AdvantageEstimator

    def run(
        self, tasks: Sequence[Task], actor: Actor, plan: MetaEpisodePlan, clock: Clock
    ) -> Outcome:
        """Play ``plan`` on ``tasks``, starting from the parameters of ``actor`` [1, ...]."""
        support: list[Episodes] = []
        batches: list[Batch] = []
        samplers: list[Params] = []
        query: dict[int, Episodes] = {}
        seconds: dict[int, float] = {}
        spent = 0.0
        for shots in range(plan.query_after[-1] + 1):
            if shots in plan.query_after:
                if query and not self.adapter.needs_support:  # nothing has changed since
                    query[shots] = next(iter(query.values()))
                else:
                    query[shots] = self._query(tasks, actor, plan, clock)
                seconds[shots] = spent
            if shots < plan.query_after[-1] and self.adapter.needs_support:
                episodes, context = self._play(tasks, actor, plan.support_seeds(shots), clock)
                support.append(episodes)
                began = time.perf_counter()
                if self.adapter.steps_per_shot:
                    batch = prepare([episodes], actor, tuple(tasks), self.estimator)
                    shot = Shot(batch, tuple(batches), plan.adapter_rngs(shots))
                    params = self.adapter.adapt(actor.policy, actor.params, shot)
                    batches.append(batch)
                    samplers.append(actor.params)
                    actor = replace(actor, params=params)
                if self.adapter.carries_memory:
                    actor = replace(actor, context=context)
                spent += clock.add("adapt", began) - began
        played = MetaEpisodes(tuple(support), query, seconds)
        return Outcome(played, tuple(batches), tuple(samplers), actor)

    def _query(
        self, tasks: Sequence[Task], actor: Actor, plan: MetaEpisodePlan, clock: Clock
    ) -> Episodes:
        if actor.context is not None:  # each query episode continues a support episode
            actor = replace(actor, context=actor.context.first_episodes(plan.query_episodes))
        return self._play(tasks, actor, plan.query_seeds, clock)[0]

    def _play(
        self, tasks: Sequence[Task], actor: Actor, seeds: SeedStream, clock: Clock
    ) -> tuple[Episodes, Context]:
        began = time.perf_counter()
        with batch(self.dist, tasks, seeds.episodes) as env:
            noise = seeds.noise(self.dist.spec) if seeds.sample else None
            episode_seeds = seeds.episode_seeds()
            clock.add("physics", began)
            return rollout(env, actor, episode_seeds, noise, clock)
