"""A trained policy, ready to use: it acts, remembers and adapts as it does when it is scored.

Array letters: B episodes side by side, T time, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.agents import AgentError, TimeLimits
from harness.agents.files import File
from harness.agents.guard import GuardedAgent
from harness.agents.playing import play_episodes
from harness.agents.protocol import Adaptation, TaskEpisodes
from harness.execution import checkpoint
from harness.meta.adapters.base import Shot
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import PolicySnapshot
from harness.meta.learners.critic import acting_params
from harness.meta.meta_episode import SeedStream
from harness.meta.rollouts.actor import Actor, Playing
from harness.meta.rollouts.batch import Batch, prepare
from harness.meta.rollouts.episode_loop import Clock, draw_noise
from harness.types import Cell, Episodes
from policies.params import num_params
from task_distributions import EnvSpec, Task, TaskDistribution
from task_distributions.base import BatchedEnv


class LoadedPolicy:
    """The policy of a checkpoint. Satisfies ``harness.agents.Agent``.

    ``reset`` begins a task at the meta-trained parameters; ``begin_episodes`` begins episodes;
    ``act`` answers observations; ``observe`` passes the reward on, which policies trained by
    ``rl2`` need; ``adapt`` takes a shot, on the episodes that were played since the last one with
    ``query=False``. ``play`` does all of it on a task of the policy's own distribution. With as
    many episodes side by side as a job of the run had, returns equal the records bit for bit.
    """

    def __init__(
        self,
        setup: CellSetup,
        snapshot: PolicySnapshot,
        *,
        deterministic: bool = True,
        path: Path | None = None,
    ) -> None:
        self._setup, self._snapshot = setup, snapshot
        self._deterministic = deterministic
        self.path = path
        """The file that it was loaded from."""
        self._adapter = setup.scoring_adapter()
        self.num_params = num_params(acting_params(snapshot.params))
        self.train_env_steps = snapshot.env_steps
        self.reset()

    @property
    def cell(self) -> Cell:
        """The cell that trained it."""
        return self._setup.cell

    @property
    def dist(self) -> TaskDistribution:
        """The task distribution that it was trained on."""
        return self._setup.dist

    @property
    def _tasks(self) -> tuple[Task]:
        """The task being played; any other where the policy does not observe it."""
        if self._task is None and self._setup.inputs.goals is not None:
            raise AgentError("it observes the task: begin with reset(task)")
        return (self._task or self._setup.dist.tasks("train")[0],)

    @property
    def adaptation(self) -> Adaptation:
        """How a shot changes it: by ``adapt``, by memory, or not at all."""
        if self._adapter.steps_per_shot:
            return "adapt"
        return "memory" if self._adapter.carries_memory else "none"

    # --- a task ----------------------------------------------------------------------------------

    def reset(self, task: Task | None = None, *, seed: int = 0) -> None:
        """Begin a task: forget what was observed and adapted on.

        Args:
            task: needed by policies that are fed the task (``oracle``).
            seed: of the sampled actions of support episodes.
        """
        self._task = task
        self._rng = np.random.default_rng(seed)
        self._actor: Actor = self._setup.actor(self._snapshot)
        self._batches: tuple[Batch, ...] = ()
        self._playing: Playing | None = None

    def begin_task(self, spec: EnvSpec, num_episodes: int, seed: int) -> None:
        """See ``harness.agents.Agent``.

        Raises:
            AgentError: the environment is another than the policy was trained on.
        """
        own = self._setup.dist.spec
        if (spec.obs_dim, spec.action_dim, spec.discrete) != (
            own.obs_dim,
            own.action_dim,
            own.discrete,
        ):
            raise AgentError(f"was trained on {self.cell.task_dist}, which has other sizes: {own}")
        self.reset(seed=seed)

    def snapshot(self) -> Any:
        """Return what the policy has learned and remembers of the task."""
        self._end_episodes()
        return self._actor, self._batches, self._rng.bit_generator.state

    def restore(self, state: Any) -> None:
        """Return to a state from ``snapshot``."""
        self._actor, self._batches, self._rng.bit_generator.state = state
        self._playing = None

    # --- episodes --------------------------------------------------------------------------------

    def begin_episodes(self, num_episodes: int = 1, query: bool = True) -> None:
        """Begin B episodes: query episodes take the likeliest action, support episodes sample.

        A policy with memory continues the support episodes before them, each in its own row. Query
        episodes leave no memory: all of them continue from the same one.

        Raises:
            AgentError: it remembers fewer than B episodes side by side.
        """
        self._end_episodes()
        self._query = query
        actor, spec = self._actor, self._setup.dist.spec
        if actor.context is not None:
            if num_episodes > (rows := actor.context.action.shape[1]):
                raise AgentError(
                    f"remembers {rows} episodes side by side, not {num_episodes}: reset() it first"
                )
            actor = replace(actor, context=actor.context.first_episodes(num_episodes))
        sample = not (query and self._deterministic)
        noise = self.noise(num_episodes) if sample else None
        self._playing = Playing(actor, spec, self._tasks, num_episodes, noise)
        self._played: Episodes | None = None
        self._over: NDArray[np.bool_] = np.zeros(num_episodes, np.bool_)
        self._sampled: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def noise(self, num_episodes: int) -> NDArray[np.float32]:
        """Draw the action noise [T, 1, B, A] of support episodes."""
        return draw_noise([self._rng], self._setup.dist.spec, num_episodes)

    def act(self, obs: NDArray[Any]) -> Any:
        """Return the action [A] or [B, A] at ``obs`` [O] or [B, O]; its index if discrete."""
        if self._playing is None:
            self.begin_episodes(1 if obs.ndim == 1 else len(obs))
        assert self._playing is not None
        grid = np.asarray(obs, np.float32).reshape(1, -1, obs.shape[-1])
        actions, log_probs = self._playing.act(len(self._sampled), grid)
        self._sampled.append((actions[0], np.zeros(0) if log_probs is None else log_probs[0]))
        discrete = self._setup.dist.spec.discrete
        sent: NDArray[Any] = (
            actions[0].argmax(-1) if discrete else actions[0] * self._actor.action_scale
        )
        return sent[0] if obs.ndim == 1 else sent

    def observe(self, obs: Any, action: Any, reward: Any, terminated: Any, truncated: Any) -> None:
        """Take note of a transition, of one episode or of B."""
        assert self._playing is not None
        happened = ~self._over
        self._over = self._over | np.atleast_1d(terminated) | np.atleast_1d(truncated)
        if self._playing.feeds_history:
            rewards = np.atleast_1d(np.asarray(reward, np.float32))
            self._playing.observe(rewards[np.newaxis], happened[np.newaxis])

    def adapt(self, episodes: TaskEpisodes) -> None:
        """Take one shot on the support episodes that were just played.

        Raises:
            AgentError: they were query episodes.
        """
        if self._playing is None or self._query:
            raise AgentError("adapt on support episodes: play them with query=False")
        if not self._adapter.steps_per_shot:
            self._end_episodes()
            return
        steps = episodes.mask.shape[1]
        actions, log_probs = (np.stack(part) for part in zip(*self._sampled, strict=True))
        invalid: NDArray[np.bool_] = np.logical_not(episodes.mask.any(axis=1))
        grid = Episodes(
            obs=episodes.obs[np.newaxis],
            actions=_padded(actions, steps, invalid),
            log_probs=_padded(log_probs, steps, invalid),
            rewards=episodes.rewards[np.newaxis],
            mask=episodes.mask[np.newaxis],
            last_obs=episodes.last_obs[np.newaxis],
            terminated=episodes.terminated[np.newaxis],
            success=episodes.success[np.newaxis],
            invalid=invalid[np.newaxis],
            lengths=episodes.mask.sum(1, dtype=np.float64)[np.newaxis],
        )
        actor, estimator = self._actor, self._setup.estimator(self._snapshot)
        batch = prepare([grid], actor, self._tasks, estimator)
        shot = Shot(batch, self._batches, [self._rng])
        params = self._adapter.adapt(actor.policy, actor.params, shot)
        self._batches = (*self._batches, batch)
        self._actor = replace(actor, params=params)
        self._end_episodes()

    def _end_episodes(self) -> None:
        """Keep the memory of support episodes where the adapter carries it on."""
        playing, self._playing = self._playing, None
        if playing is not None and not self._query and self._adapter.carries_memory:
            done = self._played
            context = playing.context if done is None else playing.context_after(done)
            self._actor = replace(self._actor, context=context)

    # --- whole episodes --------------------------------------------------------------------------

    def play(self, task: Task, seeds: Sequence[int], *, query: bool = True) -> TaskEpisodes:
        """Play an episode of ``task`` per reset seed, side by side; query episodes teach nothing.

        Raises:
            ValueError: the task belongs to another distribution.
        """
        agent = GuardedAgent(lambda: self, TimeLimits())
        self._task = task
        before = self.snapshot()
        played = play_episodes(self.dist, task, agent, list(seeds), query, Clock())
        self._played = played  # invalid episodes leave no memory
        if query:
            self.restore(before)
        return TaskEpisodes.of(played)

    def query_seeds(self, task: Task, count: int) -> list[int]:
        """Return the reset seeds of the task's first ``count`` query episodes in the records."""
        phase = f"evaluate/{task.split}"
        return SeedStream.of_query(self.cell.seed, phase, (task.index,), count).episode_seeds()


