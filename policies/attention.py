"""Causal attention over a sliding window, in plain matrix products: twice differentiable.

All heads share one head of keys and values (multi-query, arXiv 1911.02150), which keeps the memory
small. Scores decrease linearly with the distance in time (ALiBi, arXiv 2108.12409), so that cached
keys stay valid as the window slides.

A query sees itself and the ``reach`` steps before it: at most ``context``, never beyond a reset.
Letters: Q = N * B sequences, T time, C context, K = 2 D keys and values side by side, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 32
"""Queries per matrix product; each chunk scores C + CHUNK keys, for any T."""


def reach_of(first: Tensor, age: Tensor, context: int) -> Tensor:
    """Return how many past steps each step may see, ``[..., T]``.

    Args:
        first: ``[..., T]``, set where a step sees no past.
        age: ``[...]``, steps cached before the first one.
        context: the most steps that may be seen.
    """
    time = torch.arange(first.shape[-1], device=first.device)
    start = torch.where(first, time, -age.long().unsqueeze(-1)).cummax(dim=-1).values
    return (time - start).clamp(max=context)


def attend_one(query: Tensor, keys_values: Tensor, reach: Tensor) -> Tensor:
    """Return ``[Q, heads, D]`` for one step's ``query [Q, heads, D]`` over ``[Q, C + 1, K]``.

    The last key is that of the step itself; ``reach`` is ``[Q]``.
    """
    heads, width = query.shape[1:]
    count = keys_values.shape[1]
    distance = torch.arange(count - 1, -1, -1, device=query.device)
    bias = _bias(distance, distance <= reach.unsqueeze(-1), heads, query.dtype)
    keys, values = keys_values[..., :width], keys_values[..., width:]
    scores = torch.baddbmm(bias, query, keys.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores.softmax(dim=-1), values)


def attend(query: Tensor, past: Tensor, present: Tensor, reach: Tensor) -> Tensor:
    """Return ``[Q, T, heads, D]`` for ``query [Q, T, heads, D]``, chunk by chunk.

    Args:
        query: one query per step and head.
        past: ``[Q, C, K]``, cached keys and values.
        present: ``[Q, T, K]``, keys and values of the steps themselves.
        reach: ``[Q, T]``, or ``[1, T]`` if it is the same for all sequences.
    """
    sequences, steps, heads, width = query.shape
    context = past.shape[1]
    chunk = min(CHUNK, steps)
    chunks, spans = -(-steps // chunk), -(-context // chunk)
    tail = chunks * chunk - steps
    lead = spans * chunk - context
    query = _pad(query.flatten(2) * width**-0.5, 0, tail)
    query = query.view(sequences * chunks, chunk * heads, width)
    blocks = _pad(torch.cat([past, present], dim=1), lead, tail)
    blocks = blocks.view(sequences, chunks + spans, chunk, 2 * width)
    window = torch.cat([blocks[:, i : i + chunks] for i in range(spans + 1)], dim=2)
    window = window.view(sequences * chunks, -1, 2 * width)
    scores = torch.bmm(query, window[..., :width].transpose(1, 2))
    bias = _chunk_bias(_pad(reach.unsqueeze(-1), 0, tail).view(-1, chunks, chunk), window, heads)
    weights = (scores.view(sequences, chunks, chunk * heads, -1) + bias).softmax(dim=-1)
    out = torch.bmm(weights.view_as(scores), window[..., width:])
    return out.view(sequences, chunks * chunk, heads, width)[:, :steps]


def _chunk_bias(reach: Tensor, window: Tensor, heads: int) -> Tensor:
    chunk, count = reach.shape[-1], window.shape[1]
    rows = torch.arange(count - chunk, count, device=window.device)
    distance = rows.unsqueeze(-1) - torch.arange(count, device=window.device)
    visible = (distance >= 0) & (distance <= reach.unsqueeze(-1))
    return _bias(distance, visible, heads, window.dtype).flatten(2, 3)


def _bias(distance: Tensor, visible: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """Return ``[..., heads, keys]``: minus slope times distance where visible, else -inf."""
    power = torch.arange(1, heads + 1, device=distance.device, dtype=dtype)
    slopes = torch.exp2(-8.0 * power / heads).unsqueeze(-1)
    bias = -slopes * distance.unsqueeze(-2)
    return torch.where(visible.unsqueeze(-2), bias, float("-inf"))


def _pad(x: Tensor, lead: int, tail: int) -> Tensor:
    if lead == tail == 0:
        return x
    return torch.nn.functional.pad(x, (0, 0, lead, tail))
