"""The linear recurrence as one compiled loop: what ``policies.scan`` runs on CPUs.

``numba`` compiles it once and caches it on disk. A step is a product and a sum, each rounded by
itself, so its bits depend neither on the shapes around an element nor on the processor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from numba import njit
from torch import Tensor

DTYPES = (torch.float32, torch.float64)
"""What the loop is compiled for."""


def run(
    a: Tensor, b: Tensor, keep: Tensor | None, initial: Tensor | None, reverse: bool, x: Tensor
) -> Tensor:
    """Return the states of ``policies.scan.steps``, which says what the arguments are."""
    tasks, length, batch, state = b.shape
    start = b.new_zeros(tasks, batch, state) if initial is None else initial.expand_as(b[:, 0])
    kept = None if keep is None else keep.expand(tasks, length, batch, 1)[..., 0].bool()
    no_resets = torch.empty(0, 0, 0, dtype=torch.bool)
    arrays = (a.expand(tasks, 1, 1, state)[:, 0, 0], no_resets if kept is None else kept, start)
    shared = [array.contiguous().numpy() for array in arrays]
    if x.data_ptr() == b.data_ptr():
        _loop_in_place(*shared, kept is not None, reverse, x.numpy())
    else:
        _loop(*shared, b.contiguous().numpy(), kept is not None, reverse, x.numpy())
    return x


def _steps(a: Any, keep: Any, initial: Any, b: Any, resets: bool, reverse: bool, x: Any) -> None:
    tasks, length, batch, state = b.shape
    for n in range(tasks):
        decay = a[n]
        for step in range(length):
            t = length - 1 - step if reverse else step
            link = t + 1 if reverse else t
            inputs, outputs = b[n, t], x[n, t]
            previous = initial[n]
            if step:
                previous = x[n, t + 1] if reverse else x[n, t - 1]
            for i in range(batch):
                if resets and (link < length) and not keep[n, link, i]:
                    for s in range(state):
                        outputs[i, s] = inputs[i, s]
                else:
                    for s in range(state):
                        outputs[i, s] = inputs[i, s] + decay[s] * previous[i, s]


def _steps_in_place(a: Any, keep: Any, initial: Any, resets: bool, reverse: bool, x: Any) -> None:
    """The same where x is b: only so, and with an ``else``, the inner loop is made of vectors."""
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


def _compiled(steps: Callable[..., None]) -> Any:
    """Return a loop; compiled anew in every process where no cache can be written."""
    # Unwrapped: numba compiles no function that something else, a check of types, is around.
    function = inspect.unwrap(steps)
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # "no locator available": neither beside this file nor at home
        return njit(nogil=True, error_model="numpy")(function)


_loop = _compiled(_steps)
_loop_in_place = _compiled(_steps_in_place)
