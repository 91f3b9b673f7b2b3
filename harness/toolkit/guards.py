"""What keeps parameters from running away while they adapt: pure functions and their anchor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


def global_norm(tensors: Tensors) -> Tensor:
    """Return the 2-norm of all numbers of ``tensors`` together."""
    norms = torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors])
    total: Tensor = torch.linalg.vector_norm(norms)
    return total


def clip_gradients(gradients: Tensors, max_norm: float | None) -> tuple[list[Tensor], float]:
    """Return ``gradients`` scaled to a norm of at most ``max_norm``, and the norm they had."""
    norm = global_norm(gradients)
    if max_norm is None or norm <= max_norm:
        return list(gradients), norm.item()
    return [gradient * (max_norm / norm) for gradient in gradients], norm.item()


@torch.no_grad()
def bound_step(parameters: Tensors, before: Tensors, limit: float | None) -> None:
    """Pull every number of ``parameters`` back to within ``limit`` of where it was."""
    if limit is None:
        return
    for parameter, old in zip(parameters, before, strict=True):
        parameter.copy_(old + (parameter - old).clamp(-limit, limit))


class Anchor:
    """Where parameters are held: where they began, or their moving average.

    Args:
        parameters: copied; the anchor at first.
        ema_decay: what the average keeps at each step; None stays where it began.
        radius: parameters stay within it; None leaves them free.
    """

    def __init__(self, parameters: Tensors, ema_decay: float | None, radius: float | None) -> None:
        self.values = [parameter.detach().clone() for parameter in parameters]
        self._decay, self._radius = ema_decay, radius

    @torch.no_grad()
    def hold(self, parameters: Tensors) -> None:
        """Project ``parameters`` onto the ball around the anchor, then move the average."""
        if self._radius is not None:
            offsets = [p - value for p, value in zip(parameters, self.values, strict=True)]
            distance = global_norm(offsets)
            if distance > self._radius:
                for parameter, value, offset in zip(parameters, self.values, offsets, strict=True):
                    parameter.copy_(value + offset * (self._radius / distance))
        if self._decay is not None:
            for value, parameter in zip(self.values, parameters, strict=True):
                value.lerp_(parameter, 1 - self._decay)
