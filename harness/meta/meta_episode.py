"""The heart: support -> adapt -> query on a batch of tasks, every number of shots on one path.

Meta-training and evaluation both run this, so that what is trained is what is measured. One shot
is one adaptation step on its own fresh, on-policy support batch; zero-shot is 0 shots.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from harness import seeding
from harness.config.schema import TrainConfig
from harness.meta.adapters import Adapter
from harness.meta.adapters.hybrid import HybridGradientAdapter
from harness.meta.rollouts.actor import Actor, Context, rollout
from harness.meta.rollouts.batch import Batch, prepare
from harness.meta.rollouts.episode_loop import Clock, draw_noise
from harness.types import Episodes, MetaEpisodes
from policies.base import Params
from task_distributions import EnvSpec, Task, TaskDistribution


@dataclass(frozen=True, slots=True)
class MetaEpisodePlan:
    """How many episodes, when to score, and which branch of the seed tree to draw from."""

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

    def support_node(self, shot: int) -> SeedStream:
        """Return where the support episodes of ``shot`` draw from."""
        path = (self.iteration, shot)
        keys, phase = self.seed_keys, f"{self.phase}/support"
        return SeedStream(self.seed, phase, path, keys, self.support_episodes, sample=True)

    @property
    def query_node(self) -> SeedStream:
        """Where query episodes draw from, whatever the number of shots before them."""
        keys, phase = self.seed_keys, f"{self.phase}/query"
        sample = not self.deterministic_query
        return SeedStream(self.seed, phase, (self.iteration,), keys, self.query_episodes, sample)


@dataclass(frozen=True, slots=True)
class SeedStream:
    """A branch of the seed tree with a leaf per task, and how many episodes to run there."""

    seed: int
    phase: str
    path: tuple[int, ...]
    keys: tuple[int, ...]
    episodes: int
    sample: bool
    """Draw actions, or take the likeliest."""

    def episode_seeds(self) -> list[int]:
        """Return reset seeds for N·E environments."""
        return [
            value
            for key in self.keys
            for value in seeding.episode_seeds(
                self.seed, self.phase, *self.path, key, count=self.episodes
            )
        ]

    def noise(self, spec: EnvSpec) -> Float[np.ndarray, "T N E A"]:
        """Return action noise, each task's from its own leaf."""
        generators = [
            seeding.generator(self.seed, f"{self.phase}/noise", *self.path, key)
            for key in self.keys
        ]
        return draw_noise(generators, spec, self.episodes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The episodes of a meta-episode, what was adapted on and the actor that led to."""

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
    train: TrainConfig
    return_scale: float = 1.0

    def run(
        self, tasks: Sequence[Task], actor: Actor, plan: MetaEpisodePlan, clock: Clock
    ) -> Outcome:
        """Play the path of ``plan`` on ``tasks`` from the parameters of ``actor`` [1, ...]."""
        support: list[Episodes] = []
        batches: list[Batch] = []
        samplers: list[Params] = []
        query: dict[int, Episodes] = {}
        seconds: dict[int, float] = {}
        spent = 0.0
        for shots in range(plan.query_after[-1] + 1):
            if shots in plan.query_after:
                query[shots] = self._query(tasks, actor, plan, clock)[0]
                seconds[shots] = spent
            if shots < plan.query_after[-1] and self.adapter.needs_support:
                episodes, context = self._support(tasks, actor, plan, shots, clock)
                support.append(episodes)
                began = time.perf_counter()
                if self.adapter.steps_per_shot:
                    batch = prepare(episodes, actor, tuple(tasks), self.train, self.return_scale)
                    batches.append(batch)
                    samplers.append(actor.params)
                    actor = replace(actor, params=self._adapted(actor, batches, plan, shots))
                if self.adapter.carries_memory:
                    actor = replace(actor, context=context)
                spent += clock.add("adapt", began) - began
        episodes_played = MetaEpisodes(tuple(support), query, seconds)
        return Outcome(episodes_played, tuple(batches), tuple(samplers), actor)

    def _adapted(
        self, actor: Actor, batches: Sequence[Batch], plan: MetaEpisodePlan, shot: int
    ) -> Params:
        *past, batch = batches
        if not isinstance(self.adapter, HybridGradientAdapter):
            return self.adapter.adapt(actor.policy, actor.params, batch)
        draws = [
            seeding.generator(plan.seed, f"{plan.phase}/experience", plan.iteration, shot, key)
            for key in plan.seed_keys
        ]
        return self.adapter.adapt_with(actor.policy, actor.params, batch, past, draws)

    def _support(
        self, tasks: Sequence[Task], actor: Actor, plan: MetaEpisodePlan, shot: int, clock: Clock
    ) -> tuple[Episodes, Context]:
        return self._collect(tasks, actor, plan.support_node(shot), clock)

    def _query(
        self, tasks: Sequence[Task], actor: Actor, plan: MetaEpisodePlan, clock: Clock
    ) -> tuple[Episodes, Context]:
        # The seeds do not depend on the number of shots: gains are paired, episode by episode.
        if actor.context is not None:
            actor = replace(actor, context=actor.context.lanes(plan.query_episodes))
        return self._collect(tasks, actor, plan.query_node, clock)

    def _collect(
        self, tasks: Sequence[Task], actor: Actor, node: SeedStream, clock: Clock
    ) -> tuple[Episodes, Context]:
        now = time.perf_counter()
        env = self.dist.make_batch(tasks, node.episodes)
        noise = node.noise(self.dist.spec) if node.sample else None
        seeds = node.episode_seeds()
        clock.add("physics", now)
        return rollout(env, actor, seeds, noise, clock)
