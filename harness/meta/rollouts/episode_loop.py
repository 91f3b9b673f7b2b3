"""The episode loop: every return in the harness comes from here.

Array letters: N tasks, E episodes per task, B = N·E, T horizon, O observation, A action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from harness.types import Episodes
from policies import heads
from task_distributions import Task, TaskDistribution
from task_distributions.base import BatchedEnv, EnvSpec

Act = Callable[[int, Float[np.ndarray, "N E O"]], tuple[np.ndarray, np.ndarray | None]]
"""(step, observation) -> actions and their log-probabilities (``None`` when deterministic)."""
OnStep = Callable[[Float[np.ndarray, "N E"], np.ndarray], None]
"""(reward, mask of the steps that happened), both [N, E], after every step."""


@dataclass(slots=True)
class Clock:
    """Seconds spent, by stage; one per job."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, since: float) -> float:
        """Charge the time since ``since`` to ``stage``; return the time now."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - since
        return now


@contextmanager
def batch(
    dist: TaskDistribution, tasks: Sequence[Task], episodes_per_task: int
) -> Iterator[BatchedEnv]:
    """Make a batch of environments, and close it in the end if it has a ``close``."""
    env = dist.make_batch(tasks, episodes_per_task)
    try:
        yield env
    finally:
        getattr(env, "close", lambda: None)()


def draw_noise(
    generators: Sequence[np.random.Generator], spec: EnvSpec, episodes: int
) -> Float[np.ndarray, "T N E A"]:
    """Draw action noise for N tasks, each from its own generator."""
    shape = (spec.horizon, episodes, spec.action_dim)
    draws = [heads.noise(rng, shape, discrete=spec.discrete) for rng in generators]
    return np.stack(draws, axis=1)


def run_episodes(
    env: BatchedEnv,
    act: Act,
    seeds: Sequence[int],
    *,
    action_scale: float,
    clock: Clock,
    on_step: OnStep | None = None,
) -> Episodes:
    """Run one episode per environment, with actions from ``act``."""
    recorder = _EpisodeRecorder.empty(env)
    now = time.perf_counter()
    obs = env.reset(seeds)
    alive = np.ones(len(obs), dtype=np.bool_)
    for step in range(env.spec.horizon):
        grid = recorder.write_obs(step, obs)
        now = clock.add("physics", now)
        actions, log_probs = act(step, grid)
        recorder.write_action(step, actions, log_probs)
        now = clock.add("inference", now)
        with np.errstate(over="ignore"):  # an action that overflows ends its episode as invalid
            scaled = actions * action_scale
        batch = env.step(scaled.reshape(len(obs), -1))
        recorder.write_step(step, batch.reward, alive)
        if on_step is not None:
            on_step(recorder.rewards[step], recorder.mask[step])
        obs = batch.obs
        alive = ~(batch.terminated | batch.truncated | batch.invalid)
        if not alive.any():
            break
    episodes = recorder.episodes(obs, batch.terminated, batch.success, batch.invalid)
    clock.add("physics", now)
    return episodes


@dataclass(frozen=True, slots=True)
class _EpisodeRecorder:
    """Buffers of one batch of episodes, time first so that each step writes one block."""

    obs: Float[np.ndarray, "T N E O"]
    actions: Float[np.ndarray, "T N E A"]
    log_probs: Float[np.ndarray, "T N E"]
    rewards: Float[np.ndarray, "T N E"]
    mask: np.ndarray

    @classmethod
    def empty(cls, env: BatchedEnv) -> _EpisodeRecorder:
        grid = (env.spec.horizon, len(env.tasks), env.episodes_per_task)
        return cls(
            np.zeros((*grid, env.spec.obs_dim), np.float32),
            np.zeros((*grid, env.spec.action_dim), np.float32),
            np.zeros(grid, np.float32),
            np.zeros(grid, np.float32),
            np.zeros(grid, np.bool_),
        )

    def write_obs(self, step: int, obs: np.ndarray) -> np.ndarray:
        grid: np.ndarray = self.obs[step]
        grid[:] = obs.reshape(grid.shape)
        return grid

    def write_action(self, step: int, actions: np.ndarray, log_probs: np.ndarray | None) -> None:
        self.actions[step] = actions
        if log_probs is not None:
            self.log_probs[step] = log_probs

    def write_step(self, step: int, reward: np.ndarray, alive: np.ndarray) -> None:
        grid = self.rewards.shape[1:]
        self.rewards[step] = reward.reshape(grid)
        self.mask[step] = alive.reshape(grid)

    def _finite(self, last_obs: np.ndarray) -> np.ndarray:
        """Return [N, E] where every number of the episode is finite.

        Our own environments see to it themselves; others may not.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            returns = np.where(self.mask, self.rewards, 0.0).sum(0)
        finite: np.ndarray = np.isfinite(returns) & np.isfinite(last_obs).all(-1)
        for array in (self.obs, self.actions):
            finite &= (np.isfinite(array).all(-1) | ~self.mask).all(0)
        return finite

    def episodes(
        self, obs: np.ndarray, terminated: np.ndarray, success: np.ndarray, invalid: np.ndarray
    ) -> Episodes:
        grid = self.rewards.shape[1:]
        lengths = self.mask.sum(0).astype(np.float64)
        last_obs = obs.reshape(*grid, -1).astype(np.float32)
        invalid = invalid.reshape(grid) | ~self._finite(last_obs)
        if invalid.any():
            # They may hold NaN, and 0 · NaN in a masked sum is NaN: blank them.
            last_obs[invalid] = 0
            for array in (self.obs, self.actions, self.log_probs, self.rewards, self.mask):
                array[:, invalid] = 0
        return Episodes(
            obs=_task_first(self.obs),
            actions=_task_first(self.actions),
            log_probs=_task_first(self.log_probs),
            rewards=_task_first(self.rewards),
            mask=_task_first(self.mask),
            last_obs=last_obs,
            terminated=terminated.reshape(grid).copy(),
            success=success.reshape(grid) & ~invalid,
            invalid=invalid,
            lengths=lengths,
        )


def _task_first(array: np.ndarray) -> np.ndarray:
    """[T, N, E, ...] -> contiguous [N, E, T, ...]."""
    return np.ascontiguousarray(np.moveaxis(array, 0, 2))
