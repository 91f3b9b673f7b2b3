"""A layer of ``policies.ssm``, forward and backward by hand, in compiled loops over time.

    v, scale    norm(u) = v, and what u was multiplied by        [N, R, H], [N, R]
    states      s after every step                               [N, R, S]
    sums        C s + D v, the argument of the gelu              [N, R, H]
    gates       sigmoid(W y + b)                                 [N, R, H]
    to_x        gradient of the loss in x

A few rows at a time go through the whole layer, so that they stay in the cache.

Letters: N tasks, B sequences per task, T time, R = T * B rows, time-major; H width, S state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policies.fused.compiled import arrays, compiled, dot, sigmoid, tanh
from policies.fused.node import Tensors

GELU = (0.7978845608028654, 0.044715)
"""sqrt(2 / pi) and the cubic coefficient of the tanh form of the gelu (arXiv 1606.08415)."""
ROWS = 128
"""Rows that go through the layer together, unless one step has more."""


class Modes(NamedTuple):
    """The variant of the layer."""

    center: bool
    """Whether the mean of u is subtracted."""
    normalize: bool
    """Whether u is divided by its root mean square."""
    residual: bool
    """Whether the layer adds to u."""


def forward_fused(
    modes: Modes, first: Tensor, u: Tensor, *parts: Tensor
) -> tuple[Tensors, Tensors]:
    """Return the outputs of ``policies.ssm.layer`` and the tensors saved for ``vjp``."""
    rows = first.flatten(1), u.flatten(1, 2)
    out, states, *saved = map(torch.from_numpy, _unroll(modes, *arrays(*rows, *parts)))
    last = states[:, -u.shape[2] :].clone()
    return (out.view(u.shape), last), (states, *saved)


def step(
    modes: Modes, u: np.ndarray, first: np.ndarray, parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the output ``[N, B, H]`` and the state ``[N, B, S]`` after one step.

    Args:
        modes: the variant of the layer.
        u: ``[N, B, H]``.
        first: ``[N, B]``.
        parts: from the state on, as in ``policies.ssm.layer``.
    """
    out, states, *_ = _unroll(modes, first, u, *parts)
    return out, states


