"""MAML for supervised tasks, including sequences, on any torch module.

    theta_i = theta - inner_lr * grad L_support_i(theta)
    theta <- Adam(theta, grad mean_i L_query_i(theta_i))

(arXiv 1703.03400, algorithm 2.) Second order differentiates through theta_i; first order takes the
query gradient at theta_i itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.meta.adapters.gradient import GradientAdapter
from harness.toolkit import stateful
from harness.toolkit.adaptation import LossFn
from harness.toolkit.stateful import Hidden
from policies.base import Params
from policies.params import clone

SupervisedTask = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support inputs and targets, query inputs and targets; each ``[B, ...]`` or ``[B, T, ...]``."""


class MetaMAML:
    """Learns initial parameters of ``model`` that adapt to a task in a few gradient steps.

    Args:
        model: any module. One with hidden state is called as ``model(x, hidden)`` and returns
            ``(output, ..., next_hidden)``.
        inner_lr: step size of the inner gradient steps.
        outer_lr: step size of Adam on the initial parameters.
        first_order: ignore second derivatives.
        inner_steps: gradient steps per task.

    Raises:
        ValueError: ``inner_steps`` is below 1.
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
            raise ValueError(f"inner_steps is {inner_steps}; it must be at least 1")
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
        """Take one outer step; return the mean query loss after adaptation, before that step.

        Args:
            tasks: support and query data of each task.
            initial_hidden_state: hidden state before every sequence; the model's initial one if
                None. It may have one row per sequence of all tasks (see ``stateful.share``).
            loss_fn: loss of output and target.

        Raises:
            ValueError: there are no tasks, or the rows of the hidden state do not fit them.
            FloatingPointError: the loss or its gradient is not finite; the model is unchanged.
        """
        if not tasks:
            raise ValueError("meta_update needs at least one task")
        sizes = [(len(sx), len(qx)) for sx, _, qx, _ in tasks]
        hidden_states = stateful.share(self.model, initial_hidden_state, sizes)
        order = 1 if self.first_order else 2
        self.optimizer.zero_grad()
        total = 0.0
        for (sx, sy, qx, qy), (support_hidden, query_hidden) in zip(
            tasks, hidden_states, strict=True
        ):
            support_loss = self._loss(sx, sy, support_hidden, loss_fn)
            adapted = self._inner_steps(support_loss, self._tensors(), self.inner_steps, order)
            loss = self._loss(qx, qy, query_hidden, loss_fn)(adapted) / len(tasks)
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
        """Return parameters adapted to a task; the model itself is unchanged.

        Args:
            support_x: inputs.
            support_y: targets.
            initial_hidden_state: hidden state before every sequence; the initial one if None.
            loss_fn: loss of output and target.
            num_steps: gradient steps; ``inner_steps`` if None.

        Raises:
            FloatingPointError: an adapted parameter is not finite.
        """
        size = len(support_x)
        ((hidden, _),) = stateful.share(self.model, initial_hidden_state, [(size, size)])
        return self.minimize(self._loss(support_x, support_y, hidden, loss_fn), num_steps)

    def minimize(
        self,
        loss: Callable[[Params], Tensor],
        num_steps: int | None = None,
        start: Params | None = None,
    ) -> Params:
        """Return parameters after inner steps on ``loss``; the model itself is unchanged.

        Args:
            loss: scalar loss as a function of parameters and buffers.
            num_steps: gradient steps; ``inner_steps`` if None.
            start: result of an earlier adaptation to continue from; the model's own if None.

        Raises:
            FloatingPointError: an adapted parameter is not finite.
        """
        num_steps = self.inner_steps if num_steps is None else num_steps
        adapted = self._inner_steps(
            loss, self._tensors() if start is None else start, num_steps, order=0
        )
        if not all(bool(value.isfinite().all()) for value in adapted.values()):
            raise FloatingPointError("adapted parameters are not finite. Lower inner_lr")
        return {name: value.detach() for name, value in adapted.items()}

    def functional_forward(
        self, x: Tensor, hidden_state: Hidden = None, params: Params | None = None
    ) -> tuple[Any, Hidden]:
        """Return output and next hidden state under ``params``, or the model's own if None."""
        return stateful.call(self.model, x, hidden_state, params)

    def _loss(self, x: Tensor, y: Tensor, hidden: Hidden, fn: LossFn) -> Callable[[Params], Tensor]:
        return lambda tensors: fn(stateful.call(self.model, x, hidden, tensors)[0], y)

    def _tensors(self) -> Params:
        """Return the parameters and copies of the buffers, which adaptation may change."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        return dict(self.model.named_parameters()) | buffers

    def _inner_steps(
        self, loss: Callable[[Params], Tensor], tensors: Params, num_steps: int, order: int
    ) -> Params:
        """Return ``tensors`` after inner steps, differentiable as ``GradientAdapter.step`` says."""
        names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        adapter = GradientAdapter(self.inner_lr)
        for _ in range(num_steps):
            params = {name: tensors[name] for name in names}
            if order == 0:
                params = clone(params, requires_grad=True)
            params = adapter.step(params, loss(tensors | params).reshape(1), order=order)
            tensors = tensors | params
        return tensors
