"""A whole recurrence as one node of the graph, with one backward pass written by hand.

The gradient it returns can be differentiated again: asked for a graph (``create_graph``), the node
runs the plain recurrence once more and lets torch differentiate that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]


@runtime_checkable
class Recurrence(Protocol):
    """A recurrence in two spellings of the same thing."""

    @property
    def plain(self) -> Callable[..., Tensors]:
        """Inputs to outputs, by differentiable operations."""
        ...

    @property
    def run(self) -> Callable[..., tuple[Tensors, Tensors]]:
        """Inputs to outputs and what ``pull`` wants kept; no graph is recorded."""
        ...

    @property
    def pull(self) -> Callable[[Tensors, Tensors, Tensors], tuple[Tensor | None, ...]]:
        """Inputs, kept and the outputs' gradients to the inputs' gradients, without a graph."""
        ...


def as_node(recurrence: Recurrence, *inputs: Tensor) -> Tensors:
    """Return the outputs of ``recurrence``; cheap to differentiate once, right to any order."""
    if not torch.is_grad_enabled() or not any(part.requires_grad for part in inputs):
        return recurrence.run(*inputs)[0]
    outputs: Tensors = _Node.apply(recurrence, *inputs)  # type: ignore[no-untyped-call]
    return outputs


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recurrence: Recurrence, *inputs: Tensor) -> Tensors:
        outputs, kept = recurrence.run(*inputs)
        ctx.recurrence, ctx.count = recurrence, len(inputs)
        ctx.save_for_backward(*inputs, *kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, kept = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        if not torch.is_grad_enabled():
            return None, *ctx.recurrence.pull(inputs, kept, gradients)
        # Views, so that a tensor given twice gets a gradient for each of its places.
        views = [part.view_as(part) for part in inputs]
        outputs = ctx.recurrence.plain(*views)
        found = torch.autograd.grad(
            outputs,
            [view for view in views if view.requires_grad],
            gradients,
            create_graph=True,
            allow_unused=True,
        )
        each = iter(found)
        return None, *(next(each) if view.requires_grad else None for view in views)
