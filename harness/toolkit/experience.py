"""Past data to adapt on beside the present."""

from __future__ import annotations

import random

import torch
from torch import Tensor


class ExperienceBuffer:
    """The last ``max_size`` pairs of observation and target, in a ring.

    Adding and sampling cost the size of the batch, whatever the size of the buffer.

    Args:
        max_size: pairs kept.
        device: where they are kept.
        seed: of the samples; drawn from torch's global generator if None.
    """

    def __init__(
        self, max_size: int = 10_000, device: str | torch.device = "cpu", seed: int | None = None
    ) -> None:
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}; it must be at least 1. Pass a larger one")
        self.max_size = max_size
        self.device = torch.device(device)
        self._random = random.Random(int(torch.randint(2**62, ())) if seed is None else seed)
        self._columns: tuple[Tensor, Tensor] | None = None
        self._size = self._next = 0

    def __len__(self) -> int:
        return self._size

    def add(self, observations: Tensor, targets: Tensor) -> None:
        """Append ``observations [n, ...]`` and ``targets [n, ...]``; the oldest make room.

        Raises:
            ValueError: their numbers differ, or their shapes are not those of what is kept.
        """
        if len(observations) != len(targets):
            raise ValueError(
                f"{len(observations)} observations and {len(targets)} targets; pass one target each"
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
                    f"an experience is {tuple(part.shape[1:])}; this buffer keeps "
                    f"{tuple(column.shape[1:])}. Use a buffer for each shape"
                )
        count = min(len(observations), self.max_size)
        rows = (self._next + torch.arange(count, device=self.device)) % self.max_size
        for part, column in zip(pair, self._columns, strict=True):
            column[rows] = part[len(part) - count :].to(self.device, column.dtype)
        self._next = (self._next + count) % self.max_size
        self._size = min(self._size + count, self.max_size)

    def get_batch(self, batch_size: int) -> tuple[Tensor, Tensor] | None:
        """Return ``batch_size`` different pairs at random, all if there are fewer, None if none."""
        if self._columns is None or not self._size:
            return None
        count = min(batch_size, self._size)
        rows = torch.tensor(self._random.sample(range(self._size), count), device=self.device)
        observations, targets = self._columns
        return observations[rows], targets[rows]
