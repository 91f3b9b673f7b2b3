"""The hybrid adapter: a gradient step on the present shot and, with less weight, on the past ones.

The past are the task's own earlier shots, so that tasks share nothing. They were sampled by earlier
parameters; the likelihood ratio of the surrogate accounts for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from harness.config.schema import REPLAY
from harness.meta.adapters.gradient import GradientAdapter, inner_loss
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy
from policies.params import clone, repeat


@dataclass(frozen=True, slots=True)
class HybridGradientAdapter(GradientAdapter):
    """loss = loss(present shot) + experience_weight * loss(a sample of past steps)."""

    name: str = "hybrid"
    buffer_size: int = REPLAY["buffer_size"]
    """Past environment steps of a task that are remembered, the latest ones."""
    experience_batch_size: int = REPLAY["experience_batch_size"]
    """Of them drawn for every gradient step."""
    experience_weight: float = REPLAY["experience_weight"]

    def adapt_with(
        self,
        policy: Policy,
        params: Params,
        batch: Batch,
        past: Sequence[Batch],
        draws: Sequence[np.random.Generator],
    ) -> Params:
        """Return the parameters [N, ...] after one more shot; ``draws`` are one per task."""
        leaves = clone(repeat(params, batch.x.shape[0]), requires_grad=True)
        loss = inner_loss(batch.forward(policy, leaves), batch)
        if past:
            before = joined(past)
            chosen = self.sample(before.mask, len(past), draws)
            before = replace(before, mask=chosen)
            loss = loss + self.experience_weight * inner_loss(
                before.forward(policy, leaves), before
            )
        return clone(self.step(leaves, loss, order=0))

    def sample(
        self, mask: Bool[Tensor, "N E T"], shots: int, draws: Sequence[np.random.Generator]
    ) -> Bool[Tensor, "N E T"]:
        """Return which of the steps in ``mask`` are drawn; episodes lie shot after shot.

        Steps of a shot are ordered in time first: its episodes were played side by side.
        """
        tasks, episodes, steps = mask.shape
        per_shot = episodes // shots
        chosen = torch.zeros_like(mask)
        for n in range(tasks):
            in_time = mask[n].reshape(shots, per_shot, steps).transpose(1, 2)
            shot, step, lane = (part.numpy() for part in in_time.nonzero(as_tuple=True))
            kept = np.arange(len(shot))[-self.buffer_size :]
            size = min(self.experience_batch_size, len(kept))
            drawn = draws[n].choice(kept, size=size, replace=False)
            chosen[n, shot[drawn] * per_shot + lane[drawn], step[drawn]] = True
        return chosen


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the episodes of several batches as one batch."""
    named = [entry.name for entry in fields(Batch) if entry.name != "memory"]
    parts = {name: torch.cat([getattr(b, name) for b in batches], 1) for name in named}
    memory = tuple(
        torch.cat(pieces, 1) for pieces in zip(*(b.memory for b in batches), strict=True)
    )
    return Batch(**parts, memory=memory)
