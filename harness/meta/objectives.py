"""Returns, advantages and surrogate objectives: pure functions.

Array letters: N tasks, E episodes per task, T time, O observation, A action.
Losses are per task, [N], to be minimised: means over the steps that happened (``mask``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(x: Float[Tensor, "N E T"], mask: Bool[Tensor, "N E T"]) -> Float[Tensor, " N"]:
    """Return the mean over the masked steps of each task; 0 where a task has none."""
    return torch.where(mask, x, 0).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)


def discounted_returns(
    rewards: Float[Tensor, "N E T"],
    gamma: float | Float[Tensor, "N E T"],
    last: Float[Tensor, "N E"] | None = None,
) -> Float[Tensor, "N E T"]:
    """Return the discounted sum of rewards from each step on, bootstrapped with ``last``.

    ``gamma`` may differ from step to step: it discounts everything after that step.
    """
    running = torch.zeros_like(rewards[..., 0]) if last is None else last
    steps = rewards.shape[-1]
    gammas: Sequence[float | Tensor] = (
        gamma.unbind(-1) if isinstance(gamma, Tensor) else (gamma,) * steps
    )
    out = []
    for reward, discount in zip(reversed(rewards.unbind(-1)), reversed(gammas), strict=True):
        running = reward + discount * running
        out.append(running)
    return torch.stack(out[::-1], -1)


@dataclass(frozen=True, slots=True)
class Values:
    """Baseline predictions at every step, and after the last step of each episode."""

    at: Float[Tensor, "N E T"]
    after: Float[Tensor, "N E"]
    """0 where the episode terminated, or if the baseline models the finite horizon itself."""


def gae(
    rewards: Float[Tensor, "N E T"],
    mask: Bool[Tensor, "N E T"],
    values: Values,
    gamma: float,
    lam: float,
    ended: Bool[Tensor, "N E T"] | None = None,
) -> Float[Tensor, "N E T"]:
    """Return generalised advantage estimates (arXiv 1506.02438, eq. 16).

    The value after the last masked step is ``values.after``; padded steps get 0. If episodes lie
    end to end, estimates continue from one into the next, but not past a step that ``ended`` the
    MDP: a fall must not be credited with the rewards of the next episode.
    """
    last_step = mask & ~torch.nn.functional.pad(mask[..., 1:], (0, 1))
    following = torch.nn.functional.pad(values.at[..., 1:], (0, 1))
    following = torch.where(last_step, values.after.unsqueeze(-1), following)
    goes_on = (mask if ended is None else mask & ~ended).to(rewards.dtype)
    delta = torch.where(mask, rewards + gamma * goes_on * following - values.at, 0)
    return discounted_returns(delta, gamma * lam * goes_on)


def normalized(x: Float[Tensor, "N E T"], mask: Bool[Tensor, "N E T"]) -> Float[Tensor, "N E T"]:
    """Return ``x`` with mean 0 and standard deviation 1 over the masked steps of each task."""
    mean = masked_mean(x, mask)[:, None, None]
    std = masked_mean((x - mean).square(), mask).sqrt()[:, None, None]
    return torch.where(mask, (x - mean) / (std + 1e-8), 0)


def linear_baseline(
    obs: Float[Tensor, "N E T O"],
    returns: Float[Tensor, "N E T"],
    mask: Bool[Tensor, "N E T"],
    begins: Bool[Tensor, "N E T"],
    ridge: float = 1e-5,
) -> Float[Tensor, "N E T"]:
    """Fit returns linearly on each task's own data and return the predictions (arXiv 1604.06778).

    Features: o, o², t/100, its square and cube, 1, where t counts the steps since an episode began.
    As time is a feature, predictions are of the remaining return of a finite episode: nothing is
    bootstrapped after the horizon.
    """
    features = _features(obs.double(), begins) * mask.unsqueeze(-1)
    flat = features.flatten(1, 2)
    target = torch.where(mask, returns, 0).double().flatten(1, 2).unsqueeze(-1)
    gram = flat.mT @ flat
    moment = flat.mT @ target
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
    weights = torch.linalg.solve(gram + ridge * eye, moment)
    prediction: Tensor = features @ weights.unsqueeze(1)
    return prediction.squeeze(-1).to(returns.dtype)


def _features(
    obs: Float[Tensor, "N E T O"], begins: Bool[Tensor, "N E T"]
) -> Float[Tensor, "N E T F"]:
    step = torch.arange(obs.shape[2])
    begun = torch.where(begins, step, 0).cummax(-1).values
    time = (step - begun).to(obs.dtype) / 100.0
    powers = torch.stack([time, time**2, time**3, torch.ones_like(time)], -1)
    return torch.cat([obs, obs.square(), powers], -1)


def likelihood_ratio_loss(
    log_probs: Float[Tensor, "N E T"],
    sampled_log_probs: Float[Tensor, "N E T"],
    advantages: Float[Tensor, "N E T"],
    mask: Bool[Tensor, "N E T"],
) -> Float[Tensor, " N"]:
    """Return the importance-weighted surrogate −E[π/π_old · A].

    Its gradient is the policy gradient. Unlike that of ``log_prob · A``, its second derivative
    estimates the Hessian of the return: with low variance, and with a bias, since products of two
    steps' scores are left out (arXiv 1810.06784, sec. 4 and 5).
    """
    ratio = torch.exp(log_probs - sampled_log_probs)
    return -masked_mean(ratio * advantages, mask)


def ppo_clip_loss(
    log_probs: Float[Tensor, "N E T"],
    sampled_log_probs: Float[Tensor, "N E T"],
    advantages: Float[Tensor, "N E T"],
    mask: Bool[Tensor, "N E T"],
    clip: float,
) -> Float[Tensor, " N"]:
    """Return the clipped surrogate of PPO (arXiv 1707.06347, eq. 7)."""
    ratio = torch.exp(log_probs - sampled_log_probs)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -masked_mean(torch.minimum(ratio * advantages, clipped * advantages), mask)
