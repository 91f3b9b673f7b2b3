"""Meta-episodes as sequences: the episodes of one task end to end, as memory lived through them.

Array letters: N tasks, E sequences per task, S chunks, T time (a sequence of episodes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial

import torch
from torch import Tensor

from harness.config.schema import TrainConfig
from harness.meta.rollouts import trajectories
from harness.meta.rollouts.actor import Actor
from harness.meta.rollouts.batch import Batch
from harness.types import Episodes
from task_distributions import Task


@torch.no_grad()
def learnable(
    blocks: Sequence[Episodes],
    actor: Actor,
    tasks: tuple[Task, ...],
    train: TrainConfig,
    return_scale: float,
) -> Batch:
    """Compute advantages and value targets along ``blocks`` by the values of ``actor``."""
    lived = trajectories.pack(blocks, actor)
    seen = trajectories.seen(lived, actor, tasks)
    values = seen.values(actor)
    gained = trajectories.advantages(lived, values, train.gamma, train.gae_lambda, return_scale)
    return Batch(
        x=seen.x[:, :, :-1],
        first=seen.first[..., :-1],
        actions=lived.actions,
        log_probs=lived.log_probs,
        advantages=gained,
        value_targets=gained + values[..., :-1],
        mask=lived.mask,
    )


@torch.no_grad()
def chunked(batch: Batch, actor: Actor, length: int | None) -> Batch:
    """Cut sequences [N, E, T] into chunks [1, S, length] that can be learned from side by side.

    Each brings the memory that ``actor`` had where it begins; it is not differentiated through.
    Chunks in which nothing happened are left out. ``None`` leaves sequences whole.
    """
    steps = batch.x.shape[2]
    length = min(length or steps, steps)
    memory = actor.policy.initial_memory(batch.x.shape[0], batch.x.shape[1], batch.x)
    pieces = []
    for start in range(0, steps, length):
        piece = _mapped(batch, partial(_piece, start=start, length=length))
        pieces.append(_mapped(replace(piece, memory=memory), _side_by_side))
        if start + length < steps:
            memory = actor.policy.forward(actor.params, piece.x, piece.first, memory).memory
    chunks = _joined(pieces)
    return take(chunks, chunks.mask[0].any(-1).nonzero().flatten().tolist())


def _piece(x: Tensor, start: int, length: int) -> Tensor:
    """Return ``length`` steps of ``x`` [N, E, T, ...], padded with zeros behind its end."""
    piece = x[:, :, start : start + length]
    missing = length - piece.shape[2]
    if not missing:
        return piece
    return torch.cat([piece, piece.new_zeros(*x.shape[:2], missing, *x.shape[3:])], 2)


def _side_by_side(x: Tensor) -> Tensor:
    return x.reshape(1, -1, *x.shape[2:])


def _joined(pieces: Sequence[Batch]) -> Batch:
    def join(name: str) -> Tensor:
        return torch.cat([getattr(piece, name) for piece in pieces], 1)

    memory = tuple(torch.cat(parts, 1) for parts in zip(*(p.memory for p in pieces), strict=True))
    return Batch(**{name: join(name) for name in _TENSORS}, memory=memory)


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Return some sequences of a batch [1, S, ...]."""
    index = torch.tensor(rows, dtype=torch.long)
    return _mapped(batch, lambda x: x[:, index])


_TENSORS = [entry.name for entry in fields(Batch) if entry.name != "memory"]


def _mapped(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    memory = tuple(change(part) for part in batch.memory)
    return Batch(**{name: change(getattr(batch, name)) for name in _TENSORS}, memory=memory)
