"""Running observation statistics: updated by training, frozen while adapting and scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.types import Episodes

CLIP = 10.0


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sum and sum of squares of observations: workers report them, the learner adds them."""

    count: float
    total: Float[np.ndarray, " O"]
    square: Float[np.ndarray, " O"]

    @classmethod
    def zero(cls, obs_dim: int) -> Moments:
        """Return the moments of no observations."""
        return cls(0.0, np.zeros(obs_dim), np.zeros(obs_dim))

    @classmethod
    def of(cls, episodes: Episodes, seen_by: Normalizer) -> Moments:
        """Return the moments of the valid steps of ``episodes``, as they were seen.

        Values that ``seen_by`` clips count as clipped, once it has a scale: one object that a robot
        flings out of sight would otherwise hide all others from the policy.
        """
        obs = episodes.obs[episodes.mask].astype(np.float64)
        if seen_by.scales:
            mean, reach = seen_by.mean.double().numpy(), CLIP * seen_by.std.double().numpy()
            obs = obs.clip(mean - reach, mean + reach)
        return cls(float(len(obs)), obs.sum(0), (obs * obs).sum(0))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.total + other.total, self.square + other.square
        )

    def normalizer(self) -> Normalizer:
        """Return the scaling by these moments; the identity before any observation."""
        if self.count == 0:
            return Normalizer.identity(len(self.total))
        mean = self.total / self.count
        variance = np.maximum(self.square / self.count - mean * mean, 0.0)
        std = np.sqrt(variance) + 1e-2
        return Normalizer(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Affine scaling of observations, clipped to ±10."""

    mean: Float[Tensor, " O"]
    std: Float[Tensor, " O"]
    scales: bool = True
    """Whether it rests on observations; if not, it only clips."""

    @classmethod
    def identity(cls, obs_dim: int) -> Normalizer:
        """Return the normaliser that only clips."""
        return cls(torch.zeros(obs_dim), torch.ones(obs_dim), scales=False)

    def __call__(self, obs: Float[Tensor, "... O"]) -> Float[Tensor, "... O"]:
        """Return ``obs`` scaled and clipped."""
        return ((obs - self.mean) / self.std).clamp_(-CLIP, CLIP)
