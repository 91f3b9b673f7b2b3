"""Helpers for ``Params``: count, cast, clone, repeat and select by task."""

from __future__ import annotations

import torch
from torch import Tensor

from policies.base import Params


def num_params(params: Params) -> int:
    """Return the number of parameters of one task, heads included."""
    return sum(value[0].numel() for value in params.values())


def cast(params: Params, like: Tensor | torch.dtype) -> Params:
    """Return ``params`` in the dtype (and on the device) of ``like``."""
    return {name: value.to(like) for name, value in params.items()}


def clone(params: Params, *, requires_grad: bool = False) -> Params:
    """Return a copy of ``params`` as new leaves, detached from any graph."""
    return {
        name: value.detach().clone().requires_grad_(requires_grad) for name, value in params.items()
    }


def repeat(params: Params, num_tasks: int) -> Params:
    """Return one set per task from shared ``params``, with gradients flowing back to them."""
    return {
        name: value.expand(num_tasks, *value.shape[1:]).contiguous()
        for name, value in params.items()
    }


def select(params: Params, tasks: slice) -> Params:
    """Return the parameters of some tasks; shared parameters stay shared."""
    return {name: value if value.shape[0] == 1 else value[tasks] for name, value in params.items()}