def _unroll(
    modes: Modes, first: np.ndarray, u: np.ndarray, *parts: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return out, states, v, scale, sums and gates."""
    states = np.empty((*u.shape[:-1], parts[0].shape[-1]), u.dtype)
    out, v, sums, gates = (np.empty_like(u) for _ in range(4))
    results = out, states, v, np.empty(u.shape[:-1], u.dtype), sums, gates
    _forward(*modes, first, u, *parts, *results)
    return results


def vjp(
    modes: Modes, inputs: Tensors, saved: Tensors, gradients: Tensors
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of ``forward_fused`` from those of its outputs."""
    first, _, state, decay, gain, b, c, d, gate, _ = inputs
    to_u = torch.empty_like(gradients[0], memory_format=torch.contiguous_format)
    to_state = gradients[1].clone(memory_format=torch.contiguous_format)
    zeros = [torch.zeros_like(part, memory_format=torch.contiguous_format) for part in inputs[3:]]
    to_decay, _, to_b, *to_others = zeros
    rows = first.flatten(1), gradients[0].flatten(1, 2), state
    weights = decay, (b * gain).mT, c.mT, d, gate.mT
    results = to_u.flatten(1, 2), to_state, to_decay, to_b, *to_others
    _backward(*modes, *arrays(*rows, *weights, *saved), *arrays(*results))
    to_gain = (to_b * b).sum(1, keepdim=True)
    return None, to_u, to_state, to_decay, to_gain, to_b * gain, *to_others


def _steps(
    center: Any,
    normalize: Any,
    residual: Any,
    first: Any,
    u: Any,
    state: Any,
    decay: Any,
    gain: Any,
    b: Any,
    c: Any,
    d: Any,
    gate: Any,
    bias: Any,
    out: Any,
    states: Any,
    v: Any,
    scale: Any,
    sums: Any,
    gates: Any,
) -> None:
    tasks, length, width = u.shape
    batch, size, kind = state.shape[1], state.shape[2], u.dtype.type
    root, cubic = kind(GELU[0]), kind(GELU[1])
    one, half, small, count = kind(1), kind(0.5), kind(1e-6), kind(width)
    block = max(1, ROWS // batch) * batch
    y = np.empty((min(block, length), width), u.dtype)
    for n in range(tasks):
        a, g, through, shift = decay[n, 0], gain[n, 0], d[n, 0], bias[n, 0]
        for start in range(0, length, block):
            end = min(start + block, length)
            for r in range(start, end):
                row, source = v[n, r], u[n, r]
                mean, factor = kind(0), one
                if center:
                    mean = source.sum() / count
                for j in range(width):
                    row[j] = source[j] - mean
                if normalize:
                    factor = one / np.sqrt(dot(row, row) / count + small)
                    for j in range(width):
                        row[j] *= factor
                scale[n, r] = factor
            np.dot(v[n, start:end], b[n], states[n, start:end])
            for r in range(start, end):
                row = states[n, r]
                for s in range(size):
                    row[s] *= g[s]
                if first[n, r]:
                    continue
                before = states[n, r - batch] if r >= batch else state[n, r]
                for s in range(size):
                    row[s] += a[s] * before[s]
            np.dot(states[n, start:end], c[n], sums[n, start:end])
            for r in range(start, end):
                row, skip, after = sums[n, r], v[n, r], y[r - start]
                for j in range(width):
                    row[j] += skip[j] * through[j]
                for j in range(width):
                    x = row[j]
                    after[j] = half * x * (one + tanh(root * (x + cubic * x * x * x)))
            np.dot(y[: end - start], gate[n], gates[n, start:end])
            for r in range(start, end):
                row, after, target, source = gates[n, r], y[r - start], out[n, r], u[n, r]
                for j in range(width):
                    row[j] = sigmoid(row[j] + shift[j])
                for j in range(width):
                    target[j] = after[j] * row[j]
                if residual:
                    for j in range(width):
                        target[j] += source[j]


def _steps_back(
    center: Any,
    normalize: Any,
    residual: Any,
    first: Any,
    to_out: Any,
    state: Any,
    decay: Any,
    scaled_b: Any,
    c: Any,
    d: Any,
    gate: Any,
    states: Any,
    v: Any,
    scale: Any,
    sums: Any,
    gates: Any,
    to_u: Any,
    to_state: Any,
    to_decay: Any,
    to_b: Any,
    to_c: Any,
    to_d: Any,
    to_gate: Any,
    to_bias: Any,
) -> None:
    """Matrices are transposed; ``to_b`` is the gradient of B times the gain.

    ``to_state`` starts as the gradient of the last state and ends as that of the first one.
    """
    tasks, length, width = v.shape
    batch, size, kind = state.shape[1], state.shape[2], v.dtype.type
    root, cubic = kind(GELU[0]), kind(GELU[1])
    one, half, three, count = kind(1), kind(0.5), kind(3), kind(width)
    block = max(1, ROWS // batch) * batch
    y = np.empty((min(block, length), width), v.dtype)
    slopes, to_gates, to_sums = np.empty_like(y), np.empty_like(y), np.empty_like(y)
    to_states = np.empty((len(y), size), v.dtype)
    for n in range(tasks):
        a, through = decay[n, 0], d[n, 0]
        d_a, d_through, d_shift = to_decay[n, 0], to_d[n, 0], to_bias[n, 0]
        for end in range(length, 0, -block):
            start = max(0, end - block)
            rows = end - start
            for i in range(rows):
                x, g, d_out = sums[n, start + i], gates[n, start + i], to_out[n, start + i]
                after, slope, d_gate = y[i], slopes[i], to_gates[i]
                for j in range(width):
                    after[j] = one + tanh(root * (x[j] + cubic * x[j] * x[j] * x[j]))
                for j in range(width):
                    inner = root * x[j] * (one + three * cubic * x[j] * x[j])
                    slope[j] = half * after[j] * (one + (one + one - after[j]) * inner)
                    after[j] *= half * x[j]
                for j in range(width):
                    d_gate[j] = d_out[j] * after[j] * (g[j] * (one - g[j]))
                for j in range(width):
                    d_shift[j] += d_gate[j]
            _add_products(y[:rows], to_gates[:rows], to_gate[n])
            np.dot(to_gates[:rows], gate[n], to_sums[:rows])
            for i in range(rows):
                g, d_out, skip = gates[n, start + i], to_out[n, start + i], v[n, start + i]
                d_sum, slope = to_sums[i], slopes[i]
                for j in range(width):
                    d_sum[j] = (d_sum[j] + d_out[j] * g[j]) * slope[j]
                for j in range(width):
                    d_through[j] += d_sum[j] * skip[j]
            _add_products(states[n, start:end], to_sums[:rows], to_c[n])
            np.dot(to_sums[:rows], c[n], to_states[:rows])
            for i in range(rows - 1, -1, -1):
                r = start + i
                d_state, carried = to_states[i], to_state[n, r % batch]
                for s in range(size):
                    d_state[s] += carried[s]
                if first[n, r]:
                    for s in range(size):
                        carried[s] = 0
                    continue
                before = states[n, r - batch] if r >= batch else state[n, r]
                for s in range(size):
                    d_a[s] += d_state[s] * before[s]
                for s in range(size):
                    carried[s] = d_state[s] * a[s]
            _add_products(v[n, start:end], to_states[:rows], to_b[n])
            np.dot(to_states[:rows], scaled_b[n], to_gates[:rows])
            for i in range(rows):
                r = start + i
                d_v, d_sum, skip, target = to_gates[i], to_sums[i], v[n, r], to_u[n, r]
                for j in range(width):
                    d_v[j] += d_sum[j] * through[j]
                if normalize:
                    along, factor = dot(d_v, skip) / count, scale[n, r]
                    for j in range(width):
                        d_v[j] = factor * (d_v[j] - skip[j] * along)
                mean = kind(0)
                if center:
                    mean = d_v.sum() / count
                for j in range(width):
                    target[j] = d_v[j] - mean
                if residual:
                    d_out = to_out[n, r]
                    for j in range(width):
                        target[j] += d_out[j]


def _add_row_products(x: Any, y: Any, out: Any) -> None:
    """Add x^T y to ``out``."""
    products = np.dot(x.T, y)
    for i in range(out.shape[0]):
        total, product = out[i], products[i]
        for j in range(out.shape[1]):
            total[j] += product[j]


_add_products = compiled(_add_row_products)
_forward = compiled(_steps)
_backward = compiled(_steps_back)
