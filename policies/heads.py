"""Action distributions: diagonal Gaussian and categorical.

An action is a row of A numbers in both cases; a discrete one is one-hot.

Dimension letters as in ``policies.base``; E sequences acting at once, M is N or 1.
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


def gaussian_log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density ``[...]`` of ``actions [..., A]``; ``log_std`` may broadcast."""
    z = (actions - mean) * torch.exp(-log_std)
    return -0.5 * z.square().sum(-1) - gaussian_log_norm(log_std)


def gaussian_log_norm(log_std: Tensor) -> Tensor:
    """Return the log of the normalising constant, ``[...]`` for ``log_std [..., A]``."""
    return log_std.sum(-1) + 0.5 * LOG_2PI * log_std.shape[-1]


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Return the entropy in nats, ``[...]`` for ``log_std [..., A]``."""
    return (log_std + 0.5 * (1.0 + LOG_2PI)).sum(-1)


def categorical_entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats, ``[...]`` for ``logits [..., A]``."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


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
        """Return each task's mean entropy over the steps in ``mask``; 0 if it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normal variables with a state-independent standard deviation."""

    mean: Float[Tensor, "N B T A"]
    log_std: Float[Tensor, "M 1 1 A"]

    def log_prob(self, actions: Float[Tensor, "N B T A"]) -> Float[Tensor, "N B T"]:
        """Return the log-density of ``actions``."""
        return gaussian_log_prob(actions, self.mean, self.log_std)

    def kl(self, new: Head) -> Float[Tensor, "N B T"]:
        """Return KL(self ‖ new) at each step."""
        assert isinstance(new, Gaussian)
        variance_ratio = torch.exp(2 * (self.log_std - new.log_std))
        shift = ((self.mean - new.mean) * torch.exp(-new.log_std)).square()
        return 0.5 * (variance_ratio + shift - 1 - variance_ratio.log()).sum(-1)

    def entropy(self, mask: Bool[Tensor, "N B T"]) -> Float[Tensor, " M"]:
        """Return the entropy, which is the same at every step."""
        return gaussian_entropy(self.log_std).sum((1, 2))


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
        """Return each task's mean entropy over the steps in ``mask``; 0 if it has none."""
        total = torch.where(mask, categorical_entropy(self.logits), 0).sum((1, 2))
        return total / mask.sum((1, 2)).clamp(min=1)


@runtime_checkable
class Sampler(Protocol):
    """Draws actions, in numpy, from a policy whose parameters are fixed."""

    def mode(self, action_params: Float[Tensor, "N E A"]) -> Float[np.ndarray, "N E A"]:
        """Return the most likely actions."""
        ...

    def draw(
        self, action_params: Float[Tensor, "N E A"], noise: Float[np.ndarray, "N E A"]
    ) -> tuple[Float[np.ndarray, "N E A"], Float[np.ndarray, "N E"]]:
        """Return the actions that ``noise`` determines, and their log-probabilities."""
        ...


class GaussianSampler:
    """Adds ``noise``, standard normal, times the standard deviation."""

    def __init__(self, log_std: Float[Tensor, "M 1 1 A"]) -> None:
        log_std = log_std.detach().squeeze(2)
        self._std = log_std.exp().numpy()
        self._log_norm = gaussian_log_norm(log_std).numpy()

    def mode(self, action_params: Float[Tensor, "N E A"]) -> Float[np.ndarray, "N E A"]:
        """Return the mean."""
        return action_params.numpy()

    def draw(
        self, action_params: Float[Tensor, "N E A"], noise: Float[np.ndarray, "N E A"]
    ) -> tuple[Float[np.ndarray, "N E A"], Float[np.ndarray, "N E"]]:
        """Return mean + std · noise and its log-density."""
        actions = action_params.numpy() + self._std * noise
        return actions, -0.5 * np.square(noise).sum(-1) - self._log_norm


class CategoricalSampler:
    """Takes the action with the largest logit + ``noise``: a draw from the softmax.

    (The Gumbel-max trick, e.g. arXiv 1611.01144, eq. 1.) Logits that are not finite give no
    action: the row is NaN, which ends the episode as invalid.
    """

    def mode(self, action_params: Float[Tensor, "N E A"]) -> Float[np.ndarray, "N E A"]:
        """Return the most likely action, one-hot; the first of several."""
        return self._chosen(action_params, action_params).numpy()

    def draw(
        self, action_params: Float[Tensor, "N E A"], noise: Float[np.ndarray, "N E A"]
    ) -> tuple[Float[np.ndarray, "N E A"], Float[np.ndarray, "N E"]]:
        """Return the actions, one-hot, and their log-probabilities."""
        scores = action_params + torch.from_numpy(noise).to(action_params.dtype)
        actions = self._chosen(scores, action_params)
        return actions.numpy(), (torch.log_softmax(action_params, -1) * actions).sum(-1).numpy()

    @staticmethod
    def _chosen(scores: Tensor, logits: Tensor) -> Tensor:
        """Return [N, E, A], one-hot at the largest score."""
        choice = torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)
        finite = logits.isfinite().all(-1, keepdim=True)
        return torch.where(finite, choice, torch.nan)


def sampler(log_std: Float[Tensor, "M 1 1 A"] | None) -> Sampler:
    """Return the sampler for actions with ``log_std``; None for discrete actions."""
    return CategoricalSampler() if log_std is None else GaussianSampler(log_std)


def noise(rng: np.random.Generator, shape: tuple[int, ...], *, discrete: bool) -> np.ndarray:
    """Draw the noise for a ``Sampler``: Gumbel for discrete actions, else standard normal."""
    if discrete:
        return rng.gumbel(size=shape).astype(np.float32)
    return rng.standard_normal(shape, np.float32)
