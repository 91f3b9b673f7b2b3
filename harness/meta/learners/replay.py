"""Sequences of training episodes, kept to learn from again.

Array letters: R sequences, T steps of a whole sequence, U = T + 1, B sampled stretches, W steps of
a stretch, O observation, A action, G features of a task, I input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.meta.rollouts import trajectories
from harness.meta.rollouts.actor import Actor
from harness.meta.rollouts.inputs import Past
from harness.types import Episodes
from policies.base import Params


@dataclass(frozen=True, slots=True)
class Sequences:
    """R sequences: the episodes of a task end to end, each packed to the left."""

    obs: Float[Tensor, "R U O"]
    """As observed; the one after the last step follows it."""
    actions: Float[Tensor, "R T A"]
    """As the environment received them, in [-1, 1]."""
    rewards: Float[Tensor, "R T"]
    begins: Bool[Tensor, "R U"]
    """First step of an episode."""
    terminated: Bool[Tensor, "R T"]
    """The MDP ended after this step."""
    length: Int[Tensor, " R"]
    """Number of steps."""
    task: Float[Tensor, "R G"]
    """Features of the task."""

    @classmethod
    def of(cls, blocks: Sequence[Episodes], actor: Actor, task: Float[Tensor, "N G"]) -> Sequences:
        """Return the episodes of ``blocks``, each with E sequences on the same N tasks.

        Sequences without a step, whose episodes were all invalid, are left out.
        """
        played = trajectories.pack(blocks, actor, normalize=False)
        blank = torch.zeros_like(played.obs[:, :, :1])
        slot = played.length[..., None, None].expand(-1, -1, 1, blank.shape[-1])
        obs = torch.cat([torch.where(played.mask.unsqueeze(-1), played.obs, 0), blank], 2)
        sent = (played.actions * actor.action_scale).clamp(-1, 1)
        begins = torch.cat([played.begins & played.mask, blank[..., 0] != 0], 2)
        every = cls(
            obs=obs.scatter(2, slot, played.last_obs.unsqueeze(2)).flatten(0, 1),
            actions=torch.where(played.mask.unsqueeze(-1), sent, 0).flatten(0, 1),
            rewards=torch.where(played.mask, played.rewards, 0).flatten(0, 1),
            begins=begins.flatten(0, 1),
            terminated=played.terminated.flatten(0, 1),
            length=played.length.flatten(),
            task=task.to(obs.dtype).repeat_interleave(obs.shape[1], 0),
        )
        return every.where(every.length > 0)

    @classmethod
    def joined(cls, parts: Sequence[Sequences]) -> Sequences:
        """Return the sequences of ``parts``, in order."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS))

    def where(self, rows: Tensor | slice) -> Sequences:
        """Return the sequences at ``rows``."""
        return Sequences(*(getattr(self, name)[rows] for name in _FIELDS))

    def __len__(self) -> int:
        return len(self.length)

    def save(self) -> Params:
        """Return the tensors by name."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = [entry.name for entry in fields(Sequences)]


@dataclass(frozen=True, slots=True)
class Stretch:
    """B stretches of W consecutive steps, and the step that follows each."""

    x: Float[Tensor, "1 B V I"]
    """The policy's inputs; V = W + 1."""
    first: Bool[Tensor, "1 B V"]
    """Set at the first step: memory begins afresh."""
    obs: Float[Tensor, "1 B V O"]
    """Normalised."""
    actions: Float[Tensor, "1 B W A"]
    rewards: Float[Tensor, "1 B W"]
    terminated: Bool[Tensor, "1 B W"]
    mask: Bool[Tensor, "1 B W"]
    task: Float[Tensor, "1 B G"]


def sample(
    kept: Sequences, actor: Actor, rng: np.random.Generator, count: int, steps: int
) -> Stretch:
    """Draw ``count`` stretches of ``steps`` steps, or whole sequences if these are shorter.

    A stretch may begin at any step, also before its sequence or so late that it would reach beyond
    it: it is then moved inside. Steps near either end are so drawn more often, up to three times.

    Args:
        kept: what to draw from.
        actor: normalises observations and rewards, and assembles the inputs.
        rng: where the draws come from.
        count: B.
        steps: W.
    """
    steps = min(steps, kept.rewards.shape[1])
    length = kept.length.numpy()
    places = length + steps - 1  # where a stretch may begin
    rows = rng.choice(len(length), count, p=places / places.sum())
    starts = rng.integers(1 - steps, length[rows]).clip(0, np.maximum(length[rows] - steps, 0))
    row, at = torch.from_numpy(rows)[:, None], torch.from_numpy(starts[:, None] + np.arange(steps))
    after = torch.cat([at, at[:, -1:] + 1], 1)
    had, before = (after > 0).unsqueeze(0), (after - 1).clamp(min=0)
    obs = actor.normalizer(kept.obs[row, after].unsqueeze(0))
    past = Past(
        action=kept.actions[row, before].unsqueeze(0) * had.unsqueeze(-1),
        reward=kept.rewards[row, before].unsqueeze(0) / actor.reward_unit * had,
        boundary=kept.begins[row, after].unsqueeze(0),
    )
    first = torch.zeros(1, count, steps + 1, dtype=torch.bool)
    first[..., 0] = True
    return Stretch(
        x=actor.inputs.assemble(obs, past, ()),
        first=first,
        obs=obs,
        actions=kept.actions[row, at].unsqueeze(0),
        rewards=kept.rewards[row, at].unsqueeze(0),
        terminated=kept.terminated[row, at].unsqueeze(0),
        mask=(at < kept.length[row]).unsqueeze(0),
        task=kept.task[rows].unsqueeze(0),
    )
