"""The recurrence of ``policies.lstm``, forward and backward by hand, in compiled loops over time.

    gates               W u + b                                       [N, T, B, 4 H]
    activated           i, f, o and g                                 [N, T, B, 4 H]
    h_before, h_after   h before and after every step; c the same     [N, T, B, H]
    cell_tanh           tanh(c')                                      [N, T, B, H]
    to_x                gradient of the loss in x

Letters: N tasks, B sequences per task, T time, H hidden; gates in the order i, f, o, g.
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
    first: Tensor, gates: Tensor, weight: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensors, Tensors]:
    """Return the outputs of ``policies.lstm.unroll`` and the tensors saved for ``vjp``."""
    unrolled = _unroll(*arrays(first, gates, weight, h, c))
    activated, h_before, c_before, cell_tanh, h_after, c_after = map(torch.from_numpy, unrolled)
    outputs = h_after, h_after[:, -1].clone(), c_after[:, -1].clone()
    return outputs, (activated, h_before, c_before, cell_tanh)


def step(
    gates: np.ndarray, first: np.ndarray, parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Return h and c ``[N, B, H]`` after one step.

    Args:
        gates: ``[N, B, 4 H]``.
        first: ``[N, B]``.
        parts: weight, h and c before the step, as in ``policies.lstm.unroll``.
    """
    *_, h, c = _unroll(first[:, None], gates[:, None], *parts)
    return h[:, 0], c[:, 0]


def _unroll(
    first: np.ndarray, gates: np.ndarray, weight: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return activated, h_before, c_before, cell_tanh, h_after and c_after."""
    states = (np.empty((*gates.shape[:-1], h.shape[-1]), h.dtype) for _ in range(5))
    out = np.empty(gates.shape, h.dtype), *states
    _forward(first, gates, weight, h, c, *out)
    return out


def vjp(inputs: Tensors, saved: Tensors, gradients: Tensors) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of ``forward_fused`` from those of its outputs."""
    first, _, weight, _, _ = inputs
    activated, h_before, c_before, cell_tanh = saved
    to_gates = torch.empty_like(activated)
    to_h, to_c = (part.clone(memory_format=torch.contiguous_format) for part in gradients[1:])
    fixed = first, weight.mT, activated, c_before, cell_tanh, gradients[0]
    _backward(*arrays(*fixed), *arrays(to_gates, to_h, to_c))
    to_weight = torch.bmm(h_before.flatten(1, 2).mT, to_gates.flatten(1, 2))
    return None, to_gates, to_weight, to_h, to_c


def _steps(
    first: Any,
    gates: Any,
    weight: Any,
    h: Any,
    c: Any,
    activated: Any,
    h_before: Any,
    c_before: Any,
    cell_tanh: Any,
    h_after: Any,
    c_after: Any,
) -> None:
    tasks, steps, batch, _ = gates.shape
    hidden = h.shape[-1]
    recurrent = np.empty((batch, 4 * hidden), gates.dtype)
    for n in range(tasks):
        last_h, last_c = h[n], c[n]
        for t in range(steps):
            for b in range(batch):
                if first[n, t, b]:
                    h_before[n, t, b] = 0
                    c_before[n, t, b] = 0
                else:
                    h_before[n, t, b] = last_h[b]
                    c_before[n, t, b] = last_c[b]
            last_h, last_c = h_after[n, t], c_after[n, t]
            np.dot(h_before[n, t], weight[n], recurrent)
            for b in range(batch):
                inputs, product, opened = gates[n, t, b], recurrent[b], activated[n, t, b]
                for j in range(3 * hidden):
                    opened[j] = sigmoid(inputs[j] + product[j])
                for j in range(3 * hidden, 4 * hidden):
                    opened[j] = tanh(inputs[j] + product[j])
                i, f = opened[:hidden], opened[hidden : 2 * hidden]
                o, g = opened[2 * hidden : 3 * hidden], opened[3 * hidden :]
                old, new = c_before[n, t, b], last_c[b]
                squashed, out = cell_tanh[n, t, b], last_h[b]
                for j in range(hidden):
                    new[j] = f[j] * old[j] + i[j] * g[j]
                for j in range(hidden):
                    squashed[j] = tanh(new[j])
                for j in range(hidden):
                    out[j] = o[j] * squashed[j]


def _steps_back(
    first: Any,
    weight: Any,
    activated: Any,
    c_before: Any,
    cell_tanh: Any,
    to_after: Any,
    to_gates: Any,
    to_h: Any,
    to_c: Any,
) -> None:
    """``to_h`` and ``to_c`` start as gradients of the last state and end as those of the first."""
    tasks, steps, batch, hidden = c_before.shape
    one = c_before.dtype.type(1)
    carried = np.empty((batch, hidden), c_before.dtype)
    for n in range(tasks):
        for t in range(steps - 1, -1, -1):
            for b in range(batch):
                opened, to_opened = activated[n, t, b], to_gates[n, t, b]
                i, f = opened[:hidden], opened[hidden : 2 * hidden]
                o, g = opened[2 * hidden : 3 * hidden], opened[3 * hidden :]
                to_i, to_f = to_opened[:hidden], to_opened[hidden : 2 * hidden]
                to_o, to_g = to_opened[2 * hidden : 3 * hidden], to_opened[3 * hidden :]
                squashed, old, direct = cell_tanh[n, t, b], c_before[n, t, b], to_after[n, t, b]
                dh, dc = to_h[n, b], to_c[n, b]
                for j in range(hidden):
                    dh[j] += direct[j]
                for j in range(hidden):
                    to_o[j] = dh[j] * squashed[j] * (o[j] * (one - o[j]))
                for j in range(hidden):
                    dc[j] += dh[j] * o[j] * (one - squashed[j] * squashed[j])
                for j in range(hidden):
                    to_i[j] = dc[j] * g[j] * (i[j] * (one - i[j]))
                for j in range(hidden):
                    to_g[j] = dc[j] * i[j] * (one - g[j] * g[j])
                for j in range(hidden):
                    to_f[j] = dc[j] * old[j] * (f[j] * (one - f[j]))
                for j in range(hidden):
                    dc[j] *= f[j]
            np.dot(to_gates[n, t], weight[n], carried)
            for b in range(batch):
                if first[n, t, b]:
                    to_h[n, b] = 0
                    to_c[n, b] = 0
                else:
                    to_h[n, b] = carried[b]


_forward = compiled(_steps)
_backward = compiled(_steps_back)
