"""The linear recurrence x_t = a * x_(t-1) + b_t over time, with resets inside (arXiv 2303.03982).

Two methods, equal to rounding in value and in every order of derivative:

- ``loop``: T steps, the least work, on CPUs compiled (``policies.scan_loop``). Its gradient is the
  same recurrence run backwards in time, ``g_t = dL/dx_t + a * g_(t+1)``, so it differentiates
  itself as often as is asked for.
- ``doubling``: log2 T rounds over the whole sequence (Hillis and Steele 1986), more work and far
  fewer steps: for GPUs and long sequences.

Layout: N tasks, T time, B sequences, S state; everything is ``[N, T, B, S]``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from policies import scan_loop

METHODS: tuple[str, ...] = ("auto", "loop", "doubling")


def scan(a: Tensor, b: Tensor, first: Tensor, initial: Tensor, method: str = "auto") -> Tensor:
    """Return every ``x_t``, ``[N, T, B, S]``.

    Args:
        a: decay, ``[N, 1, 1, S]``, the same at every step.
        b: inputs, ``[N, T, B, S]``.
        first: ``[N, T, B]``; where set, ``x_(t-1)`` counts as zero.
        initial: the state before the first step, ``[N, B, S]``.
        method: ``auto`` takes the loop on CPUs and doubling elsewhere.

    Raises:
        ValueError: unknown ``method``.
    """
    if method not in METHODS:
        raise ValueError(f"unknown scan method {method!r}; have: {', '.join(METHODS)}. Pick one")
    keep = None
    if first.any():
        keep = (~first).unsqueeze(-1).to(b.dtype)
        initial = initial.masked_fill(first[:, 0].unsqueeze(-1), 0.0)
    if method == "loop" or (method == "auto" and b.device.type == "cpu"):
        states: Tensor = _Recurrence.apply(a, b, keep, initial, False)  # type: ignore[no-untyped-call]
        return states
    return _doubling(a, b, keep, initial)


def _doubling(a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor) -> Tensor:
    steps = b.shape[1]
    start = torch.addcmul(b[:, :1], a, initial.unsqueeze(1))
    b = torch.cat([start, b[:, 1:]], dim=1)
    decay = a.expand(-1, steps, b.shape[2], -1) if keep is not None else a.expand(-1, steps, -1, -1)
    if keep is not None:
        decay = decay * keep
    shift = 1
    while shift < steps:
        b = torch.cat(
            [b[:, :shift], torch.addcmul(b[:, shift:], decay[:, shift:], b[:, :-shift])], dim=1
        )
        decay = torch.cat([decay[:, :shift], decay[:, shift:] * decay[:, :-shift]], dim=1)
        shift *= 2
    return b


class _Recurrence(torch.autograd.Function):
    """The loop, as one node of the graph whose gradient is itself in the other direction."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor | None, reverse: bool
    ) -> Tensor:
        x = recur(a, b, keep, initial, reverse)
        ctx.save_for_backward(a, x, keep, initial)
        ctx.reverse = reverse
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        a, x, keep, initial = ctx.saved_tensors
        g: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
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


def recur(
    a: Tensor,
    b: Tensor,
    keep: Tensor | None,
    initial: Tensor | None,
    reverse: bool,
    out: Tensor | None = None,
) -> Tensor:
    """Return what ``steps`` returns, as fast as can be; no graph is recorded.

    It is written to ``out``, contiguous as b and perhaps b itself, or else to memory of its own.
    """
    x = torch.empty_like(b, memory_format=torch.contiguous_format) if out is None else out
    if b.device.type == "cpu" and b.dtype in scan_loop.DTYPES:
        return scan_loop.run(a, b, keep, initial, reverse, x)
    return steps(a, b, keep, initial, reverse, x)


def steps(
    a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor | None, reverse: bool, x: Tensor
) -> Tensor:
    """Return all states, step by step.

    Forward: x_t = a k_t x_(t-1) + b_t. Reverse: x_t = a k_(t+1) x_(t+1) + b_t, from zero.

    Args:
        a: decay, ``[N, 1, 1, S]``.
        b: inputs, ``[N, T, B, S]``.
        keep: k, ones and zeros ``[N, T, B, 1]``; None is all ones.
        initial: x before the first step, ``[N, B, S]``; None is zero, as it is in reverse.
        reverse: whether time runs backwards.
        x: what is filled, contiguous ``[N, T, B, S]``; it may be b.
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
