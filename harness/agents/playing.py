"""An agent on one task: support and query episodes with the seeds of the common protocol.

Array letters: E episodes, B of them side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import seeding
from harness.agents.guard import GuardedAgent, TimeLimits, watching
from harness.agents.protocol import Adaptation, AgentError, TaskEpisodes
from harness.meta.meta_episode import MetaEpisodePlan, SeedStream
from harness.meta.rollouts.episode_loop import Clock, batch, run_episodes
from harness.types import TASK_SHOWN, Episodes, MetaEpisodes
from task_distributions import Task, TaskDistribution
from task_distributions.base import BatchedEnv, EnvSpec, StepBatch


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is played on a task."""

    shots: tuple[int, ...]
    """Numbers of shots to score after, ascending."""
    episodes_per_shot: int
    query_episodes: int
    seed: int
    """Of the cell."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An agent's episodes on one task (N = 1), and what it says about itself."""

    episodes: MetaEpisodes
    adapter: str
    """``none``, ``memory``, ``adapt`` or ``task shown``."""
    adaptation: Adaptation
    """With ``memory`` every query episode has support episodes of its own."""
    num_params: int
    train_env_steps: int


def agent_seed(seed: int, split: str, key: int, lane: int = 0) -> int:
    """Return the seed of the agent on a task, below 2**32.

    Args:
        seed: of the cell.
        split: of the task.
        key: place of the task in the seed tree.
        lane: the episode, where each has an agent of its own.
    """
    return int(seeding.sequence(seed, f"agent/{split}", key, lane).generate_state(1)[0])


@dataclass(frozen=True, slots=True)
class _Lane:
    """Episodes that one agent plays, by their position among all of them."""

    support: Sequence[int]
    query: Sequence[int]


@dataclass(slots=True)
class TaskPlayer:
    """Plays the agents that ``make`` returns on one task."""

    dist: TaskDistribution
    task: Task
    make: Callable[[], Any]
    scoring: Scoring
    limits: TimeLimits
    clock: Clock
    _place: str = ""
    """What is being played, for messages."""
    _spare: GuardedAgent | None = None
    """An agent that was made and not used yet."""

    def play(self) -> Outcome:
        """Return the episodes of the task.

        Raises:
            AgentError: the agent failed; names the task, the seed and what was being played.
        """
        try:
            with watching():
                return self._play()
        except AgentError as error:
            where = f"{self.task.name}, seed {self.scoring.seed}{self._place}"
            raise AgentError(f"{where}: {error}") from error

    def _play(self) -> Outcome:
        first = self._spare = GuardedAgent(self.make, self.limits)
        paths = [self._path(first, lane, n) for n, lane in enumerate(self._lanes(first))]
        played = [self._query_along(path) for path in paths]
        shots = self.scoring.shots
        episodes = MetaEpisodes(
            tuple(_side_by_side(each) for each in zip(*(p.support for p in paths), strict=True)),
            {k: _side_by_side([query[k][0] for query in played]) for k in shots},
            {k: sum(query[k][1] for query in played) for k in shots},
        )
        adapter: str = first.adaptation
        if first.sees_task:
            adapter = TASK_SHOWN if adapter == "none" else f"{TASK_SHOWN}, {adapter}"
        return Outcome(episodes, adapter, first.adaptation, **first.declared)

    def _lanes(self, agent: GuardedAgent) -> list[_Lane]:
        """Return which episodes share an agent."""
        query = range(self.scoring.query_episodes)
        if agent.adaptation == "adapt":
            return [_Lane(range(self.scoring.episodes_per_shot), query)]
        remembers = agent.adaptation == "memory"
        if agent.batched:
            return [_Lane(query if remembers else (), query)]
        return [_Lane([e] if remembers else (), [e]) for e in query]

    def _path(self, agent: GuardedAgent, lane: _Lane, number: int) -> _Path:
        widest = max(len(lane.support), len(lane.query)) if agent.batched else 1
        seed = agent_seed(self.scoring.seed, self.task.split, self.task.index, number)
        return _Path(self, lane, widest, seed)

    def _query_along(self, path: _Path) -> dict[int, tuple[Episodes, float]]:
        """Return the query episodes of a lane, and the seconds of adaptation, by shots."""
        shots = self.scoring.shots
        if not path.lane.support:
            return dict.fromkeys(shots, self._query(path, 0))
        return {count: self._query(path, count) for count in shots}

    def _query(self, path: _Path, count: int) -> tuple[Episodes, float]:
        """Play the query episodes after ``count`` shots; none of them teaches another."""
        parts = []
        columns = path.lane.query
        agent = path.agent_after(count)
        for group in _groups(agent, columns):
            agent = path.agent_after(count)
            self._place = f", after {count} shots, query episodes"
            state = agent.snapshot()
            parts.append(self.episodes(agent, self._plan.query_seeds, group, query=True))
            if agent.restores:
                agent.restore(state)
            else:
                path.discard()
        return _side_by_side(parts), path.seconds

    @property
    def _plan(self) -> MetaEpisodePlan:
        scoring = self.scoring
        return MetaEpisodePlan(
            query_after=scoring.shots,
            support_episodes=max(scoring.episodes_per_shot, scoring.query_episodes),
            query_episodes=scoring.query_episodes,
            deterministic_query=True,  # the agent decides; seeds alone are taken from the plan
            seed=scoring.seed,
            phase=f"evaluate/{self.task.split}",
            seed_keys=(self.task.index,),
        )

    def fresh_agent(self) -> GuardedAgent:
        """Return an agent that has not begun."""
        self._place = ""
        agent, self._spare = self._spare, None
        return agent or GuardedAgent(self.make, self.limits)

    def shot(
        self, agent: GuardedAgent, columns: Sequence[int], number: int
    ) -> tuple[Episodes, float]:
        """Play the support episodes of one shot and adapt; return the seconds of adaptation too."""
        self._place = f", shot {number + 1}, support episodes"
        stream = self._plan.support_seeds(number)
        groups = _groups(agent, columns)
        played = _side_by_side([self.episodes(agent, stream, g, query=False) for g in groups])
        self._place = f", shot {number + 1}"
        began = time.perf_counter()
        agent.adapt(TaskEpisodes.of(played))
        return played, self.clock.add("adapt", began) - began

    def episodes(
        self, agent: GuardedAgent, stream: SeedStream, columns: Sequence[int], *, query: bool
    ) -> Episodes:
        """Play the episodes ``columns`` of a stream of seeds side by side."""
        place, seeds = self._place, stream.episode_seeds()

        def on_act(step: int) -> None:
            self._place = f"{place}, step {step}"

        chosen = [seeds[column] for column in columns]
        played = play_episodes(self.dist, self.task, agent, chosen, query, self.clock, on_act)
        self._place = place
        return played


