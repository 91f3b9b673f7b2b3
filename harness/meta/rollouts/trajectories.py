"""Played episodes end to end, with the policy's input at every step.

Array letters: N tasks, E sequences per task, T time (of one episode or several), U = T + 1,
O observation, I input, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.meta.rollouts.actor import Actor
from harness.meta.rollouts.inputs import Past
from harness.types import Episodes
from policies.base import Memory
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Sequences packed to the left: padding and invalid episodes are removed."""

    obs: Float[Tensor, "N E T O"]
    """Normalised, unless asked for otherwise."""
    actions: Float[Tensor, "N E T A"]
    log_probs: Float[Tensor, "N E T"]
    rewards: Float[Tensor, "N E T"]
    begins: Bool[Tensor, "N E T"]
    """First step of an episode."""
    terminated: Bool[Tensor, "N E T"]
    """The MDP ended after this step."""
    mask: Bool[Tensor, "N E T"]
    last_obs: Float[Tensor, "N E O"]
    """After the last step, like ``obs``."""

    @property
    def length(self) -> Int[Tensor, "N E"]:
        """Number of steps."""
        return self.mask.sum(-1)


def pack(blocks: Sequence[Episodes], actor: Actor, *, normalize: bool = True) -> Trajectories:
    """Put the episodes of ``blocks`` end to end, without invalid ones and padding."""
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
        terminated = torch.from_numpy(block.terminated & ~block.invalid).unsqueeze(-1)
        ends.scatter_(2, last + number * horizon, terminated)
    dtype = next(iter(actor.params.values())).dtype
    obs, last_obs = packed("obs"), _last_obs(blocks)
    if normalize:
        obs, last_obs = actor.normalizer(obs), actor.normalizer(last_obs)
    return Trajectories(
        obs=obs.to(dtype),
        actions=packed("actions").to(dtype),
        log_probs=packed("log_probs").to(dtype),
        rewards=packed("rewards").to(dtype),
        begins=begins.gather(2, order),
        terminated=ends.gather(2, order),
        mask=mask.gather(2, order),
        last_obs=last_obs.to(dtype),
    )


def _last_obs(blocks: Sequence[Episodes]) -> Tensor:
    """Return the observation after the last valid episode of every sequence."""
    last = blocks[0].last_obs.copy()
    for block in blocks[1:]:
        valid = ~block.invalid
        last[valid] = block.last_obs[valid]
    return torch.from_numpy(last)


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """The policy's inputs along trajectories, and the memory it began with."""

    x: Float[Tensor, "N E U I"]
    """The last one is the input that would follow the last step."""
    first: Bool[Tensor, "N E U"]
    """Steps before which memory is reset."""
    memory: Memory
    """Before the first step."""

    def values(self, actor: Actor) -> Float[Tensor, "N E U"]:
        """Return the value head's predictions at every step and after the last one."""
        value: Tensor = actor.policy.forward(actor.params, self.x, self.first, self.memory).value
        return value


def inputs_along(played: Trajectories, actor: Actor, tasks: tuple[Task, ...]) -> PolicyInputs:
    """Return what was fed to ``actor``, given in its state before the first step."""
    x = _assembled(played, actor, tasks)
    first = torch.zeros(x.shape[:3], dtype=torch.bool)
    first[..., 0] = actor.context is None
    context = actor.context or actor.fresh_context(*x.shape[:2])
    return PolicyInputs(x, first, context.memory)


def _assembled(
    played: Trajectories, actor: Actor, tasks: tuple[Task, ...]
) -> Float[Tensor, "N E U I"]:
    before = actor.context
    slot = played.length.unsqueeze(-1)  # index of the step that would follow the last one

    def extended(x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x[:, :, :1])], 2)

    obs = extended(played.obs)
    index = slot.unsqueeze(-1).expand(*slot.shape, obs.shape[-1])
    obs = obs.scatter(2, index, played.last_obs.unsqueeze(2))
    past = None
    if actor.inputs.history:
        sent = (played.actions * actor.action_scale).clamp(-1.0, 1.0)
        rewards = played.rewards / actor.reward_unit
        past = Past(
            action=_delayed(extended(sent), before.action if before else None),
            reward=_delayed(extended(rewards), before.reward if before else None),
            boundary=extended(played.begins) & (torch.arange(obs.shape[2]) < slot),
        )
    return actor.inputs.assemble(obs, past, tasks)


def _delayed(x: Tensor, before: Tensor | None) -> Tensor:
    """Return ``x`` one step later, starting with ``before``, or with 0."""
    start = torch.zeros_like(x[:, :, :1]) if before is None else before.unsqueeze(2)
    return torch.cat([start, x[:, :, :-1]], 2)
