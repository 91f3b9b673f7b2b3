"""The linear recurrence of ``policies.scan`` as a loop over time: one autograd node, compiled.

The gradient of the loop is the same loop run backwards in time, ``g_t = dL/dx_t + a * g_(t+1)``, so
the node differentiates itself to any order.

On CPUs ``numba`` compiles the loop once and caches it on disk. A step is a product and a sum,
rounded separately, so the bits of an element depend neither on its neighbours nor on the processor.

Letters as in ``policies.scan``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from policies.fused.compiled import compiled, compiles


def differentiable_loop(a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor) -> Tensor:
    """Return all states, forward in time, as an autograd node; arguments as in ``torch_loop``."""
    states: Tensor = _Loop.apply(a, b, keep, initial, False)  # type: ignore[no-untyped-call]
    return states


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor | None, reverse: bool
    ) -> Tensor:
        x = run_loop(a, b, keep, initial, reverse)
        ctx.save_for_backward(a, x, keep, initial)
        ctx.reverse = reverse
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        a, x, keep, initial = ctx.saved_tensors
        g: Tensor = _Loop.apply(  # type: ignore[no-untyped-call]
            a, gradients[0], keep, None, not ctx.reverse
        )
        later, earlier = (x[:, 1:], g[:, :-1]) if ctx.reverse else (g[:, 1:], x[:, :-1])
        products = later * earlier if keep is None else later * earlier * keep[:, 1:]
        grad_a = products.sum(dim=(1, 2), keepdim=True)
        grad_initial = None
        if initial is not None:
            link = g[:, 0] if keep is None else g[:, 0] * keep[:, 0]
            grad_a = grad_a + (link * initial).sum(dim=1, keepdim=True).unsqueeze(1)
            grad_initial = link * a[:, 0]
        return grad_a, g, None, grad_initial, None


def run_loop(
    a: Tensor,
    b: Tensor,
    keep: Tensor | None,
    initial: Tensor | None,
    reverse: bool,
    out: Tensor | None = None,
) -> Tensor:
    """Return all states with the fastest loop available; it records no graph.

    They are written to ``out`` (contiguous, same shape as b, possibly b itself) if it is given.
    """
    x = torch.empty_like(b, memory_format=torch.contiguous_format) if out is None else out
    if compiles(b):
        return compiled_loop(a, b, keep, initial, reverse, x)
    return torch_loop(a, b, keep, initial, reverse, x)


def torch_loop(
    a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor | None, reverse: bool, x: Tensor
) -> Tensor:
    """Return all states, step by step, on any device.

    Forward: x_t = a k_t x_(t-1) + b_t. Reverse: x_t = a k_(t+1) x_(t+1) + b_t, from zero.

    Args:
        a: decay, ``[N, 1, 1, S]``.
        b: inputs, ``[N, T, B, S]``.
        keep: k, ones and zeros ``[N, T, B, 1]``; None means all ones.
        initial: x before the first step, ``[N, B, S]``; None means zero, as always in reverse.
        reverse: whether time runs backwards.
        x: the output, contiguous ``[N, T, B, S]``; it may be b.
    """
    decay, outputs, inputs = a[:, 0], x.unbind(1), b.unbind(1)
    length = len(inputs)
    previous = initial
    for index in range(length):
        t = length - 1 - index if reverse else index
        if previous is None:
            outputs[t].copy_(inputs[t])
        else:
            if keep is not None:
                previous = previous.masked_fill(keep[:, t + 1 if reverse else t] == 0, 0.0)
            torch.addcmul(inputs[t], decay, previous, out=outputs[t])
        previous = outputs[t]
    return x


def compiled_loop(
    a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor | None, reverse: bool, x: Tensor
) -> Tensor:
    """Return all states, on CPUs in float32 or float64; arguments as in ``torch_loop``."""
    tasks, length, batch, state = b.shape
    start = b.new_zeros(tasks, batch, state) if initial is None else initial.expand_as(b[:, 0])
    no_resets = torch.empty(0, 0, 0, dtype=torch.bool)
    if keep is not None:
        keep = keep.expand(tasks, length, batch, 1)[..., 0].bool()
    parts = (a.expand(tasks, 1, 1, state)[:, 0, 0], no_resets if keep is None else keep, start)
    arrays = [part.contiguous().numpy() for part in parts]
    if x.data_ptr() == b.data_ptr():
        _loop_in_place(*arrays, keep is not None, reverse, x.numpy())
    else:
        _loop(*arrays, b.contiguous().numpy(), keep is not None, reverse, x.numpy())
    return x


def _steps(a: Any, keep: Any, initial: Any, b: Any, resets: bool, reverse: bool, x: Any) -> None:
    tasks, length, batch, state = b.shape
    for n in range(tasks):
        decay = a[n]
        for step in range(length):
            t = length - 1 - step if reverse else step
            link = t + 1 if reverse else t
            inputs, outputs = b[n, t], x[n, t]
            previous = initial[n]
            if step:
                previous = x[n, t + 1] if reverse else x[n, t - 1]
            for i in range(batch):
                if resets and (link < length) and not keep[n, link, i]:
                    for s in range(state):
                        outputs[i, s] = inputs[i, s]
                else:
                    for s in range(state):
                        outputs[i, s] = inputs[i, s] + decay[s] * previous[i, s]


def _steps_in_place(a: Any, keep: Any, initial: Any, resets: bool, reverse: bool, x: Any) -> None:
    """The same where x is b; only in this form does the compiler vectorise the inner loop."""
    tasks, length, batch, state = x.shape
    for n in range(tasks):
        for step in range(length):
            t = length - 1 - step if reverse else step
            link = t + 1 if reverse else t
            for i in range(batch):
                if resets and (link < length) and not keep[n, link, i]:
                    continue
                outputs = x[n, t, i]
                if step:
                    previous = x[n, t + 1, i] if reverse else x[n, t - 1, i]
                else:
                    previous = initial[n, i]
                for s in range(state):
                    outputs[s] += a[n, s] * previous[s]


_loop = compiled(_steps)
_loop_in_place = compiled(_steps_in_place)
