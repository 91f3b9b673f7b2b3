"""Returns, advantages and surrogates against plain Python, torch.distributions and by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.meta import objectives
from policies.base import PolicyOutput


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gae_by_hand(rewards, values, after, gamma, lam) -> list[float]:
    """One episode of steps that happened."""
    following = [*values[1:], after]
    advantage, out = 0.0, []
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * following[t] - values[t]
        advantage = delta + gamma * lam * advantage
        out.append(advantage)
    return out[::-1]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=2, max_size=2),
    terminated=st.booleans(),
    gamma=st.floats(0.0, 1.0),
    lam=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_gae_equals_the_plain_loop(lengths, terminated, gamma, lam, seed):
    """Full, early-ended and empty episodes, terminated or bootstrapped; padding holds garbage."""
    rewards, at, after = (draw(*s, seed=seed + i) for i, s in enumerate([(1, 2, 5)] * 2 + [(1, 2)]))
    if terminated:
        after = torch.zeros_like(after)
    mask = torch.arange(5) < torch.tensor(lengths)[None, :, None]
    got = objectives.gae(rewards, mask, objectives.Values(at, after), gamma, lam)
    for e, length in enumerate(lengths):
        steps = rewards[0, e, :length].tolist(), at[0, e, :length].tolist()
        expected = gae_by_hand(*steps, float(after[0, e]), gamma, lam)
        assert got[0, e, :length].tolist() == pytest.approx(expected, abs=1e-12)
        assert (got[0, e, length:] == 0).all()


def test_discounted_returns_with_and_without_bootstrap():
    rewards = torch.tensor([[[1.0, 2.0, 4.0]]])
    assert objectives.discounted_returns(rewards, 0.5).tolist() == [[[3.0, 4.0, 4.0]]]
    last = torch.tensor([[8.0]])
    assert objectives.discounted_returns(rewards, 0.5, last).tolist() == [[[4.0, 6.0, 8.0]]]


def test_gae_with_lambda_one_is_return_minus_value():
    rewards, at, after = draw(2, 3, 6), draw(2, 3, 6, seed=1), draw(2, 3, seed=2)
    mask = torch.ones(2, 3, 6, dtype=torch.bool)
    got = objectives.gae(rewards, mask, objectives.Values(at, after), 0.9, 1.0)
    expected = objectives.discounted_returns(rewards, 0.9, after) - at
    torch.testing.assert_close(got, expected)


def test_masked_mean_of_nothing_is_zero_and_ignores_nan():
    x = torch.tensor([[[1.0, 3.0, math.nan]], [[math.nan] * 3]])
    mask = torch.tensor([[[True, True, False]], [[False] * 3]])
    assert objectives.masked_mean(x, mask).tolist() == [2.0, 0.0]


def test_normalized_is_standard_per_task_over_the_steps_that_happened():
    x = draw(3, 4, 5) * torch.tensor([1.0, 100.0, 1e-3])[:, None, None] + 7
    mask = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    got = objectives.normalized(x, mask)
    for n in range(3):
        steps = got[n][mask[n]]
        assert float(steps.mean()) == pytest.approx(0, abs=1e-9)
        assert float(steps.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert (got[~mask] == 0).all()


def linear_case():
    """Returns that are linear in the features, of different weights per task."""
    obs, mask = draw(2, 6, 8, 2), torch.ones(2, 6, 8, dtype=torch.bool)
    mask[:, 0, 5:] = False
    time = torch.arange(8, dtype=torch.float64) / 100
    shape = 3 + obs @ torch.tensor([1.0, -2.0]).double() + obs.square().sum(-1) + 50 * time**2
    return obs, torch.stack([shape[0], -4 * shape[1]]), mask


def one_episode(mask):
    """Begins at the first step of every sequence."""
    return torch.arange(mask.shape[-1]).eq(0).expand_as(mask)


def test_linear_baseline_recovers_a_linear_return_of_each_task():
    obs, returns, mask = linear_case()
    got = objectives.linear_baseline(obs, returns, mask, one_episode(mask))
    assert (got - returns)[mask].std() < 0.01 * returns[mask].std()
    exact = objectives.linear_baseline(obs, returns, mask, one_episode(mask), ridge=1e-12)
    torch.testing.assert_close(exact[mask], returns[mask], atol=1e-6, rtol=0)


def test_linear_baseline_does_not_fit_padded_steps():
    obs, returns, mask = linear_case()
    before = objectives.linear_baseline(obs, returns, mask, one_episode(mask))
    obs[~mask], returns[~mask] = 55.0, -1e4
    assert torch.equal(
        objectives.linear_baseline(obs, returns, mask, one_episode(mask))[mask], before[mask]
    )


def test_one_episode_per_task_still_has_advantages():
    """The 1-shot trap: a mean over episodes would be the one episode itself."""
    rewards, obs = draw(3, 1, 25), draw(3, 1, 25, 2, seed=1)
    mask = torch.ones(3, 1, 25, dtype=torch.bool)
    returns = objectives.discounted_returns(rewards, 0.99)
    at = objectives.linear_baseline(obs, returns, mask, one_episode(mask))
    values = objectives.Values(at, torch.zeros(3, 1, dtype=torch.float64))
    advantages = objectives.normalized(objectives.gae(rewards, mask, values, 0.99, 1.0), mask)
    assert (advantages.abs().mean((1, 2)) > 0.3).all()


def gaussians() -> tuple[PolicyOutput, PolicyOutput]:
    return tuple(
        PolicyOutput(
            draw(2, 3, 4, 5, seed=s),
            draw(m, 1, 1, 5, seed=s + 9),
            draw(2, 3, 4),
            (),
            draw(2, 3, 4, 6),
        )
        for s, m in ((0, 1), (1, 2))
    )


def as_torch(out: PolicyOutput) -> torch.distributions.Distribution:
    std = out.log_std.exp().expand_as(out.action_params)
    return torch.distributions.Independent(torch.distributions.Normal(out.action_params, std), 1)


def test_log_prob_and_kl_equal_torch_distributions():
    old, new = gaussians()
    actions = draw(2, 3, 4, 5, seed=7)
    for out in (old, new):
        torch.testing.assert_close(out.head.log_prob(actions), as_torch(out).log_prob(actions))
    for p, q in ((old, new), (new, old)):
        expected = torch.distributions.kl_divergence(as_torch(p), as_torch(q))
        torch.testing.assert_close(p.head.kl(q.head), expected)
    assert old.head.kl(old.head).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 2.0, -2.0),
        (1.5, 2.0, -2.6),  # a good action pushed up far enough
        (0.5, 2.0, -1.0),
        (1.5, -2.0, 3.0),
        (0.5, -2.0, 1.4),  # a bad action pushed down far enough
    ],
)
def test_ppo_clip_by_hand(ratio, advantage, loss):
    log_probs = torch.tensor([[[math.log(ratio), 5.0]]])
    sampled = torch.zeros(1, 1, 2)
    advantages, mask = torch.tensor([[[advantage, 9.0]]]), torch.tensor([[[True, False]]])
    got = objectives.ppo_clip_loss(log_probs, sampled, advantages, mask, clip=0.3)
    assert got.item() == pytest.approx(loss)


def test_ppo_clip_stops_the_gradient_beyond_the_clip_only():
    log_probs = torch.tensor([[[math.log(1.5)] * 2]], requires_grad=True)
    advantages, mask = torch.tensor([[[2.0, -2.0]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    loss = objectives.ppo_clip_loss(log_probs, torch.zeros(1, 1, 2), advantages, mask, clip=0.3)
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    assert gradient.flatten().tolist() == pytest.approx([0.0, 1.5])


def test_likelihood_ratio_loss_has_the_policy_gradient():
    log_probs = draw(2, 2, 3).requires_grad_()
    advantages, mask = draw(2, 2, 3, seed=1), torch.ones(2, 2, 3, dtype=torch.bool)
    loss = objectives.likelihood_ratio_loss(log_probs, log_probs.detach(), advantages, mask)
    torch.testing.assert_close(loss, -advantages.mean((1, 2)))
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    torch.testing.assert_close(gradient, -advantages / 6)
