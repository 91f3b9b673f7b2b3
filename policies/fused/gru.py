"""The recurrence of ``policies.gru``, forward and backward by hand, in compiled loops over time.

    gates           W u + b, the part of r, z and n that does not depend on h    [N, T, B, 3 H]
    activated       r, z and n themselves                                        [N, T, B, 3 H]
    candidates      U_n h + c_n, what r multiplies                               [N, T, B, H]
    before, after   h before and after every step                                [N, T, B, H]
    to_x            gradient of the loss in x

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
    unrolled = _unroll(*arrays(first, gates, weight, bias, h))
    activated, candidates, before, after = map(torch.from_numpy, unrolled)
    return (after, after[:, -1].clone()), (activated, candidates, before)


def step(
    gates: np.ndarray, first: np.ndarray, parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Return h ``[N, B, H]`` after one step.

    Args:
        gates: ``[N, B, 3 H]``.
        first: ``[N, B]``.
        parts: weight, bias ``[N, 1, H]`` and h before the step, as in ``policies.gru.unroll``.
    """
    return (_unroll(first[:, None], gates[:, None], *parts)[-1][:, 0],)


def _unroll(
    first: np.ndarray, gates: np.ndarray, weight: np.ndarray, bias: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return activated, candidates, before and after."""
    states = (np.empty((*gates.shape[:-1], h.shape[-1]), h.dtype) for _ in range(3))
    out = np.empty(gates.shape, h.dtype), *states
    _forward(first, gates, weight, bias[:, 0], h, *out)
    return out


def vjp(inputs: Tensors, saved: Tensors, gradients: Tensors) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of ``forward_fused`` from those of its outputs."""
    first, _, weight, _, _ = inputs
    activated, candidates, before = saved
    to_gates, to_recurrent = (torch.empty_like(activated) for _ in range(2))
    to_h = gradients[1].clone(memory_format=torch.contiguous_format)
    fixed = first, weight.mT, activated, candidates, before, gradients[0]
    _backward(*arrays(*fixed), *arrays(to_gates, to_recurrent, to_h))
    to_recurrent, before = to_recurrent.flatten(1, 2), before.flatten(1, 2)
    to_bias = to_recurrent[..., -to_h.shape[-1] :].sum(1, keepdim=True)
    return None, to_gates, torch.bmm(before.mT, to_recurrent), to_bias, to_h


def _steps(
    first: Any,
    gates: Any,
    weight: Any,
    bias: Any,
    start: Any,
    activated: Any,
    candidates: Any,
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
                inputs, product, opened = gates[k, t, i], recurrent[i], activated[k, t, i]
                for j in range(2 * hidden):
                    opened[j] = sigmoid(inputs[j] + product[j])
                r, z, n = opened[:hidden], opened[hidden : 2 * hidden], opened[2 * hidden :]
                inputs, product, candidate = (
                    inputs[2 * hidden :],
                    product[2 * hidden :],
                    candidates[k, t, i],
                )
                for j in range(hidden):
                    candidate[j] = product[j] + bias[k, j]
                for j in range(hidden):
                    product[j] = inputs[j] + r[j] * candidate[j]
                for j in range(hidden):
                    n[j] = tanh(product[j])
                old, new = before[k, t, i], after[k, t, i]
                for j in range(hidden):
                    new[j] = n[j] + z[j] * (old[j] - n[j])
            h = after[k, t]


def _steps_back(
    first: Any,
    weight: Any,
    activated: Any,
    candidates: Any,
    before: Any,
    to_after: Any,
    to_gates: Any,
    to_recurrent: Any,
    to_h: Any,
) -> None:
    """``to_h`` starts as the gradient of the last state and ends as that of the first one."""
    tasks, steps, batch, hidden = before.shape
    one = before.dtype.type(1)
    carried = np.empty((batch, hidden), before.dtype)
    for k in range(tasks):
        for t in range(steps - 1, -1, -1):
            for i in range(batch):
                opened, candidate, old = activated[k, t, i], candidates[k, t, i], before[k, t, i]
                r, z, n = opened[:hidden], opened[hidden : 2 * hidden], opened[2 * hidden :]
                to_inputs, to_product = to_gates[k, t, i], to_recurrent[k, t, i]
                d, direct = to_h[k, i], to_after[k, t, i]
                for j in range(hidden):
                    d[j] += direct[j]
                to_r, to_z = to_inputs[:hidden], to_inputs[hidden : 2 * hidden]
                to_n = to_inputs[2 * hidden :]
                for j in range(hidden):
                    to_z[j] = d[j] * (old[j] - n[j]) * (z[j] * (one - z[j]))
                for j in range(hidden):
                    to_n[j] = d[j] * (one - z[j]) * (one - n[j] * n[j])
                for j in range(hidden):
                    to_r[j] = to_n[j] * candidate[j] * (r[j] * (one - r[j]))
                for j in range(2 * hidden):
                    to_product[j] = to_inputs[j]
                to_candidate = to_product[2 * hidden :]
                for j in range(hidden):
                    to_candidate[j] = to_n[j] * r[j]
                for j in range(hidden):
                    d[j] *= z[j]
            np.dot(to_recurrent[k, t], weight[k], carried)
            for i in range(batch):
                if first[k, t, i]:
                    to_h[k, i] = 0
                else:
                    to_h[k, i] += carried[i]


_forward = compiled(_steps)
_backward = compiled(_steps_back)