def play_episodes(
    dist: TaskDistribution,
    task: Task,
    agent: GuardedAgent,
    seeds: Sequence[int],
    query: bool,
    clock: Clock,
    on_act: Callable[[int], None] = lambda step: None,
) -> Episodes:
    """Play an episode per seed side by side; ``on_act`` is called with the number of each step."""
    obs = actions = np.zeros(0)

    def act(step: int, grid: NDArray[Any]) -> tuple[NDArray[Any], None]:
        nonlocal obs, actions
        on_act(step)
        obs = env.obs.copy()
        if step == 0:
            agent.begin_episodes(task, env.env, query=query)
        actions = agent.act(obs)
        return actions[np.newaxis], None

    def on_step(reward: NDArray[Any], happened: NDArray[Any]) -> None:
        last = env.last
        flags = last.terminated.copy(), last.truncated.copy()
        agent.observe(obs, actions, last.reward.copy(), *flags)

    with batch(dist, [task], len(seeds)) as made:
        env = _Tap(made)
        return run_episodes(env, act, seeds, action_scale=1.0, clock=clock, on_step=on_step)


@dataclass(slots=True)
class _Path:
    """The shots of one lane, played by one agent, or anew by another."""

    player: TaskPlayer
    lane: _Lane
    widest: int
    """Most episodes side by side."""
    seed: int
    support: list[Episodes] = field(default_factory=list)
    """By shot."""
    seconds: float = 0.0
    """Of adaptation so far."""
    _agent: GuardedAgent | None = None

    def agent_after(self, shots: int) -> GuardedAgent:
        """Return the agent after ``shots`` shots, and before any query episode."""
        if self._agent is None:
            self.support, self.seconds = [], 0.0
            self._agent = self.player.fresh_agent()
            self._agent.begin_task(self.player.dist.spec, self.widest, self.seed)
        while len(self.support) < shots:
            episodes, spent = self.player.shot(self._agent, self.lane.support, len(self.support))
            self.support.append(episodes)
            self.seconds += spent
        return self._agent

    def discard(self) -> None:
        """Drop the agent: a query episode may have taught it something."""
        self._agent = None


def _groups(agent: GuardedAgent, columns: Sequence[int]) -> list[Sequence[int]]:
    """Return which episodes are played side by side."""
    return [columns] if agent.batched else [[column] for column in columns]


def _side_by_side(parts: Sequence[Episodes]) -> Episodes:
    """Return the episodes of several batches of the same task as one batch."""
    if len(parts) == 1:
        return parts[0]
    return Episodes(
        **{
            entry.name: np.concatenate([getattr(part, entry.name) for part in parts], axis=1)
            for entry in fields(Episodes)
        }
    )


class _Tap:
    """A batched environment that keeps its last answer, in the precision it came in."""

    def __init__(self, env: BatchedEnv) -> None:
        self.env = env
        self.spec: EnvSpec = env.spec
        self.tasks, self.episodes_per_task = env.tasks, env.episodes_per_task

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """See ``BatchedEnv``."""
        self.obs = self.env.reset(seeds)
        return self.obs

    def step(self, actions: NDArray[np.floating]) -> StepBatch:
        """See ``BatchedEnv``."""
        self.last = self.env.step(actions)
        self.obs = self.last.obs
        return self.last
