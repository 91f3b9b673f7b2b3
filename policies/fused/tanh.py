"""tanh as a compiled loop; torch differentiates it to any order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from policies.fused.compiled import arrays, compiled, compiles
from policies.fused.compiled import tanh as scalar_tanh


def tanh(x: Tensor) -> Tensor:
    """Return tanh of ``x``; within 6e-7 of it in float32 on CPUs."""
    if not compiles(x):
        return torch.tanh(x)
    y: Tensor = _Tanh.apply(x)  # type: ignore[no-untyped-call]
    return y


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.empty(x.shape, dtype=x.dtype)
        _tanh(*arrays(x.flatten(), y.flatten()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.addcmul(gradients[0], gradients[0] * y, y, value=-1.0)


def _elementwise(x: Any, y: Any) -> None:
    for i in range(x.shape[0]):
        y[i] = scalar_tanh(x[i])


_tanh = compiled(_elementwise)
