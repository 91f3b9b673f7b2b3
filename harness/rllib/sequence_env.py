"""Training sequences as a plain Gymnasium environment, for trainers other than ours.

One episode of ``SequenceEnv`` is one training sequence: the episodes of one task, concatenated, on
the tasks and reset seeds that our own learner would draw. Its observation is the policy's full
input, the same that ``harness.meta.rollouts.inputs`` builds for scoring.

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
    """Yield the sequences that our own learner would play, iteration after iteration."""
    shots, episodes = learner.settings.episodes_in_context - 1, learner.envs_per_task
    count = learner.tasks_per_iteration
    classes = setup.training_classes()
    for iteration in itertools.count():
        indices = jobs.training_tasks(setup.cell.seed, iteration, classes, count)
        plan = MetaEpisodePlan.for_training(
            seed=setup.cell.seed,
            iteration=iteration,
            seed_keys=tuple(range(count)),
            shots=shots,
            episodes=episodes,
        )
        streams = (*(plan.support_seeds(shot) for shot in range(shots)), plan.query_seeds)
        blocks = [stream.episode_seeds() for stream in streams]
        for position in range(count * episodes):
            task = setup.tasks("train", indices)[position // episodes]
            yield Assignment(task, tuple(block[position] for block in blocks))


@dataclass(slots=True)
class SequenceSource:
    """State shared by all environments of one process: the next sequences and the statistics."""

    setup: CellSetup
    sequences: Iterator[Assignment]
    state: PolicySnapshot
    """Provides the normaliser and the return scale of every input during one iteration."""
    reports: list[CollectReport] = field(default_factory=list)
    """One per completed sequence."""
    env_steps: int = 0
    """All steps taken, including those of abandoned sequences."""

    def pop_reports(self) -> list[CollectReport]:
        """Return the reports so far and clear them."""
        reports, self.reports = self.reports, []
        return reports


class SequenceEnv(gymnasium.Env):  # type: ignore[misc]  # gymnasium is untyped here
    """Consecutive episodes of one task as a single episode.

    The observation is the normalised observation, followed for policies with context by the
    previous action, the previous reward and the first-step flag. When an inner episode ends, the
    next observation is the first one of the next episode and carries the last action and reward.
    The reward is in units of the running standard deviation of the return. The episode terminates
    or is truncated as its last inner episode is; the ends of the others are not visible.
    """

    def __init__(self, source: SequenceSource) -> None:
        spec = source.setup.dist.spec
        inputs = source.setup.inputs
        if inputs.goals is not None:
            raise ValueError("policies that receive the task as an input are not supported")
        self._source, self._spec, self._context = source, spec, inputs.history
        self._scale = source.setup.settings.action_scale
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (inputs.dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (spec.action_dim,), np.float32)
        self._env: gymnasium.Env | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, " I"], dict[str, Any]]:
        """Begin the source's next sequence and return its first input.

        ``seed`` is ignored: sequences bring their own.
        """
        self.close()
        sequence = next(self._source.sequences)
        self._env = self._source.setup.dist.make_env(sequence.task)
        self._seeds = iter(sequence.seeds)
        self._remaining = len(sequence.seeds)
        self._episodes: list[Episodes] = []
        self._action, self._reward = np.zeros(self._spec.action_dim), 0.0
        return self._begin(), {}

    def _begin(self) -> Float[np.ndarray, " I"]:
        """Start the next inner episode; return its first input."""
        assert self._env is not None
        obs, _ = self._env.reset(seed=next(self._seeds))
        self._remaining -= 1
        self._recorder = _EpisodeRecorder(self._spec, obs)
        return self._input(obs, begins=True)

    def step(
        self, action: Float[np.ndarray, " A"]
    ) -> tuple[Float[np.ndarray, " I"], float, bool, bool, dict[str, Any]]:
        """Take one step with ``action`` in the policy's units."""
        assert self._env is not None
        scaled = np.asarray(action, np.float32) * self._scale
        obs, reward, terminated, truncated, info = self._env.step(scaled)
        self._source.env_steps += 1
        self._action, self._reward = np.clip(scaled, -1.0, 1.0), float(reward)
        self._recorder.record(action, reward, obs)
        scaled_reward = float(reward) / self._source.state.return_scale
        if not (terminated or truncated):
            return self._input(obs, begins=False), scaled_reward, False, False, {}
        self._episodes.append(self._recorder.episodes(terminated, info))
        if self._remaining:
            return self._begin(), scaled_reward, False, False, {}
        report = CollectReport.on(self._episodes, self._source.state, self._gamma)
        self._source.reports.append(report)
        return self._input(obs, begins=False), scaled_reward, terminated, truncated, {}

    def close(self) -> None:
        """Close the environment of the current sequence."""
        if self._env is not None:
            self._env.close()
            self._env = None

    @property
    def _gamma(self) -> float:
        gamma: float = self._source.setup.settings.gamma
        return gamma

    def _input(self, obs: Float[np.ndarray, " O"], *, begins: bool) -> Float[np.ndarray, " I"]:
        state = self._source.state
        mean, std = state.normalizer.mean.numpy(), state.normalizer.std.numpy()
        normalized: np.ndarray = np.clip((obs.astype(np.float32) - mean) / std, -CLIP, CLIP)
        if not self._context:
            return normalized
        unit = state.reward_unit(self._gamma, self._spec.horizon)
        reward = np.clip(self._reward / unit, -CLIP, CLIP)
        return np.concatenate([normalized, self._action, (reward, begins)], dtype=np.float32)


class _EpisodeRecorder:
    """Records one inner episode."""

    def __init__(self, spec: EnvSpec, obs: Float[np.ndarray, " O"]) -> None:
        self._obs = np.zeros((spec.horizon + 1, spec.obs_dim), np.float32)
        self._actions = np.zeros((spec.horizon, spec.action_dim), np.float32)
        self._rewards = np.zeros(spec.horizon, np.float32)
        self._obs[0] = obs
        self._length = 0

    def record(self, action: np.ndarray, reward: float, obs: np.ndarray) -> None:
        """Record one step and the observation it led to."""
        at = self._length
        self._actions[at], self._rewards[at], self._obs[at + 1] = action, reward, obs
        self._length = at + 1

    def episodes(self, terminated: bool, info: dict[str, Any]) -> Episodes:
        """Return the finished episode as a batch of one task and one episode."""
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
