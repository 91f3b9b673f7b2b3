"""The linear recurrence x_t = a_t x_(t-1) + b_t over time, with resets inside (arXiv 2303.03982).

Two methods, equal up to rounding in value and in every order of derivative:

- ``loop``: T steps, the least work, compiled on CPUs (``policies.fused.scan``).
- ``doubling``: log2 T passes over the whole sequence (Hillis and Steele 1986): more work in far
  fewer operations, for GPUs and long sequences.

The decay a_t is the same at every step, or differs from step to step (arXiv 2312.00752).

Layout: N tasks, T time, B sequences, S state; everything is ``[N, T, B, S]``.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from policies.fused.scan import differentiable_loop

Method = Literal["auto", "loop", "doubling"]
METHODS: tuple[str, ...] = get_args(Method)


def scan(a: Tensor, b: Tensor, first: Tensor, initial: Tensor, method: str = "auto") -> Tensor:
    """Return every ``x_t``, ``[N, T, B, S]``.

    Args:
        a: decay, ``[N, 1, 1, S]`` for the same at every step, or ``[N, T, B, S]``.
        b: inputs, ``[N, T, B, S]``.
        first: ``[N, T, B]``; where set, ``x_(t-1)`` counts as zero.
        initial: the state before the first step, ``[N, B, S]``.
        method: ``auto`` uses the loop on CPUs and doubling elsewhere.

    Raises:
        ValueError: unknown ``method``.
    """
    if method not in METHODS:
        raise ValueError(f"unknown scan method {method!r}; choose from: {', '.join(METHODS)}")
    keep = None
    if first.any():
        keep = (~first).unsqueeze(-1).to(b.dtype)
        initial = initial.masked_fill(first[:, 0].unsqueeze(-1), 0.0)
    if method == "loop" or (method == "auto" and b.device.type == "cpu"):
        return differentiable_loop(a, b, keep, initial)
    return _doubling(a, b, keep, initial)


def _doubling(a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor) -> Tensor:
    steps = b.shape[1]
    start = torch.addcmul(b[:, :1], a[:, :1], initial.unsqueeze(1))
    b = torch.cat([start, b[:, 1:]], dim=1)
    decay = a.expand(-1, steps, -1 if keep is None else b.shape[2], -1)
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
