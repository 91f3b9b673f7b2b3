"""The inner objective's meta-gradient on a bandit whose true meta-gradient is known.

a ~ N(theta, s²), reward −(a − goal)²: J(theta) = −(theta − goal)² − s², one step of size alpha
along dJ gives theta' = theta − 2 alpha (theta − goal), so
dJ(theta')/dtheta = −2 (theta' − goal) (1 − 2 alpha).
"""

import math

import torch

from harness.meta import objectives
from harness.meta.adapters.gradient import GradientAdapter
from policies.base import PolicyOutput

THETA, GOAL, STD, ALPHA = 0.5, 1.5, 0.8, 0.15
BATCHES, EPISODES = 40, 20_000
"""Large batches: within one, inner gradient and its derivative correlate, a bias of 1/EPISODES."""


def output(mean: torch.Tensor) -> PolicyOutput:
    log_std = torch.full((1, 1, 1, 1), math.log(STD), dtype=torch.float64)
    return PolicyOutput(mean, log_std, mean.squeeze(-1), (), mean)


def sample(mean: torch.Tensor, generator: torch.Generator):
    """Actions [N, E, 1, 1], their rewards less the mean reward, and log-probabilities."""
    shape = (BATCHES, EPISODES, 1, 1)
    actions = mean.detach() + STD * torch.randn(shape, generator=generator, dtype=torch.float64)
    rewards = -(actions - GOAL).square().squeeze(-1)
    advantages = rewards + (mean.detach().squeeze(-1) - GOAL).square() + STD**2
    return actions, advantages, output(mean.detach().expand(shape)).head.log_prob(actions)


def meta_gradients(naive: bool) -> torch.Tensor:
    """One estimate per batch (task), through the harness's own surrogate and inner step."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(BATCHES, EPISODES, 1, dtype=torch.bool)
    leaf = torch.full((BATCHES, 1, 1, 1), THETA, dtype=torch.float64, requires_grad=True)
    params = {"mean": leaf}

    def surrogate(mean: torch.Tensor, data, use_naive: bool) -> torch.Tensor:
        actions, advantages, sampled = data
        log_probs = output(mean.expand(BATCHES, EPISODES, 1, 1)).head.log_prob(actions)
        if use_naive:
            return -objectives.masked_mean(log_probs * advantages, mask)
        return objectives.likelihood_ratio_loss(log_probs, sampled, advantages, mask)

    support = sample(leaf, generator)
    adapted = GradientAdapter(ALPHA).step(params, surrogate(leaf, support, naive), order=2)["mean"]
    query = sample(adapted, generator)
    loss = surrogate(adapted, query, False).sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return -gradient.flatten()


def standard_errors_off(estimates: torch.Tensor) -> float:
    adapted = THETA - 2 * ALPHA * (THETA - GOAL)
    truth = -2 * (adapted - GOAL) * (1 - 2 * ALPHA)
    error = estimates.std() / math.sqrt(BATCHES)
    assert error < 0.01
    return float((estimates.mean() - truth).abs() / error)


def test_likelihood_ratio_has_the_true_meta_gradient():
    assert standard_errors_off(meta_gradients(naive=False)) < 4


def test_log_prob_times_advantage_has_not():
    """Its second derivative loses the square of the score: here it takes dtheta'/dtheta for 1."""
    estimates = meta_gradients(naive=True)
    assert standard_errors_off(estimates) > 30
    assert 1.3 < float(estimates.mean()) < 1.5
