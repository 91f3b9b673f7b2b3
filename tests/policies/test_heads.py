"""Both action distributions against torch's, and draws against their distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence

import policies
from policies import heads
from policies.base import PolicyOutput
from policies.heads import Categorical, Gaussian
from policies.params import num_params

ACTIONS = 3


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def outputs(discrete: bool) -> list[PolicyOutput]:
    return [
        PolicyOutput(
            2 * draw(2, 3, 4, ACTIONS, seed=seed),
            None if discrete else draw(sets, 1, 1, ACTIONS, seed=seed + 9),
            draw(2, 3, 4),
            (),
            draw(2, 3, 4, 6),
        )
        for seed, sets in ((0, 1), (1, 2))
    ]


def as_torch(out: PolicyOutput) -> torch.distributions.Distribution:
    if out.discrete:
        return TorchCategorical(logits=out.action_params)
    return Independent(Normal(out.action_params, out.log_std.exp().expand_as(out.action_params)), 1)


@pytest.mark.parametrize("discrete", [False, True])
def test_kl_and_entropy_equal_torchs(discrete: bool):
    old, new = outputs(discrete)
    mask = draw(2, 3, 4, seed=3) > -0.5
    for p, q in ((old, new), (new, old)):
        torch.testing.assert_close(p.head.kl(q.head), kl_divergence(as_torch(p), as_torch(q)))
        each = as_torch(p).entropy()
        expected = torch.stack([each[n][mask[n]].mean() for n in range(2)])
        torch.testing.assert_close(p.head.entropy(mask).expand(2), expected)
    assert old.head.kl(old.head).abs().max() < 1e-12


def test_log_probs_of_all_actions_sum_to_one():
    for out in outputs(discrete=True):
        rows = torch.eye(ACTIONS, dtype=torch.float64).expand(2, 3, 4, ACTIONS, ACTIONS)
        each = [out.head.log_prob(rows[..., action, :]) for action in range(ACTIONS)]
        torch.testing.assert_close(
            torch.stack(each).exp().sum(0), torch.ones(2, 3, 4, dtype=torch.float64)
        )
        torch.testing.assert_close(each[1], as_torch(out).log_prob(torch.tensor(1)))


def test_curvature_of_the_kl_is_the_fisher_information():
    """Its gradient is 0 where the two meet; its second derivative is diag(p) − p pᵀ (TRPO)."""
    logits = draw(1, 1, 1, ACTIONS).requires_grad_()
    old = Categorical(logits.detach().clone())
    kl = lambda x: old.kl(Categorical(x)).sum()  # noqa: E731
    (gradient,) = torch.autograd.grad(kl(logits), logits)
    assert gradient.abs().max() < 1e-12
    p = torch.softmax(logits.detach().flatten(), 0)
    hessian = torch.autograd.functional.hessian(kl, logits.detach()).reshape(ACTIONS, ACTIONS)
    torch.testing.assert_close(hessian, torch.diag(p) - torch.outer(p, p))
    assert torch.autograd.gradgradcheck(kl, (logits,))


def test_draw_frequencies_equal_the_softmax():
    count, logits = 200_000, torch.tensor([1.0, -0.5, 0.3])
    noise = heads.noise(np.random.default_rng(0), (1, count, ACTIONS), discrete=True)
    mean = logits.expand(1, count, ACTIONS)
    actions, log_probs = heads.sampler(None).draw(mean, noise)
    p = torch.softmax(logits, 0).numpy()
    error = np.sqrt(p * (1 - p) / count)
    np.testing.assert_array_less(np.abs(actions.mean((0, 1)) - p), 4 * error)
    np.testing.assert_array_equal(np.sort(actions, -1)[0], np.tile([0.0, 0.0, 1.0], (count, 1)))
    expected = Categorical(mean.unsqueeze(2)).log_prob(torch.from_numpy(actions).unsqueeze(2))
    np.testing.assert_allclose(log_probs, expected[..., 0], rtol=1e-6)
    assert log_probs.dtype == actions.dtype == np.float32


def test_gaussian_draws_come_with_their_log_density():
    log_std = torch.tensor([0.3, -1.0, 0.0]).reshape(1, 1, 1, ACTIONS)
    mean = draw(2, 5, ACTIONS).float()
    noise = heads.noise(np.random.default_rng(0), (2, 5, ACTIONS), discrete=False)
    sampler = heads.sampler(log_std)
    actions, log_probs = sampler.draw(mean, noise)
    expected = Gaussian(mean.unsqueeze(2), log_std).log_prob(torch.from_numpy(actions).unsqueeze(2))
    np.testing.assert_allclose(log_probs, expected[..., 0], rtol=1e-5)
    np.testing.assert_array_equal(sampler.mode(mean), mean)


def test_the_mode_is_the_most_likely_action_and_nan_gives_none():
    mean = torch.tensor([[[0.1, 0.3, 0.2], [5.0, torch.nan, 0.0], [torch.inf, 0.0, 0.0]]])
    sampler = heads.sampler(None)
    drawn, _ = sampler.draw(mean, np.zeros((1, 3, ACTIONS), np.float32))
    for actions in (sampler.mode(mean), drawn):
        np.testing.assert_array_equal(actions[0, 0], [0.0, 1.0, 0.0])
        assert np.isnan(actions[0, 1:]).all()


@pytest.mark.parametrize("name", policies.names())
def test_discrete_policies_have_no_standard_deviation(name: str):
    sizes = {"obs_dim": 4, "action_dim": 2}
    numbers, choice = (policies.build(name, **sizes, discrete=d) for d in (False, True))
    params = choice.init_params(0)
    assert num_params(numbers.init_params(0)) - num_params(params) == 2
    for key, value in params.items():
        torch.testing.assert_close(value, numbers.init_params(0)[key])
    x, first = draw(1, 5, 6, 4).float(), torch.zeros(1, 5, 6, dtype=torch.bool)
    out = choice.forward(params, x, first, choice.initial_memory(1, 5, x))
    assert out.discrete
    assert out.log_std is None
    probabilities = torch.softmax(out.action_params, -1)
    assert (probabilities - 0.5).abs().max() < 0.05  # no preference initially
