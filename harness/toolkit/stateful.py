"""Calling conventions for torch modules with or without hidden state.

A module with hidden state is called as ``module(x, hidden)`` and returns its output first and the
next hidden state last; one without is called as ``module(x)``. A hidden state is a tensor, or a
tuple or list of hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Hidden = Any
"""A tensor, a tuple or list of hidden states, or None."""


def initial_hidden(model: nn.Module, batch: int) -> Hidden:
    """Return ``model.init_hidden(batch)``, or None if the module has no such method."""
    init_hidden = getattr(model, "init_hidden", None)
    return None if init_hidden is None else init_hidden(batch)


def call(
    model: nn.Module, x: Tensor, hidden: Hidden, tensors: Mapping[str, Tensor] | None = None
) -> tuple[Any, Hidden]:
    """Return the output of ``model`` and its next hidden state.

    Args:
        model: called as described above.
        x: its input.
        hidden: its hidden state; not passed if None.
        tensors: parameters and buffers to use in place of the module's own.
    """
    return split(call_whole(model, x, hidden, tensors))


def call_whole(
    model: nn.Module, x: Tensor, hidden: Hidden, tensors: Mapping[str, Tensor] | None = None
) -> Any:
    """Return everything that ``model`` returns; arguments as for ``call``."""
    arguments = (x,) if hidden is None else (x, hidden)
    if tensors is None:
        return model(*arguments)
    return functional_call(model, dict(tensors), arguments)


def split(result: Any) -> tuple[Any, Hidden]:
    """Return output and next hidden state (or None) from the return value of a module."""
    if not isinstance(result, tuple):
        return result, None
    return result[0], result[-1]


def map_hidden(function: Callable[[Tensor], Tensor], hidden: Hidden) -> Hidden:
    """Return ``hidden`` with ``function`` applied to every tensor."""
    if hidden is None:
        return None
    if isinstance(hidden, Tensor):
        return function(hidden)
    return type(hidden)(map_hidden(function, part) for part in hidden)


def detach(hidden: Hidden) -> Hidden:
    """Return ``hidden`` detached from its graph."""
    return map_hidden(torch.Tensor.detach, hidden)


def share(
    model: nn.Module, hidden: Hidden, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Hidden, Hidden]]:
    """Return each task's hidden states before its support and its query data.

    The number of rows of ``hidden`` decides how they are shared. The first match applies:

    - the size of every batch: each batch starts from all rows;
    - one: every sequence starts from it;
    - the number of sequences of all tasks: they are distributed in order;
    - the number of tasks: each task's sequences start from its row.

    Args:
        model: the module the hidden state belongs to.
        hidden: rows to share; None gives initial hidden states.
        sizes: number of support and query sequences of each task.

    Raises:
        ValueError: the number of rows is none of these.
    """
    if hidden is None:
        return [(initial_hidden(model, a), initial_hidden(model, b)) for a, b in sizes]
    batch_dims = list(_batch_dims(model, hidden))
    num_rows = next(_leaves(hidden)).shape[batch_dims[0]]
    return [
        (_select(hidden, batch_dims, support), _select(hidden, batch_dims, query))
        for support, query in _rows_by_task(num_rows, sizes)
    ]


def _rows_by_task(
    num_rows: int, sizes: Sequence[tuple[int, int]]
) -> list[tuple[list[int], list[int]]]:
    if {num_rows} == {size for pair in sizes for size in pair}:
        return [(list(range(num_rows)), list(range(num_rows))) for _ in sizes]
    if num_rows == 1:
        return [([0] * a, [0] * b) for a, b in sizes]
    if num_rows == sum(a for a, _ in sizes) and all(a == b for a, b in sizes):
        rows = iter(range(num_rows))
        parts = [[next(rows) for _ in range(a)] for a, _ in sizes]
        return [(part, part) for part in parts]
    if num_rows == len(sizes):
        return [([task] * a, [task] * b) for task, (a, b) in enumerate(sizes)]
    raise ValueError(
        f"the hidden state has {num_rows} rows, but the tasks have (support, query) batches of "
        f"{list(sizes)}. Pass as many rows as every batch has, or one, or one per sequence of all "
        "tasks, or one per task"
    )


def _leaves(hidden: Hidden) -> Iterator[Tensor]:
    if isinstance(hidden, Tensor):
        yield hidden
    else:
        for part in hidden:
            yield from _leaves(part)


def _batch_dims(model: nn.Module, hidden: Hidden) -> Iterator[int]:
    """Yield the batch dimension of every tensor in ``hidden``."""
    if isinstance(model, nn.RNNBase):
        yield from (leaf.dim() - 2 for leaf in _leaves(hidden))
    elif hasattr(model, "init_hidden"):
        # The dimension in which the initial states of one and of two sequences differ.
        for one, two in zip(
            _leaves(initial_hidden(model, 1)), _leaves(initial_hidden(model, 2)), strict=True
        ):
            sizes = zip(one.shape, two.shape, strict=True)
            yield next(dim for dim, (a, b) in enumerate(sizes) if a != b)
    else:
        yield from (0 for _ in _leaves(hidden))


def _select(hidden: Hidden, batch_dims: Sequence[int], rows: list[int]) -> Hidden:
    dims = iter(batch_dims)

    def select(leaf: Tensor) -> Tensor:
        index = torch.tensor(rows, device=leaf.device)
        return leaf.detach().index_select(next(dims), index)

    return map_hidden(select, hidden)
