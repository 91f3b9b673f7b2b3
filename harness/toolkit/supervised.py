"""MAML for supervised tasks, series included, on any torch module.

theta_i = theta - inner_lr * grad L_support_i(theta);  theta -= Adam(grad sum_i L_query_i(theta_i))

(arXiv 1703.03400, algorithm 2). Exact second order differentiates through theta_i; first order
takes the query gradient at theta_i itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.toolkit import stateful
from harness.toolkit.stateful import Hidden
from policies.base import Params

LossFn = Callable[[Tensor, Tensor], Tensor]
"""(output, target) -> a number."""
SupervisedTask = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support inputs and targets, query inputs and targets; each ``[B, ...]`` or ``[B, T, ...]``."""


class MetaMAML:
    """Learns the initial parameters of ``model`` from which a few gradient steps go far.

    Args:
        model: any module. With a hidden state, it is called ``model(x, hidden)`` and returns
            ``(output, ..., next_hidden)``.
        inner_lr: step size of the inner gradient steps.
        outer_lr: step size of Adam on the initial parameters.
        first_order: leave the second derivatives out.
        inner_steps: gradient steps per task.
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.01,
        outer_lr: float = 0.001,
        first_order: bool = False,
        inner_steps: int = 1,
    ) -> None:
        if inner_steps < 1:
            raise ValueError(
                f"inner_steps is {inner_steps}; it must be at least 1. Pass a larger one"
            )
        self.model = model
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.first_order = first_order
        self.optimizer = torch.optim.Adam(model.parameters(), lr=outer_lr)

    def meta_update(
        self,
        tasks: Sequence[SupervisedTask],
        initial_hidden_state: Hidden = None,
        loss_fn: LossFn = nn.functional.mse_loss,
    ) -> float:
        """Take one outer step; return the mean query loss after adaptation that it descended.

        Args:
            tasks: support and query data of each.
            initial_hidden_state: where every series starts; fresh if None. Its rows may be one per
                sequence of all tasks (see ``stateful.share``).
            loss_fn: of output and target.

        Raises:
            ValueError: no tasks, or the hidden state's rows fit none of them.
            FloatingPointError: a loss is not finite; the model is as it was.
        """
        if not tasks:
            raise ValueError("meta_update got no tasks; pass at least one")
        sizes = [(len(sx), len(qx)) for sx, _, qx, _ in tasks]
        starts = stateful.share(self.model, initial_hidden_state, sizes)
        order = 1 if self.first_order else 2
        self.optimizer.zero_grad()
        total = 0.0
        for (sx, sy, qx, qy), (before_support, before_query) in zip(tasks, starts, strict=True):
            support = _Series(sx, sy, before_support, loss_fn)
            fast = self._adapt(self._tensors(), support, self.inner_steps, order)
            loss = _Series(qx, qy, before_query, loss_fn).loss(self.model, fast) / len(tasks)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if not (math.isfinite(total) and all(bool(g.isfinite().all()) for g in gradients)):
            self.optimizer.zero_grad()
            raise FloatingPointError(
                f"query loss {total} or its gradient is not finite; no step was taken. "
                "Lower inner_lr or scale the data"
            )
        self.optimizer.step()
        return total

    def adapt_task(
        self,
        support_x: Tensor,
        support_y: Tensor,
        initial_hidden_state: Hidden = None,
        loss_fn: LossFn = nn.functional.mse_loss,
        num_steps: int | None = None,
    ) -> Params:
        """Return the parameters adapted to a task; those of the model stay.

        Args:
            support_x: inputs.
            support_y: targets.
            initial_hidden_state: where every series starts; fresh if None.
            loss_fn: of output and target.
            num_steps: gradient steps; ``inner_steps`` if None.

        Raises:
            FloatingPointError: an adapted parameter is not finite.
        """
        size = len(support_x)
        ((start, _),) = stateful.share(self.model, initial_hidden_state, [(size, size)])
        support = _Series(support_x, support_y, start, loss_fn)
        steps = self.inner_steps if num_steps is None else num_steps
        adapted = self._adapt(self._tensors(), support, steps, order=0)
        if not all(bool(value.isfinite().all()) for value in adapted.values()):
            raise FloatingPointError("adapted parameters are not finite. Lower inner_lr")
        return {name: value.detach() for name, value in adapted.items()}

    def functional_forward(
        self, x: Tensor, hidden_state: Hidden = None, params: Params | None = None
    ) -> tuple[Any, Hidden]:
        """Return output and next hidden state under ``params``, the model's own if None."""
        return stateful.call(self.model, x, hidden_state, params)

    def _tensors(self) -> Params:
        """Return parameters, and copies of buffers: what a task does to them ends with it."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        return dict(self.model.named_parameters()) | buffers

    def _adapt(self, tensors: Params, support: _Series, steps: int, order: int) -> Params:
        """Return ``tensors`` after inner steps, differentiable to ``order`` in what they were."""
        names = [name for name, value in tensors.items() if value.requires_grad]
        for _ in range(steps):
            old = [tensors[name] for name in names]
            gradients = torch.autograd.grad(
                support.loss(self.model, tensors), old, create_graph=order == 2, allow_unused=True
            )
            new = {
                name: value - self.inner_lr * gradient
                for name, value, gradient in zip(names, old, gradients, strict=True)
                if gradient is not None
            }
            if order == 0:
                new = {name: value.detach().requires_grad_() for name, value in new.items()}
            tensors = tensors | new
        return tensors


@dataclass(frozen=True, slots=True)
class _Series:
    """Data with targets, where its series start and what is lost on it."""

    x: Tensor
    y: Tensor
    hidden: Hidden
    loss_fn: LossFn

    def loss(self, model: nn.Module, tensors: Params) -> Tensor:
        output, _ = stateful.call(model, self.x, self.hidden, tensors)
        return self.loss_fn(output, self.y)
