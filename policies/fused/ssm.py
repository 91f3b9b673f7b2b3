"""One step of a layer of ``policies.ssm``, compiled.

Letters: M parameter sets, B rows per set, H width, S state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from policies.fused.compiled import compiled, sigmoid, tanh

GELU = (0.7978845608028654, 0.044715)
"""sqrt(2 / pi) and the cubic coefficient of the tanh form of the gelu (arXiv 1606.08415)."""


def step(
    u: np.ndarray,
    first: np.ndarray,
    state: np.ndarray,
    weights: Sequence[np.ndarray],
    modes: tuple[bool, bool, bool],
) -> tuple[np.ndarray, np.ndarray]:
    """Return features ``[M, B, H]`` and the state ``[M, B, S]`` after one step.

    Args:
        u: ``[M, B, H]``.
        first: ``[M, B]``; where set, the state counts as zero.
        state: before the step, ``[M, B, S]``.
        weights: log_a and log_dt ``[M, 1, S]``, B ``[M, H, S]``, C ``[M, S, H]``, D ``[M, 1, H]``,
            and the gate's weight ``[M, H, H]`` and bias ``[M, 1, H]``.
        modes: whether the mean of u is subtracted, whether u is divided by its root mean square,
            and whether the layer adds to u.
    """
    out, after = np.empty_like(u), np.empty_like(state)
    _layer(u, first, state, *weights, *modes, out, after)
    return out, after


def _layer_step(
    u: Any,
    first: Any,
    state: Any,
    log_a: Any,
    log_dt: Any,
    b: Any,
    c: Any,
    d: Any,
    gate: Any,
    bias: Any,
    center: Any,
    normalize: Any,
    residual: Any,
    out: Any,
    after: Any,
) -> None:
    sets, rows, width = u.shape
    kind = u.dtype.type
    root, cubic = kind(GELU[0]), kind(GELU[1])
    one, half, small, count = kind(1), kind(0.5), kind(1e-6), kind(width)
    v, y, gates = np.empty((rows, width), u.dtype), out[0].copy(), out[0].copy()
    a, g = np.empty(log_a.shape[-1], u.dtype), np.empty(log_a.shape[-1], u.dtype)
    for n in range(sets):
        for s in range(a.shape[0]):
            rate = math.exp(log_a[n, 0, s])
            exponent = -rate * math.exp(log_dt[n, 0, s])
            a[s], g[s] = math.exp(exponent), -math.expm1(exponent) / rate
        for r in range(rows):
            row, source = v[r], u[n, r]
            mean = kind(0)
            if center:
                for j in range(width):
                    mean += source[j]
                mean /= count
            scale = one
            if normalize:
                square = kind(0)
                for j in range(width):
                    square += (source[j] - mean) * (source[j] - mean)
                scale = one / np.sqrt(square / count + small)
            for j in range(width):
                row[j] = (source[j] - mean) * scale
        np.dot(v, b[n], after[n])
        for r in range(rows):
            row, before = after[n, r], state[n, r]
            if first[n, r]:
                for s in range(row.shape[0]):
                    row[s] *= g[s]
            else:
                for s in range(row.shape[0]):
                    row[s] = row[s] * g[s] + a[s] * before[s]
        np.dot(after[n], c[n], y)
        for r in range(rows):
            row, skip, through = y[r], v[r], d[n, 0]
            for j in range(width):
                row[j] += skip[j] * through[j]
            for j in range(width):
                x = row[j]
                row[j] = half * x * (one + tanh(root * (x + cubic * x * x * x)))
        np.dot(y, gate[n], gates)
        for r in range(rows):
            row, opening, shift, target, source = y[r], gates[r], bias[n, 0], out[n, r], u[n, r]
            for j in range(width):
                opening[j] = sigmoid(opening[j] + shift[j])
            if residual:
                for j in range(width):
                    target[j] = source[j] + row[j] * opening[j]
            else:
                for j in range(width):
                    target[j] = row[j] * opening[j]


_layer = compiled(_layer_step)
