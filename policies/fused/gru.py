"""The recurrence of ``policies.gru``, forward and backward by hand, in compiled loops over time.

Letters: N tasks, B sequences per task, T time, H hidden; gates in the order r, z, n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.fused.compiled import arrays, compiled, sigmoid, tanh
from policies.fused.node import Tensors


def forward_fused(
    first: Tensor, gates: Tensor, weight: Tensor, bias: Tensor, h: Tensor
) -> tuple[Tensors, Tensors]:
    """Return the outputs of ``policies.gru.unroll`` and the tensors saved for ``vjp``."""
    activated = torch.empty(gates.shape, dtype=gates.dtype)
    states = [gates.new_empty(*gates.shape[:-1], h.shape[-1]) for _ in range(3)]
    products, before, after = states
    _forward(*arrays(first, gates, weight, bias[:, 0], h), *arrays(activated, *states))
    return (after, after[:, -1].clone()), (activated, products, before)


def step(gates: np.ndarray, first: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return h ``[N, B, H]`` after one step.

    Args:
        gates: ``[N, B, 3 H]``.
        first: ``[N, B]``.
        parts: weight, bias ``[N, 1, H]`` and h before the step, as in ``policies.gru.unroll``.
    """
    weight, bias, h = parts
    tasks, batch, hidden = h.shape
    activated = np.empty((tasks, 1, batch, 3 * hidden), h.dtype)
    products, before, after = (np.empty((tasks, 1, batch, hidden), h.dtype) for _ in range(3))
    outputs = activated, products, before, after
    _forward(first[:, None], gates[:, None], weight, bias[:, 0], h, *outputs)
    return after[:, 0]


def vjp(inputs: Tensors, saved: Tensors, gradients: Tensors) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of ``forward_fused`` from those of its outputs."""
    first, _, weight, _, _ = inputs
    to_gates, recurrent = (torch.empty_like(saved[0]) for _ in range(2))
    to_h = gradients[1].clone(memory_format=torch.contiguous_format)
    fixed = first, weight.mT, *saved, gradients[0]
    _backward(*arrays(*fixed), *arrays(to_gates, recurrent, to_h))
    recurrent, before = recurrent.flatten(1, 2), saved[2].flatten(1, 2)
    to_bias = recurrent[..., -to_h.shape[-1] :].sum(1, keepdim=True)
    return None, to_gates, torch.bmm(before.mT, recurrent), to_bias, to_h


def _steps(
    first: Any,
    gates: Any,
    weight: Any,
    bias: Any,
    start: Any,
    activated: Any,
    products: Any,
    before: Any,
    after: Any,
) -> None:
    tasks, steps, batch, _ = gates.shape
    hidden = start.shape[-1]
    recurrent = np.empty((batch, 3 * hidden), gates.dtype)
    for k in range(tasks):
        h = start[k]
        for t in range(steps):
            for i in range(batch):
                if first[k, t, i]:
                    before[k, t, i] = 0
                else:
                    before[k, t, i] = h[i]
            np.dot(before[k, t], weight[k], recurrent)
            for i in range(batch):
                g, u, a = gates[k, t, i], recurrent[i], activated[k, t, i]
                for j in range(2 * hidden):
                    a[j] = sigmoid(g[j] + u[j])
                c, p = bias[k], products[k, t, i]
                g, u = g[2 * hidden :], u[2 * hidden :]
                for j in range(hidden):
                    p[j] = u[j] + c[j]
                r, z, n = a[:hidden], a[hidden : 2 * hidden], a[2 * hidden :]
                for j in range(hidden):
                    u[j] = g[j] + r[j] * p[j]
                for j in range(hidden):
                    n[j] = tanh(u[j])
                b, s = before[k, t, i], after[k, t, i]
                for j in range(hidden):
                    s[j] = n[j] + z[j] * (b[j] - n[j])
            h = after[k, t]


def _steps_back(
    first: Any,
    weight: Any,
    activated: Any,
    products: Any,
    before: Any,
    to_after: Any,
    to_gates: Any,
    recurrent: Any,
    to_h: Any,
) -> None:
    """``to_h`` starts as the gradient of the last state and ends as that of the first one."""
    tasks, steps, batch, hidden = before.shape
    one = before.dtype.type(1)
    carried = np.empty((batch, hidden), before.dtype)
    for k in range(tasks):
        for t in range(steps - 1, -1, -1):
            for i in range(batch):
                a, p, b = activated[k, t, i], products[k, t, i], before[k, t, i]
                r, z, n = a[:hidden], a[hidden : 2 * hidden], a[2 * hidden :]
                out, rec = to_gates[k, t, i], recurrent[k, t, i]
                d, g = to_h[k, i], to_after[k, t, i]
                for j in range(hidden):
                    d[j] += g[j]
                to_r, to_z, to_n = out[:hidden], out[hidden : 2 * hidden], out[2 * hidden :]
                for j in range(hidden):
                    to_z[j] = d[j] * (b[j] - n[j]) * (z[j] * (one - z[j]))
                for j in range(hidden):
                    to_n[j] = d[j] * (one - z[j]) * (one - n[j] * n[j])
                for j in range(hidden):
                    to_r[j] = to_n[j] * p[j] * (r[j] * (one - r[j]))
                for j in range(2 * hidden):
                    rec[j] = out[j]
                rec = rec[2 * hidden :]
                for j in range(hidden):
                    rec[j] = to_n[j] * r[j]
                for j in range(hidden):
                    d[j] *= z[j]
            np.dot(recurrent[k, t], weight[k], carried)
            for i in range(batch):
                if first[k, t, i]:
                    to_h[k, i] = 0
                else:
                    to_h[k, i] += carried[i]


_forward = compiled(_steps)
_backward = compiled(_steps_back)
