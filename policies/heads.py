"""What a policy's output says of actions: a Gaussian over numbers, or a choice among a few.

An action is a row of A numbers either way; a choice is one-hot. ``PolicyOutput.head`` tells which
of the two an output is, by whether it brings a standard deviation.

Dimension letters as in ``policies.base``; E sequences that act at once, M is N or 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@runtime_checkable
class Head(Protocol):
    """A distribution over actions at every step."""

    def log_prob(self, actions: Float[Tensor, "N B T A"]) -> Float[Tensor, "N B T"]:
        """Return the log-density, or log-probability, of ``actions``."""
        ...

    def kl(self, new: Head) -> Float[Tensor, "N B T"]:
        """Return KL(self ‖ new) at each step."""
        ...

    def entropy(self, mask: Bool[Tensor, "N B T"]) -> Float[Tensor, " M"]:
        """Return the mean entropy over the masked steps of each task; 0 where it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normal numbers of state-independent spread."""

    mean: Float[Tensor, "N B T A"]
    log_std: Float[Tensor, "M 1 1 A"]

    def log_prob(self, actions: Float[Tensor, "N B T A"]) -> Float[Tensor, "N B T"]:
        """Return the log-density of ``actions``."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        log_norm = self.log_std.sum(-1) + 0.5 * LOG_2PI * actions.shape[-1]
        return -0.5 * z.square().sum(-1) - log_norm

    def kl(self, new: Head) -> Float[Tensor, "N B T"]:
        """Return KL(self ‖ new) at each step."""
        assert isinstance(new, Gaussian)
        variance_ratio = torch.exp(2 * (self.log_std - new.log_std))
        shift = ((self.mean - new.mean) * torch.exp(-new.log_std)).square()
        return 0.5 * (variance_ratio + shift - 1 - variance_ratio.log()).sum(-1)

    def entropy(self, mask: Bool[Tensor, "N B T"]) -> Float[Tensor, " M"]:
        """Return the entropy, the same at every step whatever the mask."""
        return (self.log_std + 0.5 * (1.0 + LOG_2PI)).sum((1, 2, 3))


@dataclass(frozen=True, slots=True)
class Categorical:
    """A choice of one of A actions."""

    logits: Float[Tensor, "N B T A"]

    @property
    def log_probs(self) -> Float[Tensor, "N B T A"]:
        """Log-probability of every action."""
        return torch.log_softmax(self.logits, -1)

    def log_prob(self, actions: Float[Tensor, "N B T A"]) -> Float[Tensor, "N B T"]:
        """Return the log-probability of the one-hot ``actions``."""
        return (self.log_probs * actions).sum(-1)

    def kl(self, new: Head) -> Float[Tensor, "N B T"]:
        """Return KL(self ‖ new) at each step."""
        assert isinstance(new, Categorical)
        log_probs = self.log_probs
        return (log_probs.exp() * (log_probs - new.log_probs)).sum(-1)

    def entropy(self, mask: Bool[Tensor, "N B T"]) -> Float[Tensor, " M"]:
        """Return the mean entropy over the masked steps of each task; 0 where it has none."""
        log_probs = self.log_probs
        each = -(log_probs.exp() * log_probs).sum(-1)
        return torch.where(mask, each, 0).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)


@runtime_checkable
class Sampler(Protocol):
    """Takes actions of a policy whose parameters stay as they are."""

    def mode(self, mean: Float[Tensor, "N E A"]) -> Float[np.ndarray, "N E A"]:
        """Return the likeliest actions."""
        ...

    def draw(
        self, mean: Float[Tensor, "N E A"], noise: Float[np.ndarray, "N E A"]
    ) -> tuple[Float[np.ndarray, "N E A"], Float[np.ndarray, "N E"]]:
        """Return the actions that ``noise`` leads to, and their log-probabilities."""
        ...


class GaussianSampler:
    """Adds ``noise``, standard normal, in units of the standard deviation."""

    def __init__(self, log_std: Float[Tensor, "M 1 1 A"]) -> None:
        width = log_std.shape[-1]
        log_std = log_std.reshape(-1, 1, width)
        self._std = log_std.exp()
        self._log_norm = (log_std.sum(-1) + 0.5 * LOG_2PI * width).numpy()

    def mode(self, mean: Float[Tensor, "N E A"]) -> Float[np.ndarray, "N E A"]:
        """Return the mean."""
        return mean.numpy()

    def draw(
        self, mean: Float[Tensor, "N E A"], noise: Float[np.ndarray, "N E A"]
    ) -> tuple[Float[np.ndarray, "N E A"], Float[np.ndarray, "N E"]]:
        """Return mean + std · noise and its log-density."""
        actions = torch.addcmul(mean, self._std, torch.from_numpy(noise).to(mean.dtype)).numpy()
        return actions, -0.5 * np.square(noise).sum(-1) - self._log_norm


class CategoricalSampler:
    """Takes the largest of logits + ``noise``, Gumbel distributed: a draw from the softmax.

    (The Gumbel-max trick, e.g. arXiv 1611.01144, eq. 1.) Logits that are not finite name no
    action: the row is NaN, which ends the episode as invalid.
    """

    def mode(self, mean: Float[Tensor, "N E A"]) -> Float[np.ndarray, "N E A"]:
        """Return the likeliest action, one-hot; the first of several."""
        return self._chosen(mean, mean).numpy()

    def draw(
        self, mean: Float[Tensor, "N E A"], noise: Float[np.ndarray, "N E A"]
    ) -> tuple[Float[np.ndarray, "N E A"], Float[np.ndarray, "N E"]]:
        """Return the actions, one-hot, and their log-probabilities."""
        actions = self._chosen(mean + torch.from_numpy(noise).to(mean.dtype), mean)
        return actions.numpy(), (torch.log_softmax(mean, -1) * actions).sum(-1).numpy()

    @staticmethod
    def _chosen(scores: Tensor, logits: Tensor) -> Tensor:
        """Return [N, E, A] one-hot at the largest score."""
        choice = torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)
        finite = logits.isfinite().all(-1, keepdim=True)
        return torch.where(finite, choice, torch.nan)


def sampler(log_std: Float[Tensor, "M 1 1 A"] | None) -> Sampler:
    """Return what acts; for discrete actions if there is no ``log_std``."""
    return CategoricalSampler() if log_std is None else GaussianSampler(log_std)


def noise(rng: np.random.Generator, shape: tuple[int, ...], *, discrete: bool) -> np.ndarray:
    """Draw what a ``Sampler`` takes as noise: Gumbel of discrete actions, else standard normal."""
    if discrete:
        return rng.gumbel(size=shape).astype(np.float32)
    return rng.standard_normal(shape, np.float32)
