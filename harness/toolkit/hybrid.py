"""Standard adaptation to current data, and hybrid adaptation with experience replay."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from harness.toolkit import stateful
from harness.toolkit.adaptation import AdaptationConfig, Adapter, LossFn


class ExperienceBuffer:
    """Ring buffer of the last ``max_size`` (observation, target) pairs.

    The cost of adding and sampling depends on the batch size, not on ``max_size``.

    Args:
        max_size: capacity in pairs.
        device: storage device.
        seed: of the sampling; drawn from torch's global generator if None.

    Raises:
        ValueError: ``max_size`` is below 1.
    """

    def __init__(
        self, max_size: int = 10_000, device: str | torch.device = "cpu", seed: int | None = None
    ) -> None:
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}; it must be at least 1")
        self.max_size = max_size
        self.device = torch.device(device)
        self._random = random.Random(int(torch.randint(2**62, ())) if seed is None else seed)
        self._columns: tuple[Tensor, Tensor] | None = None
        self._size = self._next = 0

    def __len__(self) -> int:
        return self._size

    def add(self, observations: Tensor, targets: Tensor) -> None:
        """Append ``observations [n, ...]`` and ``targets [n, ...]``, overwriting the oldest pairs.

        Raises:
            ValueError: the lengths differ, or the shapes differ from those already stored.
        """
        if len(observations) != len(targets):
            raise ValueError(
                f"{len(observations)} observations and {len(targets)} targets; pass as many of each"
            )
        pair = (observations.detach(), targets.detach())
        if self._columns is None:
            empty = [
                part.new_empty(self.max_size, *part.shape[1:]).to(self.device) for part in pair
            ]
            self._columns = (empty[0], empty[1])
        for part, column in zip(pair, self._columns, strict=True):
            if part.shape[1:] != column.shape[1:]:
                raise ValueError(
                    f"an experience has shape {tuple(part.shape[1:])}, but this buffer stores "
                    f"{tuple(column.shape[1:])}. Use one buffer per shape"
                )
        count = min(len(observations), self.max_size)
        rows = (self._next + torch.arange(count, device=self.device)) % self.max_size
        for part, column in zip(pair, self._columns, strict=True):
            column[rows] = part[len(part) - count :].to(self.device, column.dtype)
        self._next = (self._next + count) % self.max_size
        self._size = min(self._size + count, self.max_size)

    def get_batch(self, batch_size: int) -> tuple[Tensor, Tensor] | None:
        """Return up to ``batch_size`` distinct pairs at random, or None if the buffer is empty."""
        if self._columns is None or not self._size:
            return None
        count = min(batch_size, self._size)
        rows = torch.tensor(self._random.sample(range(self._size), count), device=self.device)
        observations, targets = self._columns
        return observations[rows], targets[rows]


class StandardAdapter(Adapter):
    """Adapts to current data only."""


class HybridAdapter(Adapter):
    """Adapts to current data and, with a smaller weight, to past experiences.

    loss = loss(current) + experience_weight * loss(experience_batch_size past experiences)

    Past experiences are independent sequences: a model with hidden state starts each from its
    initial state.
    """

    def __init__(
        self,
        model: nn.Module,
        config: AdaptationConfig | None = None,
        experience_buffer: ExperienceBuffer | None = None,
        device: str | torch.device = "cpu",
        loss_fn: LossFn = nn.functional.mse_loss,
    ) -> None:
        super().__init__(model, config, device, loss_fn=loss_fn)
        self.experience_buffer = (
            ExperienceBuffer(device=device) if experience_buffer is None else experience_buffer
        )

    def total_loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss on current data plus the weighted loss on a sample of past data."""
        current = self.loss_fn(output, y)
        past = self.experience_buffer.get_batch(self.config.experience_batch_size)
        if past is None:
            return current
        x_past, y_past = (part.to(self.device) for part in past)
        start = stateful.initial_hidden(self.model, len(x_past))
        output_past, _ = stateful.call(self.model, x_past, start)
        return current + self.config.experience_weight * self.loss_fn(output_past, y_past)
