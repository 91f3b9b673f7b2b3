"""What can be seen of a model's trouble at test time, without targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.toolkit.strategies import logits_of
from policies.heads import categorical_entropy


@dataclass(frozen=True, slots=True)
class MetaFeatures:
    """One batch as a few numbers."""

    entropy: float
    """Mean predictive entropy in nats."""
    confidence: float
    """Mean probability of the likeliest class."""
    variance: float
    """Mean of 1 - sum p^2: the variance of the predicted class's indicator."""
    feature_shift: float
    """Root mean square, over features, of how many running standard deviations the batch's mean is
    from the running mean; 0 at the first batch or without features."""


class FeatureMonitor:
    """Moving mean and variance of features, against which a batch is seen to have shifted."""

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._mean: Tensor | None = None
        self._square: Tensor | None = None

    @torch.no_grad()
    def observe(self, outputs: Any, features: Tensor | None) -> MetaFeatures:
        """Return the meta-features of a batch and take it into the running statistics.

        Args:
            outputs: of the model, with logits ``[..., classes]``.
            features: ``[..., F]``, or None.
        """
        logits = logits_of(outputs)
        probabilities = logits.softmax(-1)
        return MetaFeatures(
            entropy=categorical_entropy(logits).mean().item(),
            confidence=probabilities.amax(-1).mean().item(),
            variance=(1 - probabilities.square().sum(-1)).mean().item(),
            feature_shift=0.0 if features is None else self._shift(features),
        )

    def _shift(self, features: Tensor) -> float:
        flat = features.detach().reshape(-1, features.shape[-1])
        mean, square = flat.mean(0), flat.square().mean(0)
        if self._mean is None or self._square is None:
            self._mean, self._square = mean, square
            return 0.0
        variance = (self._square - self._mean.square()).clamp(min=1e-8)
        shift = ((mean - self._mean).square() / variance).mean().sqrt().item()
        self._mean = torch.lerp(mean, self._mean, self._momentum)
        self._square = torch.lerp(square, self._square, self._momentum)
        return shift
