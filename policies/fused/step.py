"""One step of acting in compiled calls: the layers that every policy has.

Letters: M parameter sets and B rows per set, I inputs, O outputs. Nothing here records a graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policies.base import Params
from policies.fused.compiled import arrays, compiled, tanh


def dense(params: Params, name: str, x: np.ndarray) -> np.ndarray:
    """Return ``x [M, B, I]`` times ``name.weight [M, I, O]`` plus ``name.bias [M, 1, O]``."""
    out: np.ndarray = _dense(x, *weights(params, name))
    return out


def dense_tanh(params: Params, name: str, x: np.ndarray) -> np.ndarray:
    """Return tanh of ``dense``."""
    out: np.ndarray = _dense_tanh(x, *weights(params, name))
    return out


def weights(params: Params, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias of the linear map ``name`` as contiguous arrays."""
    return array(params, f"{name}.weight"), array(params, f"{name}.bias")


def array(params: Params, name: str) -> np.ndarray:
    """Return a parameter as a contiguous array."""
    return arrays(params[name])[0]


def _product_plus_bias(x: Any, weight: Any, bias: Any, out: Any) -> None:
    np.dot(x, weight, out)
    for b in range(out.shape[0]):
        row = out[b]
        for j in range(out.shape[1]):
            row[j] += bias[j]


_add_product = compiled(_product_plus_bias)


def _linear_layer(x: Any, weight: Any, bias: Any) -> Any:
    sets, rows, _ = x.shape
    out = np.empty((sets, rows, weight.shape[2]), x.dtype)
    for n in range(sets):
        _add_product(x[n], weight[n], bias[n, 0], out[n])
    return out


def _tanh_layer(x: Any, weight: Any, bias: Any) -> Any:
    sets, rows, _ = x.shape
    out = np.empty((sets, rows, weight.shape[2]), x.dtype)
    for n in range(sets):
        _add_product(x[n], weight[n], bias[n, 0], out[n])
        for b in range(rows):
            row = out[n, b]
            for j in range(row.shape[0]):
                row[j] = tanh(row[j])
    return out


_dense = compiled(_linear_layer)
_dense_tanh = compiled(_tanh_layer)
