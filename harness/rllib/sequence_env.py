"""Training sequences as a plain Gymnasium environment, for a trainer that is not ours.

One episode of ``SequenceEnv`` is one training sequence: the episodes of one task end to end, on
the tasks and reset seeds that our own learner would draw. Its observation is the policy's whole
input, as ``harness.meta.rollouts.inputs`` feeds it while scoring.

Letters: O observation, A action, I input.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from harness.execution import jobs
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import CollectReport, PolicySnapshot
from harness.meta.learners.ppo import PPOLearner
from harness.meta.meta_episode import MetaEpisodePlan
from harness.meta.rollouts.normalizer import CLIP
from harness.types import Episodes
from task_distributions import EnvSpec, Task


@dataclass(frozen=True, slots=True)
class Assignment:
    """One training sequence."""

    task: Task
    seeds: tuple[int, ...]
    """Reset seeds, one per episode."""


def assignments(setup: CellSetup, learner: PPOLearner) -> Iterator[Assignment]:
    """Yield the sequences of one iteration after the other, those our own learner would play."""
    shots, episodes = learner.settings.episodes_in_sequence - 1, learner.envs_per_task
    count = learner.tasks_per_iteration
    classes = setup.training_classes()
    for iteration in itertools.count():
        indices = jobs.training_tasks(setup.cell.seed, iteration, classes, count)
        plan = MetaEpisodePlan.for_training(
            setup.cell.seed, iteration, tuple(range(count)), shots, episodes
        )
        streams = (*(plan.support_seeds(shot) for shot in range(shots)), plan.query_seeds)
        blocks = [stream.episode_seeds() for stream in streams]
        for position in range(count * episodes):
            task = setup.tasks("train", indices)[position // episodes]
            yield Assignment(task, tuple(block[position] for block in blocks))


@dataclass(slots=True)
class SequenceSource:
    """What all environments of one process share: what comes next, and what has happened."""

    setup: CellSetup
    sequences: Iterator[Assignment]
    state: PolicySnapshot
    """Its normaliser and return scale are those of every input until the next iteration."""
    reports: list[CollectReport] = field(default_factory=list)
    """Of the sequences played to their end."""
    env_steps: int = 0
    """Every step taken, those of sequences that were broken off too."""

    def taken(self) -> list[CollectReport]:
        """Return the reports so far and forget them."""
        taken, self.reports = self.reports, []
        return taken


class SequenceEnv(gymnasium.Env):  # type: ignore[misc]  # gymnasium is untyped here
    """The episodes of one task after another as one episode.

    The observation is the normalised observation and, where the policy is fed its past, previous
    action, previous reward and the flag of a first step. Where an inner episode ends, the next
    observation is the first one of the next episode: it carries the last action and reward. The
    reward is in units of the running standard deviation of the return. The episode terminates or
    is truncated as its last inner episode is; ends of the others cannot be seen from outside.
    """

    def __init__(self, feed: SequenceSource) -> None:
        spec = feed.setup.dist.spec
        inputs = feed.setup.inputs
        if inputs.goals is not None:
            raise ValueError("a policy that is told the task has no glued episodes")
        self._feed, self._spec, self._context = feed, spec, inputs.history
        self._scale = feed.setup.settings.action_scale
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (inputs.dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (spec.action_dim,), np.float32)
        self._env: gymnasium.Env | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, " I"], dict[str, Any]]:
        """Begin the next sequence of the feed; ``seed`` is not looked at: the feed brings its own.

        Returns the first input and nothing else.
        """
        self.close()
        sequence = next(self._feed.sequences)
        self._env = self._feed.setup.dist.make_env(sequence.task)
        self._seeds = iter(sequence.seeds)
        self._left = len(sequence.seeds)
        self._played: list[Episodes] = []
        self._action, self._reward = np.zeros(self._spec.action_dim), 0.0
        return self._begin(), {}

    def _begin(self) -> Float[np.ndarray, " I"]:
        """Start the next inner episode; return its first input."""
        assert self._env is not None
        obs, _ = self._env.reset(seed=next(self._seeds))
        self._left -= 1
        self._tape = _EpisodeRecorder(self._spec, obs)
        return self._input(obs, begins=True)

    def step(
        self, action: Float[np.ndarray, " A"]
    ) -> tuple[Float[np.ndarray, " I"], float, bool, bool, dict[str, Any]]:
        """Take one step with ``action``, in the policy's units."""
        assert self._env is not None
        scaled = np.asarray(action, np.float32) * self._scale
        obs, reward, terminated, truncated, info = self._env.step(scaled)
        self._feed.env_steps += 1
        self._action, self._reward = np.clip(scaled, -1.0, 1.0), float(reward)
        self._tape.write(action, reward, obs)
        paid = float(reward) / self._feed.state.return_scale
        if not (terminated or truncated):
            return self._input(obs, begins=False), paid, False, False, {}
        self._played.append(self._tape.episodes(terminated, info))
        if self._left:
            return self._begin(), paid, False, False, {}
        self._feed.reports.append(CollectReport.on(self._played, self._gamma))
        return self._input(obs, begins=False), paid, terminated, truncated, {}

    def close(self) -> None:
        """Drop the environment of the sequence."""
        if self._env is not None:
            self._env.close()
            self._env = None

    @property
    def _gamma(self) -> float:
        gamma: float = self._feed.setup.settings.gamma
        return gamma

    def _input(self, obs: Float[np.ndarray, " O"], *, begins: bool) -> Float[np.ndarray, " I"]:
        state = self._feed.state
        mean, std = state.normalizer.mean.numpy(), state.normalizer.std.numpy()
        seen: np.ndarray = np.clip((obs.astype(np.float32) - mean) / std, -CLIP, CLIP)
        if not self._context:
            return seen
        reward = np.clip(self._reward / state.reward_unit(self._gamma), -CLIP, CLIP)
        return np.concatenate([seen, self._action, (reward, begins)], dtype=np.float32)


class _EpisodeRecorder:
    """One inner episode as it happens."""

    def __init__(self, spec: EnvSpec, obs: Float[np.ndarray, " O"]) -> None:
        self._obs = np.zeros((spec.horizon + 1, spec.obs_dim), np.float32)
        self._actions = np.zeros((spec.horizon, spec.action_dim), np.float32)
        self._rewards = np.zeros(spec.horizon, np.float32)
        self._obs[0] = obs
        self._length = 0

    def write(self, action: np.ndarray, reward: float, obs: np.ndarray) -> None:
        """Note one step and what it led to."""
        at = self._length
        self._actions[at], self._rewards[at], self._obs[at + 1] = action, reward, obs
        self._length = at + 1

    def episodes(self, terminated: bool, info: dict[str, Any]) -> Episodes:
        """Return the episode, alone on its task."""
        valid = not info["invalid"]
        mask = (np.arange(len(self._rewards)) < self._length) & valid
        grid = (1, 1)
        return Episodes(
            obs=np.where(mask[:, np.newaxis], self._obs[:-1], 0)[np.newaxis, np.newaxis],
            actions=np.where(mask[:, np.newaxis], self._actions, 0)[np.newaxis, np.newaxis],
            log_probs=np.zeros((1, 1, len(mask)), np.float32),
            rewards=np.where(mask, self._rewards, 0)[np.newaxis, np.newaxis],
            mask=mask[np.newaxis, np.newaxis],
            last_obs=np.where(valid, self._obs[self._length], 0)[np.newaxis, np.newaxis],
            terminated=np.full(grid, terminated),
            success=np.full(grid, valid and info.get("success", False)),
            invalid=np.full(grid, not valid),
            lengths=np.full(grid, float(self._length)),
        )
