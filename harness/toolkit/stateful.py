"""Calling any torch module, with or without a hidden state and with parameters of one's own.

A module with a hidden state is called ``module(x, hidden)`` and returns its output first and the
next hidden state last; one without is called ``module(x)``. A hidden state is a tensor or a tuple
or list of them.
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
    """Return ``model.init_hidden(batch)``, or None for a module that has no such method."""
    make = getattr(model, "init_hidden", None)
    return None if make is None else make(batch)


def call(
    model: nn.Module, x: Tensor, hidden: Hidden, tensors: Mapping[str, Tensor] | None = None
) -> tuple[Any, Hidden]:
    """Return the output of ``model`` and its next hidden state.

    Args:
        model: what is called.
        x: its input.
        hidden: its hidden state; None calls it without.
        tensors: parameters and buffers to take the place of the module's own.
    """
    return split(call_whole(model, x, hidden, tensors))


def call_whole(
    model: nn.Module, x: Tensor, hidden: Hidden, tensors: Mapping[str, Tensor] | None = None
) -> Any:
    """Return all that ``model`` returns; see ``call``."""
    arguments = (x,) if hidden is None else (x, hidden)
    if tensors is None:
        return model(*arguments)
    return functional_call(model, dict(tensors), arguments)


def split(result: Any) -> tuple[Any, Hidden]:
    """Return output and next hidden state of what a module returned; None if it has none."""
    if not isinstance(result, tuple):
        return result, None
    return result[0], result[-1]


def map_hidden(function: Callable[[Tensor], Tensor], hidden: Hidden) -> Hidden:
    """Return ``hidden`` with every tensor replaced by ``function`` of it."""
    if hidden is None:
        return None
    if isinstance(hidden, Tensor):
        return function(hidden)
    return type(hidden)(map_hidden(function, part) for part in hidden)


def detach(hidden: Hidden) -> Hidden:
    """Return ``hidden`` cut from the graph that made it."""
    return map_hidden(torch.Tensor.detach, hidden)


def share(
    model: nn.Module, hidden: Hidden, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Hidden, Hidden]]:
    """Return every task's hidden states before its support and its query data.

    Args:
        model: whose hidden state it is.
        hidden: None for fresh ones. Else its rows are, in this order of preference: as many as
            every task's batch, and every task starts from all of them; one, and everything starts
            from it; as many as all tasks' sequences together, dealt out in order; one per task.
        sizes: sequences in the support and the query data of each task.

    Raises:
        ValueError: the rows are none of these.
    """
    if hidden is None:
        return [(initial_hidden(model, a), initial_hidden(model, b)) for a, b in sizes]
    dims = list(_batch_dims(model, hidden))
    rows = next(_leaves(hidden)).shape[dims[0]]
    each = _rows_of(rows, sizes)
    return [(_take(hidden, dims, a), _take(hidden, dims, b)) for a, b in each]


def _rows_of(rows: int, sizes: Sequence[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    if {rows} == {size for pair in sizes for size in pair}:
        return [(list(range(rows)), list(range(rows))) for _ in sizes]
    if rows == 1:
        return [([0] * a, [0] * b) for a, b in sizes]
    if rows == sum(a for a, _ in sizes) and all(a == b for a, b in sizes):
        ends = torch.tensor([a for a, _ in sizes]).cumsum(0).tolist()
        dealt = [list(range(end - a, end)) for end, (a, _) in zip(ends, sizes, strict=True)]
        return [(part, part) for part in dealt]
    if rows == len(sizes):
        return [([task] * a, [task] * b) for task, (a, b) in enumerate(sizes)]
    raise ValueError(
        f"the hidden state has {rows} rows; tasks have (support, query) batches of {list(sizes)}. "
        "Have as many rows as every batch, or one, or one per sequence of all tasks, or one per "
        "task"
    )


def _leaves(hidden: Hidden) -> Iterator[Tensor]:
    if isinstance(hidden, Tensor):
        yield hidden
    else:
        for part in hidden:
            yield from _leaves(part)


def _batch_dims(model: nn.Module, hidden: Hidden) -> Iterator[int]:
    """Yield for every tensor of ``hidden`` which axis is the batch."""
    if isinstance(model, nn.RNNBase):
        yield from (leaf.dim() - 2 for leaf in _leaves(hidden))
    elif hasattr(model, "init_hidden"):
        pairs = zip(
            _leaves(initial_hidden(model, 1)), _leaves(initial_hidden(model, 2)), strict=True
        )
        for one, two in pairs:
            differs = (
                i for i, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b
            )
            yield next(differs)
    else:
        yield from (0 for _ in _leaves(hidden))


def _take(hidden: Hidden, dims: Sequence[int], rows: list[int]) -> Hidden:
    each = iter(dims)

    def pick(leaf: Tensor) -> Tensor:
        index = torch.tensor(rows, device=leaf.device)
        return leaf.detach().index_select(next(each), index)

    return map_hidden(pick, hidden)
