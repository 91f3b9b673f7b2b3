"""``unbind`` and ``stack`` over time, each the gradient of the other.

The gradient of torch's own ``stack`` is one slice per step, and the gradient of each slice is as
long as the sequence: a second-order gradient would cost T squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def unbind(x: Tensor) -> tuple[Tensor, ...]:
    """Return the T steps ``[N, B, ...]`` of ``x [N, T, B, ...]``."""
    steps: tuple[Tensor, ...] = _Unbind.apply(x)  # type: ignore[no-untyped-call]
    return steps


def stack(steps: Sequence[Tensor]) -> Tensor:
    """Return ``[N, T, B, ...]`` from T steps ``[N, B, ...]``."""
    if len(steps) == 1:
        return steps[0].unsqueeze(1)
    x: Tensor = _Stack.apply(*steps)  # type: ignore[no-untyped-call]
    return x


class _Unbind(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        return x.unbind(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return stack(gradients)


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *steps: Tensor) -> Tensor:
        return torch.stack(steps, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return unbind(gradients[0])
