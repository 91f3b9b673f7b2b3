"""Meta-episodes as sequences: the episodes of one task end to end, as memory lived through them.

Array letters: N tasks, E sequences per task, T time (a sequence of episodes), U = T + 1,
I input, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.config import TrainConfig
from harness.meta.acting import Actor
from harness.meta.batch import Batch
from harness.meta.inputs import Past
from harness.types import Episodes
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class Tape:
    """Sequences packed to the left: what did not happen is left out, the rest follows on."""

    obs: Float[Tensor, "N E T O"]
    """Normalised."""
    actions: Float[Tensor, "N E T A"]
    log_probs: Float[Tensor, "N E T"]
    rewards: Float[Tensor, "N E T"]
    begins: Bool[Tensor, "N E T"]
    """First step of an episode."""
    terminated: Bool[Tensor, "N E T"]
    """The MDP ended after this step."""
    mask: Bool[Tensor, "N E T"]
    last_obs: Float[Tensor, "N E O"]
    """After the last step, normalised."""

    @property
    def length(self) -> Int[Tensor, "N E"]:
        """Steps that happened."""
        return self.mask.sum(-1)


def pack(blocks: Sequence[Episodes], actor: Actor) -> Tape:
    """Put the episodes of ``blocks`` end to end; invalid ones and padding are left out."""
    mask = torch.from_numpy(np.concatenate([block.mask for block in blocks], 2))
    order = torch.argsort((~mask).to(torch.uint8), dim=-1, stable=True)

    def packed(name: str) -> Tensor:
        value = torch.from_numpy(np.concatenate([getattr(block, name) for block in blocks], 2))
        index = order.view(*order.shape, *(1,) * (value.dim() - 3))
        return value.gather(2, index.expand(value.shape))

    begins, ends = (torch.zeros_like(mask) for _ in range(2))
    horizon = blocks[0].mask.shape[-1]
    for number, block in enumerate(blocks):
        begins[..., number * horizon] = True
        last = torch.from_numpy(block.mask.sum(-1)).clamp(min=1).unsqueeze(-1) - 1
        ended = torch.from_numpy(block.terminated & ~block.invalid).unsqueeze(-1)
        ends.scatter_(2, last + number * horizon, ended)
    dtype = next(iter(actor.params.values())).dtype
    return Tape(
        obs=actor.normalizer(packed("obs")).to(dtype),
        actions=packed("actions").to(dtype),
        log_probs=packed("log_probs").to(dtype),
        rewards=packed("rewards").to(dtype),
        begins=begins.gather(2, order),
        terminated=ends.gather(2, order),
        mask=mask.gather(2, order),
        last_obs=actor.normalizer(_last_obs(blocks)).to(dtype),
    )


def _last_obs(blocks: Sequence[Episodes]) -> Tensor:
    """Return the observation after the last valid episode of every sequence."""
    last = blocks[0].last_obs.copy()
    for block in blocks[1:]:
        valid = ~block.invalid
        last[valid] = block.last_obs[valid]
    return torch.from_numpy(last)


def inputs_of(tape: Tape, actor: Actor, tasks: tuple[Task, ...]) -> Float[Tensor, "N E U I"]:
    """Return what the policy was fed at every step, and would be fed after the last one."""
    assert actor.inputs is not None
    slot = tape.length.unsqueeze(-1)  # where the step after the last one goes

    def extended(x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x[:, :, :1])], 2)

    obs = extended(tape.obs)
    index = slot.unsqueeze(-1).expand(*slot.shape, obs.shape[-1])
    obs = obs.scatter(2, index, tape.last_obs.unsqueeze(2))
    past = None
    if actor.inputs.context:
        taken = (tape.actions * actor.action_scale).clamp(-1.0, 1.0)
        past = Past(
            action=_delayed(extended(taken)),
            reward=_delayed(extended(tape.rewards / actor.reward_unit)),
            boundary=extended(tape.begins) & (torch.arange(obs.shape[2]) < slot),
        )
    return actor.inputs.assemble(obs, past, tasks)


def _delayed(x: Tensor) -> Tensor:
    """Return ``x`` one step later, 0 first."""
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], 2)


@torch.no_grad()
def learnable(
    blocks: Sequence[Episodes],
    actor: Actor,
    tasks: tuple[Task, ...],
    train: TrainConfig,
    return_scale: float,
) -> Batch:
    """Compute advantages and value targets along ``blocks`` by the values of ``actor``.

    Generalised advantage estimation (arXiv 1506.02438) runs on from episode to episode, but not
    past a step that terminated the MDP: falling must not earn what the next episode brings.
    """
    tape = pack(blocks, actor)
    x = inputs_of(tape, actor, tasks)
    first = torch.zeros(x.shape[:3], dtype=torch.bool)
    first[..., 0] = True
    memory = actor.policy.initial_memory(x.shape[0], x.shape[1], x)
    value = actor.policy.forward(actor.params, x, first, memory).value
    advantages = _advantages(tape, value, train, return_scale)
    return Batch(
        x=x[:, :, :-1],
        first=first[..., :-1],
        actions=tape.actions,
        log_probs=tape.log_probs,
        advantages=advantages,
        value_targets=advantages + value[..., :-1],
        mask=tape.mask,
    )


def _advantages(tape: Tape, value: Tensor, train: TrainConfig, return_scale: float) -> Tensor:
    goes_on = (tape.mask & ~tape.terminated).to(value.dtype)
    rewards = tape.rewards / return_scale
    delta = rewards + train.gamma * goes_on * value[..., 1:] - value[..., :-1]
    delta = torch.where(tape.mask, delta, 0)
    decay = train.gamma * train.gae_lambda * goes_on
    running, out = torch.zeros_like(delta[..., 0]), []
    for error, keep in zip(reversed(delta.unbind(-1)), reversed(decay.unbind(-1)), strict=True):
        running = error + keep * running
        out.append(running)
    return torch.stack(out[::-1], -1)


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
