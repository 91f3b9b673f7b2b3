"""Compilation of this package's loops, and the nonlinearities they share.

``numba`` compiles a loop at its first call and caches the result on disk. Array elements are of one
dtype, float32 or float64; literals would promote float32 to float64, so loops take their constants
from the dtype.

Matrix products are those of scipy's BLAS. They are small, one per time step, and threads would
make them many times slower: importing this module limits the process's BLAS to one thread.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  (numba's np.dot calls it)
import torch
from numba import njit, types
from numba.extending import overload
from threadpoolctl import ThreadpoolController
from torch import Tensor

ThreadpoolController().limit(limits=1, user_api="blas")

COMPILED_DTYPES = (torch.float32, torch.float64)
SATURATION = 7.6
"""Where the approximation of tanh becomes constant, 5e-7 from 1."""
NUMERATOR = (1.0, 0.134687304, 3.60092497e-3, 2.24084233e-5, 1.60311124e-8)
DENOMINATOR = (1.0, 0.468020588, 2.62745172e-2, 3.46045039e-4, 8.82935467e-7)
"""tanh(x) / x as a ratio of polynomials in x squared, lowest power first, fitted up to SATURATION
with a relative error of 4e-9."""


def compiled(function: Callable[..., Any], fastmath: Any = False) -> Any:
    """Return ``function`` compiled; each process compiles its own where no cache can be written."""
    # Unwrapped: numba cannot compile a function wrapped by a run-time type checker.
    function = inspect.unwrap(function)
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": neither beside this file nor at home
        return njit(**options)(function)


def compiles(*parts: Tensor) -> bool:
    """Return whether compiled loops can compute with ``parts``: on a CPU, all of one dtype."""
    dtype = parts[0].dtype
    return dtype in COMPILED_DTYPES and all(part.is_cpu and part.dtype == dtype for part in parts)


def arrays(*parts: Tensor) -> list[np.ndarray]:
    """Return ``parts`` as contiguous arrays, which share their memory if they are contiguous."""
    return [part.detach().contiguous().numpy() for part in parts]


def tanh(x: Any) -> Any:
    """Compute tanh inside a compiled loop; NaN stays NaN.

    In float32 it is a ratio of polynomials, which vectorises, within 6e-7 of the exact value.
    """
    return math.tanh(x)


def sigmoid(x: Any) -> Any:
    """Compute 1 / (1 + exp(-x)) inside a compiled loop, by ``tanh``."""
    return 0.5 + 0.5 * math.tanh(0.5 * x)


def _exact(x: Any) -> Any:
    return math.tanh(x)


@overload(tanh)  # type: ignore[untyped-decorator]
def _tanh(x: Any) -> Any:
    if x != types.float32:
        return inspect.unwrap(_exact)
    bound, one = np.float32(SATURATION), np.float32(1.0)
    p1, p2, p3, p4 = (np.float32(value) for value in NUMERATOR[1:])
    q1, q2, q3, q4 = (np.float32(value) for value in DENOMINATOR[1:])

    def rational(x: Any) -> Any:
        x = bound if x > bound else x
        x = -bound if x < -bound else x
        s = x * x
        above = x * ((((p4 * s + p3) * s + p2) * s + p1) * s + one)
        below = (((q4 * s + q3) * s + q2) * s + q1) * s + one
        return above / below

    return inspect.unwrap(rational)


@overload(sigmoid)  # type: ignore[untyped-decorator]
def _sigmoid(x: Any) -> Any:
    half = np.float32(0.5) if x == types.float32 else np.float64(0.5)

    def logistic(x: Any) -> Any:
        return half + half * tanh(half * x)

    return inspect.unwrap(logistic)


def _products(x: Any, y: Any) -> Any:
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


dot = compiled(_products, fastmath={"reassoc", "nsz"})
"""Inner product inside a compiled loop, summed in the order that vectorises."""
