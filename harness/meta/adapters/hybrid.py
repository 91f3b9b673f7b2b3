"""The hybrid adapter: a gradient step on the current shot and, with less weight, on earlier ones.

Experience is a task's own: tasks share nothing. Earlier shots were sampled with earlier parameters;
the likelihood ratio of the surrogate corrects for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from harness.meta.adapters.base import AdapterSpec, Shot
from harness.meta.adapters.gradient import GradientAdapter, inner_loss
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy


@dataclass(frozen=True)
class HybridSettings:
    """Settings of the ``hybrid`` adapter."""

    buffer_size: Annotated[int, Ge(1)] = 10_000
    """Most recent environment steps of a task that are kept."""
    experience_batch_size: Annotated[int, Ge(1)] = 32
    """Kept steps sampled for each gradient step."""
    experience_weight: Annotated[float, Ge(0)] = 0.1
    """Weight of the loss on them."""


@dataclass(frozen=True, slots=True)
class HybridGradientAdapter(GradientAdapter):
    """loss = loss(current shot) + experience_weight · loss(sampled past steps)."""

    name: str = "hybrid"
    settings: HybridSettings = HybridSettings()

    def loss(self, policy: Policy, params: Params, shot: Shot) -> Float[Tensor, " N"]:
        """Return what the step of one shot minimises, per task."""
        # Not super(): a dataclass with slots is another class than the one it is written as.
        loss = GradientAdapter.loss(self, policy, params, shot)
        if shot.past:
            experience = Batch.concatenate(shot.past)
            sampled = self.sample(experience.mask, len(shot.past), shot.rngs)
            experience = replace(experience, mask=sampled)
            past_loss = inner_loss(experience.forward(policy, params), experience)
            loss = loss + self.settings.experience_weight * past_loss
        return loss

    def sample(
        self, mask: Bool[Tensor, "N E T"], shots: int, rngs: Sequence[np.random.Generator]
    ) -> Bool[Tensor, "N E T"]:
        """Return a mask of the sampled steps among those in ``mask``; episodes lie shot by shot.

        The buffer holds the latest steps. Within a shot, steps are ordered by time before episode,
        because its episodes ran side by side.
        """
        tasks, episodes, steps = mask.shape
        per_shot = episodes // shots
        sampled = torch.zeros_like(mask)
        for n in range(tasks):
            in_time = mask[n].reshape(shots, per_shot, steps).transpose(1, 2)
            shot, step, episode = (part.numpy() for part in in_time.nonzero(as_tuple=True))
            buffer = np.arange(len(shot))[-self.settings.buffer_size :]
            size = min(self.settings.experience_batch_size, len(buffer))
            drawn = rngs[n].choice(buffer, size=size, replace=False)
            sampled[n, shot[drawn] * per_shot + episode[drawn], step[drawn]] = True
        return sampled


HYBRID = AdapterSpec(
    build=lambda settings, inner_lr: HybridGradientAdapter(inner_lr, settings=settings),
    settings=HybridSettings,
)
