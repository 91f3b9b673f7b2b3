"""The PPO adapter: every shot goes on training by PPO (arXiv 1707.06347), on its own support data.

    L = mean[ −min(ratio · A, clip(ratio, 1 ± 0.2) · A) ] + 0.5 · mean[ huber(V − R) ]

Fine-tuning as it is usually done: several Adam steps on all parameters, the value head included if
the policy was trained with it as the baseline; otherwise the second term is left out.
Each step is on all support episodes of the shot, and each task has its own parameters, gradient
norm and Adam state, which begins anew with every shot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from harness.meta import objectives
from harness.meta.adapters.base import AdapterSpec, Shot
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy, PolicyOutput
from policies.params import clone, repeat

CLIP = 0.2
VALUE_COEF = 0.5
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class FinetuningSettings:
    """Settings of the ``ppo`` adapter."""

    adapt_learning_rate: Annotated[float, Gt(0)] = 1e-3
    """Adam step size of fine-tuning."""
    adapt_epochs: Annotated[int, Ge(1)] = 10
    """Passes over the support episodes of a shot, one Adam step each."""


@dataclass(frozen=True, slots=True)
class PPOAdapter:
    """PPO on the support episodes of each shot. Satisfies ``Adapter``."""

    settings: FinetuningSettings = FinetuningSettings()
    name: str = "ppo"
    needs_support: bool = True
    carries_memory: bool = False

    @property
    def steps_per_shot(self) -> int:
        """Adam steps per shot."""
        return self.settings.adapt_epochs

    def adapt(self, policy: Policy, params: Params, shot: Shot) -> Params:
        """Return the parameters [N, ...] after one more shot, without a graph."""
        leaves = clone(repeat(params, shot.batch.x.shape[0]), requires_grad=True)
        optimizer = torch.optim.Adam(leaves.values(), lr=self.settings.adapt_learning_rate)
        for _ in range(self.settings.adapt_epochs):
            optimizer.zero_grad()
            # Tasks share nothing but the graph: the gradient of the sum holds each task's own.
            loss = finetuning_loss(shot.batch.forward(policy, leaves), shot.batch).sum()
            torch.autograd.backward(loss)
            _clip_by_task(list(leaves.values()))
            optimizer.step()
        return clone(leaves)


def finetuning_loss(out: PolicyOutput, batch: Batch) -> Float[Tensor, " N"]:
    """Return the loss at the top of the page, per task."""
    log_probs = out.head.log_prob(batch.actions)
    surrogate = objectives.ppo_clip_loss(
        log_probs, batch.log_probs, batch.advantages, batch.mask, clip=CLIP
    )
    if batch.value_targets is None:
        return surrogate
    huber = torch.nn.functional.smooth_l1_loss(out.value, batch.value_targets, reduction="none")
    return surrogate + VALUE_COEF * objectives.masked_mean(huber, batch.mask)


def _clip_by_task(leaves: list[Tensor]) -> None:
    """Scale the gradients [N, ...] of each task to a norm of at most ``MAX_GRAD_NORM``."""
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    norm = torch.stack([part.flatten(1).square().sum(1) for part in gradients]).sum(0).sqrt()
    scale = (MAX_GRAD_NORM / (norm + 1e-6)).clamp(max=1.0)
    for part in gradients:
        part *= scale.view(-1, *(1,) * (part.dim() - 1))


PPO = AdapterSpec(
    build=lambda settings, inner_lr: PPOAdapter(settings),
    settings=FinetuningSettings,
    uses_value_head=True,
)
