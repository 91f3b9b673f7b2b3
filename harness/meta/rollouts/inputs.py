"""Policy inputs: the observation and, for some learners, the history or the task.

RL² (arXiv 1611.02779) feeds the previous action, the previous reward and a flag at the start of an
episode, from which memory can infer the task. The oracle is fed the task itself.

Array letters: N tasks, E episodes per task, T time, A action, G features of a task.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.meta.rollouts.normalizer import CLIP, Normalizer
from task_distributions import EnvSpec, Task, TaskDistribution


@dataclass(frozen=True, slots=True)
class Past:
    """The history that is fed at each step."""

    action: Float[Tensor, "N E T A"]
    """In the environment's units, clipped to [-1, 1]; 0 before the very first step."""
    reward: Float[Tensor, "N E T"]
    boundary: Bool[Tensor, "N E T"]
    """Set at the first step of an episode."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Assembles a policy's input, identically while acting and while learning."""

    spec: EnvSpec
    history: bool = False
    """Feed the previous action, the previous reward and the boundary."""
    goals: Goals | None = None
    """Feed the task."""

    @property
    def dim(self) -> int:
        """Width of the input."""
        past = self.spec.action_dim + 2 if self.history else 0
        return self.spec.obs_dim + past + (self.goals.dim if self.goals else 0)

    def assemble(
        self, obs: Float[Tensor, "N E T O"], past: Past | None, tasks: tuple[Task, ...]
    ) -> Float[Tensor, "N E T I"]:
        """Return the input of every step; ``obs`` is normalised, rewards are in their unit."""
        parts = [obs]
        if self.history:
            assert past is not None
            reward = past.reward.clamp(-CLIP, CLIP).unsqueeze(-1)
            parts += [past.action, reward, past.boundary.unsqueeze(-1)]
        if self.goals:
            goal = self.goals.of(tasks)[:, None, None].expand(*obs.shape[:3], -1)
            parts.append(goal)
        if len(parts) == 1:
            return obs
        return torch.cat([part.to(obs.dtype) for part in parts], -1)


class StepInputs:
    """Assembles the input of one step at a time: what ``Inputs.assemble`` gives, in fewer calls."""

    def __init__(
        self, inputs: Inputs, normalizer: Normalizer, tasks: tuple[Task, ...], like: np.ndarray
    ) -> None:
        """Assemble for ``tasks``, in the shape [N, E] and dtype of ``like``."""
        spec = inputs.spec
        self._history = inputs.history
        self._obs, self._actions = spec.obs_dim, spec.obs_dim + spec.action_dim
        self._mean, self._std = normalizer.mean.numpy(), normalizer.std.numpy()
        self._blank = np.zeros((*like.shape, inputs.dim), like.dtype)
        if inputs.goals:
            goals = inputs.goals.of(tasks).numpy()
            self._blank[..., -goals.shape[-1] :] = goals[:, np.newaxis]

    def assemble(
        self,
        obs: Float[np.ndarray, "N E O"],
        action: Float[np.ndarray, "N E A"],
        reward: Float[np.ndarray, "N E"],
        begins: bool,
    ) -> Float[Tensor, "N E 1 I"]:
        """Return the input of a step from the observation, as it is, and the step before it."""
        x = self._blank.copy()
        scaled = (obs - self._mean) / self._std
        np.clip(scaled, -CLIP, CLIP, out=x[..., : self._obs])
        if self._history:
            x[..., self._obs : self._actions] = action
            np.clip(reward, -CLIP, CLIP, out=x[..., self._actions])
            x[..., self._actions + 1] = begins
        return torch.from_numpy(x).unsqueeze(2)


@dataclass(frozen=True, slots=True, eq=False)
class Goals:
    """Tasks as features: the class, one-hot, and the parameters, scaled by the training tasks'.

    A class without training tasks is encoded as all zeros. Descriptions are fed as they are: few
    training tasks share a key, so that scaling by its standard deviation would inflate it.
    """

    classes: tuple[str, ...]
    keys: tuple[str, ...]
    mean: Float[np.ndarray, " P"]
    std: Float[np.ndarray, " P"]

    @classmethod
    def of_distribution(cls, dist: TaskDistribution) -> Goals:
        """Fit the scaling to the training tasks of ``dist``."""
        train = dist.tasks("train")
        classes = tuple(dict.fromkeys(task.class_name for task in train))
        keys = tuple(dict.fromkeys(key for task in train for key, _ in observed(task)))
        if any(task.description for task in train):
            return cls(classes, keys, np.zeros(len(keys)), np.ones(len(keys)))
        raw = np.stack([_raw(task, keys) for task in train])
        std = raw.std(0)
        return cls(classes, keys, raw.mean(0), np.where(std > 0, std, 1.0))

    @property
    def dim(self) -> int:
        """Features per task."""
        return len(self.mean) + (len(self.classes) if len(self.classes) > 1 else 0)

    def of(self, tasks: tuple[Task, ...]) -> Float[Tensor, "N G"]:
        """Return the features of ``tasks``."""
        rows = (np.stack([_raw(task, self.keys) for task in tasks]) - self.mean) / self.std
        if len(self.classes) > 1:
            names = np.array([task.class_name for task in tasks])[:, np.newaxis]
            rows = np.concatenate([rows, names == np.array(self.classes)], 1)
        return torch.from_numpy(np.clip(rows, -CLIP, CLIP))


def observed(task: Task) -> tuple[tuple[str, float], ...]:
    """Return what an oracle observes about the task, before scaling."""
    return task.description or task.params


def _raw(task: Task, keys: tuple[str, ...]) -> Float[np.ndarray, " P"]:
    """Return the parameters in order, an angle as its cosine and sine.

    A parameter that the task lacks counts as 0.
    """
    values = dict(observed(task))
    row: list[float] = []
    for key in keys:
        value = values.get(key, 0.0)
        row += [np.cos(value), np.sin(value)] if key == "angle" else [value]
    return np.array(row)
