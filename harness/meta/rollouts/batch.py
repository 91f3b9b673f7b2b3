"""Episodes made ready to learn from: inputs, advantages and value targets as tensors.

Array letters: N tasks, E episodes per task, T time, I input, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.config.schema import TrainConfig
from harness.meta import objectives
from harness.meta.rollouts import trajectories
from harness.meta.rollouts.actor import Actor
from harness.types import Episodes
from policies.base import Memory, Params, Policy, PolicyOutput
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class Batch:
    """What one gradient step learns from."""

    x: Float[Tensor, "N E T I"]
    """Normalised policy inputs."""
    first: Bool[Tensor, "N E T"]
    """Where memory starts anew."""
    actions: Float[Tensor, "N E T A"]
    log_probs: Float[Tensor, "N E T"]
    """Under the policy that sampled."""
    advantages: Float[Tensor, "N E T"]
    """Normalised per task."""
    value_targets: Float[Tensor, "N E T"]
    """Discounted returns in units of ``return_scale``; what the value head regresses on."""
    mask: Bool[Tensor, "N E T"]
    memory: Memory = ()
    """Before the first step; a fresh one if empty."""

    def forward(self, policy: Policy, params: Params) -> PolicyOutput:
        """Unroll ``policy`` over the whole batch."""
        fresh = policy.initial_memory(self.x.shape[0], self.x.shape[1], self.x)
        return policy.forward(params, self.x, self.first, self.memory or fresh)


@torch.no_grad()
def prepare(
    episodes: Episodes,
    actor: Actor,
    tasks: tuple[Task, ...],
    train: TrainConfig,
    return_scale: float,
) -> Batch:
    """Compute inputs and advantages of ``episodes``; values, if used, are those of ``actor``.

    ``actor`` is as it was before them. Its memory, where it brought one along, counts as given:
    nothing is differentiated through it.
    """
    lived = trajectories.pack([episodes], actor)
    seen = trajectories.seen(lived, actor, tasks)
    if train.baseline == "linear":
        targets = objectives.discounted_returns(lived.rewards, train.gamma)
        at = objectives.linear_baseline(lived.obs, targets, lived.mask)
        values = objectives.Values(at, torch.zeros_like(at[..., 0]))
        gained = objectives.gae(lived.rewards, lived.mask, values, train.gamma, train.gae_lambda)
    else:
        expected = seen.values(actor)
        gained = trajectories.advantages(
            lived, expected, train.gamma, train.gae_lambda, return_scale
        )
        targets = gained + expected[..., :-1]
    return Batch(
        x=seen.x[:, :, :-1],
        first=seen.first[..., :-1],
        actions=lived.actions,
        log_probs=lived.log_probs,
        advantages=objectives.normalized(gained, lived.mask),
        value_targets=targets,
        mask=lived.mask,
        memory=seen.memory,
    )
