"""Episodes made ready to learn from: inputs, advantages and value targets as tensors.

Array letters: N tasks, E episodes per task, T time, I input, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.config import TrainConfig
from harness.meta import objectives
from harness.meta.acting import Actor
from harness.types import Episodes
from policies.base import Memory, Params, Policy, PolicyOutput


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
def prepare(episodes: Episodes, actor: Actor, train: TrainConfig, return_scale: float) -> Batch:
    """Compute inputs and advantages of ``episodes``; values, if used, are those of ``actor``."""
    if actor.inputs is not None and actor.inputs.dim != episodes.obs.shape[-1]:
        raise ValueError("a gradient adapts policies that see the observation alone")
    dtype = next(iter(actor.params.values())).dtype
    mask = torch.from_numpy(episodes.mask)
    x = actor.normalizer(torch.from_numpy(episodes.obs)).to(dtype)
    rewards = torch.from_numpy(episodes.rewards).to(dtype)
    first = torch.zeros_like(mask)
    first[..., 0] = True
    if train.baseline == "linear":
        returns = objectives.discounted_returns(rewards, train.gamma)
        at = objectives.linear_baseline(x, returns, mask)
        values = objectives.Values(at, torch.zeros_like(at[..., 0]))
        targets = returns
    else:
        rewards = rewards / return_scale
        values = predict_values(episodes, x, first, actor)
        targets = torch.zeros_like(rewards)
    raw = objectives.gae(rewards, mask, values, train.gamma, train.gae_lambda)
    if train.baseline == "value":
        targets = raw + values.at
    return Batch(
        x=x,
        first=first,
        actions=torch.from_numpy(episodes.actions).to(dtype),
        log_probs=torch.from_numpy(episodes.log_probs).to(dtype),
        advantages=objectives.normalized(raw, mask),
        value_targets=targets,
        mask=mask,
    )


def predict_values(episodes: Episodes, x: Tensor, first: Tensor, actor: Actor) -> objectives.Values:
    """Return the value head's predictions along ``episodes`` and after their last step."""
    last = actor.normalizer(torch.from_numpy(episodes.last_obs)).to(x.dtype)
    length = torch.from_numpy(episodes.mask.sum(-1))
    # The observation after the last step goes to the slot behind it: index T at the horizon.
    longer = torch.cat([x, torch.zeros_like(x[:, :, :1])], 2)
    index = length[..., None, None].expand(*length.shape, 1, x.shape[-1])
    longer = longer.scatter(2, index, last.unsqueeze(2))
    longer_first = torch.cat([first, torch.zeros_like(first[..., :1])], 2)
    memory = actor.policy.initial_memory(x.shape[0], x.shape[1], x)
    value = actor.policy.forward(actor.params, longer, longer_first, memory).value
    after = value.gather(2, length.unsqueeze(-1)).squeeze(-1)
    after = torch.where(torch.from_numpy(episodes.terminated), 0, after)
    return objectives.Values(value[..., :-1], after)