class TaskFedPolicy(LoadedPolicy):
    """A policy that is fed the task: ``oracle``."""

    def show_task(self, task: Task, env: BatchedEnv) -> None:
        """Take over the task."""
        self._task = task


def _padded(values: NDArray[Any], steps: int, invalid: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values [t, E, ...] of the steps played as [1, E, T, ...], blank where invalid."""
    values = np.moveaxis(values, 0, 1)
    padding = [(0, 0), (0, steps - values.shape[1]), *((0, 0),) * (values.ndim - 2)]
    padded = np.pad(values, padding)
    padded[invalid] = 0
    return np.ascontiguousarray(padded)[np.newaxis]


def load_policy(path: str | Path, *, deterministic: bool = True) -> LoadedPolicy:
    """Return the trained policy of a checkpoint.

    Args:
        path: a ``.safetensors`` or ``.npz`` file, published ones (``policy.safetensors``) included.
        deterministic: query episodes take the likeliest action rather than sample.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
    """
    setup, snapshot = checkpoint.load_snapshot(Path(path))
    kind = LoadedPolicy if setup.inputs.goals is None else TaskFedPolicy
    return kind(setup, snapshot, deterministic=deterministic, path=Path(path))


@dataclass(frozen=True)
class CheckpointSettings:
    """Settings of the agent ``checkpoint``."""

    path: File | None = None
    """Checkpoint of a run of this harness, .safetensors or .npz."""
    deterministic: bool = True
    """Query episodes take the likeliest action rather than sample."""


def checkpoint_agent(settings: CheckpointSettings = CheckpointSettings()) -> LoadedPolicy:
    """Load the policy of a checkpoint as an agent.

    Raises:
        AgentError: no file is given.
        CheckpointError: it is no whole checkpoint.
    """
    if settings.path is None:
        raise AgentError("checkpoint: path is missing: name the file")
    return load_policy(settings.path, deterministic=settings.deterministic)
