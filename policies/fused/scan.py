"""The linear recurrence of ``policies.scan`` as a loop over time: one autograd node, compiled.

The gradient of the loop is the same loop run backwards in time,
``g_t = dL/dx_t + a_(t+1) g_(t+1)``, so the node differentiates itself to any order.

On CPUs ``numba`` compiles the loop once and caches it on disk. A step is a product and a sum,
rounded separately, so the bits of an element depend neither on its neighbours nor on the processor.

Letters as in ``policies.scan``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from policies.fused.compiled import arrays, compiled, compiles


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
        start = grad_initial = None
        if initial is not None:
            link = g[:, 0] if keep is None else g[:, 0] * keep[:, 0]
            start, grad_initial = link * initial, link * a[:, 0]
        return _sum_like(a, products, start), g, None, grad_initial, None


def _sum_like(a: Tensor, products: Tensor, start: Tensor | None) -> Tensor:
    """Return the gradient of ``a`` from those at all steps but the first, and at the first."""
    if _varies(a):
        start = torch.zeros_like(a[:, 0]) if start is None else start
        return torch.cat([start.unsqueeze(1), products], dim=1)
    total = products.sum(dim=(1, 2), keepdim=True)
    return total if start is None else total + start.sum(dim=1, keepdim=True).unsqueeze(1)


def _varies(a: Tensor) -> bool:
    """Return whether the decay is one per step and sequence."""
    return a.shape[1] > 1 or a.shape[2] > 1


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

    Forward: x_t = a_t k_t x_(t-1) + b_t. Reverse: x_t = a_(t+1) k_(t+1) x_(t+1) + b_t, from zero.

    Args:
        a: decay, ``[N, 1, 1, S]`` or ``[N, T, B, S]``.
        b: inputs, ``[N, T, B, S]``.
        keep: k, ones and zeros ``[N, T, B, 1]``; None means all ones.
        initial: x before the first step, ``[N, B, S]``; None means zero, as always in reverse.
        reverse: whether time runs backwards.
        x: the output, contiguous ``[N, T, B, S]``; it may be b.
    """
    outputs, inputs = x.unbind(1), b.unbind(1)
    length = len(inputs)
    decays = a.expand(-1, length, -1, -1).unbind(1)
    previous = initial
    for index in range(length):
        t = length - 1 - index if reverse else index
        if previous is None:
            outputs[t].copy_(inputs[t])
        else:
            link = t + 1 if reverse else t
            if keep is not None:
                previous = previous.masked_fill(keep[:, link] == 0, 0.0)
            torch.addcmul(inputs[t], decays[link], previous, out=outputs[t])
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
    resets = no_resets if keep is None else keep
    if x.data_ptr() != b.data_ptr():
        x.copy_(b)
    if _varies(a):
        decays = a.expand(tasks, length, batch, state)
        _varying_loop(*arrays(decays, resets, start), keep is not None, reverse, x.numpy())
        return x
    fixed = arrays(a.expand(tasks, 1, 1, state)[:, 0, 0], resets, start)
    _loop(*fixed, keep is not None, reverse, x.numpy())
    return x


def _steps(a: Any, keep: Any, initial: Any, resets: bool, reverse: bool, x: Any) -> None:
    """Turn inputs x into states, in place: in this form the compiler vectorises the inner loop."""
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


def _varying_steps(a: Any, keep: Any, initial: Any, resets: bool, reverse: bool, x: Any) -> None:
    """The same for a decay ``[N, T, B, S]``."""
    tasks, length, batch, state = x.shape
    for n in range(tasks):
        for step in range(length):
            t = length - 1 - step if reverse else step
            link = t + 1 if reverse else t
            if link == length:
                continue
            for i in range(batch):
                if resets and not keep[n, link, i]:
                    continue
                outputs, decay = x[n, t, i], a[n, link, i]
                if step:
                    previous = x[n, t + 1, i] if reverse else x[n, t - 1, i]
                else:
                    previous = initial[n, i]
                for s in range(state):
                    outputs[s] += decay[s] * previous[s]


_loop = compiled(_steps)
_varying_loop = compiled(_varying_steps)
