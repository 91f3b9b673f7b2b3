"""Classes of known success probability whose successes end early: the evaluator's test piece.

Whether an episode succeeds is drawn at its reset, whatever the actions. A success ends after a few
steps, a failure lasts the whole horizon: an evaluator that counts the first episodes to finish
counts successes more often than they happen.
"""

from dataclasses import dataclass

import gymnasium
import numpy as np

from task_distributions import EnvSpec, StepBatch, Task

HORIZON = 20
EARLY = 3
"""A success ends within as many steps."""
GOALS = 50
CLASSES = {
    "test": {"seldom": 0.2, "even": 0.5},
    "train": {"never": 0.0, "mostly": 0.8},
    "validation": {"never": 0.0, "mostly": 0.8},
    "ood": {},
}
"""Split -> class -> probability of success."""


def end_of(rng, probability):
    """Draw the step a success happens at, or ``None``."""
    return int(rng.integers(1, EARLY + 1)) if rng.random() < probability else None


class LuckyBatch:
    def __init__(self, spec, tasks, episodes_per_task):
        self.spec, self.tasks, self.episodes_per_task = spec, tuple(tasks), episodes_per_task

    def reset(self, seeds):
        per_env = np.repeat([task.param("probability") for task in self.tasks], len(seeds))
        per_env = per_env.reshape(len(self.tasks), -1)[:, : self.episodes_per_task].ravel()
        rngs = [np.random.default_rng(seed) for seed in seeds]
        ends = [end_of(rng, p) for rng, p in zip(rngs, per_env, strict=True)]
        self._ends = np.array([self.spec.horizon + 1 if end is None else end for end in ends])
        self._step = 0
        return np.zeros((len(seeds), self.spec.obs_dim))

    def step(self, actions):
        alive = self._ends > self._step
        self._step += 1
        success = self._ends <= self._step
        late = np.full(len(success), self._step >= self.spec.horizon)
        obs = np.full((len(success), self.spec.obs_dim), self._step / self.spec.horizon)
        return StepBatch(
            obs=obs,
            reward=np.where(alive & success, 10.0, 0.0),
            terminated=success.copy(),
            truncated=late & ~success,
            success=success,
            invalid=np.zeros_like(success),
        )


class LuckyClasses:
    name, version = "lucky", 1
    protocol = "lucky@1: success by chance"

    def __init__(self, horizon):
        self.spec = EnvSpec(2, 2, horizon or HORIZON, has_success=True)

    def tasks(self, split):
        return tuple(
            Task("lucky", 1, split, place * GOALS + goal, f"{name}/{goal}", (("probability", p),))
            for place, (name, p) in enumerate(CLASSES[split].items())
            for goal in range(GOALS)
        )

    def make_env(self, task):
        raise NotImplementedError

    def make_batch(self, tasks, episodes_per_task):
        return LuckyBatch(self.spec, tasks, episodes_per_task)

    def non_adaptive_return(self, tasks):
        return None


@dataclass(frozen=True)
class LuckySettings:
    horizon: int | None = None


def lucky(settings: LuckySettings):
    return LuckyClasses(settings.horizon)


class LuckySingle(gymnasium.Env):
    """The same chance as metaworld's own evaluator meets it: one environment of a vector."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))
    terminate_on_success = True

    def __init__(self, task_name, probability, seed):
        self.task_name, self._probability = task_name, probability
        self._rng = np.random.default_rng(seed)

    def toggle_terminate_on_success(self, on):
        assert on

    def reset(self, *, seed=None, options=None):
        self._step, self._end = 0, end_of(self._rng, self._probability)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self._step += 1
        success = self._step == self._end
        late = self._step == HORIZON
        return np.zeros(2, np.float32), 10.0 * success, success, late, {"success": float(success)}
