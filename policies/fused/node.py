"""A whole sequence as one autograd node with a hand-written backward pass.

Its gradient is differentiable too: when autograd asks for a graph (``create_graph``), the node
re-runs the reference implementation and lets torch differentiate that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from policies.fused.compiled import compiles

Tensors = tuple[Tensor, ...]


class Recurrence(NamedTuple):
    """Two implementations of one function of tensors."""

    reference: Callable[..., Tensors]
    """Inputs to outputs, in differentiable torch operations."""
    forward_fused: Callable[..., tuple[Tensors, Tensors]]
    """Inputs to the same outputs and the tensors saved for ``vjp``; it records no graph."""
    vjp: Callable[[Tensors, Tensors, Tensors], tuple[Tensor | None, ...]]
    """Inputs, saved tensors and output gradients to input gradients; it records no graph."""


def as_node(recurrence: Recurrence, *inputs: Tensor) -> Tensors:
    """Return the outputs of ``recurrence``: fast to differentiate once, correct to any order.

    Devices and dtypes that are not compiled for use the reference implementation.
    """
    if not compiles(*(part for part in inputs if part.is_floating_point())):
        return recurrence.reference(*inputs)
    if not torch.is_grad_enabled() or not any(part.requires_grad for part in inputs):
        return recurrence.forward_fused(*inputs)[0]
    outputs: Tensors = _Node.apply(recurrence, *inputs)  # type: ignore[no-untyped-call]
    return outputs


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recurrence: Recurrence, *inputs: Tensor) -> Tensors:
        outputs, saved = recurrence.forward_fused(*inputs)
        ctx.recurrence, ctx.count = recurrence, len(inputs)
        ctx.save_for_backward(*inputs, *saved)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, saved = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        if not torch.is_grad_enabled():
            return None, *ctx.recurrence.vjp(inputs, saved, gradients)
        # Views, so that a tensor passed twice gets a separate gradient for each position.
        views = [part.view_as(part) for part in inputs]
        outputs = ctx.recurrence.reference(*views)
        computed = torch.autograd.grad(
            outputs,
            [view for view in views if view.requires_grad],
            gradients,
            create_graph=True,
            allow_unused=True,
        )
        remaining = iter(computed)
        return None, *(next(remaining) if view.requires_grad else None for view in views)
