"""Discrete actions through collecting, adapting and learning, on cartpole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import policies
from harness.config.schema import EvalConfig
from harness.conformance.learners import collect, iterate, make_setup
from harness.execution.jobs import Job
from harness.execution.scoring import reference
from harness.meta import learners
from harness.meta.adapters.base import Shot
from harness.meta.adapters.gradient import GradientAdapter
from harness.meta.learners.maml import MAMLData
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner
from harness.meta.rollouts.batch import Batch
from harness.meta.rollouts.episode_loop import Clock
from policies.mlp import MLPSettings
from policies.params import clone, repeat
from tests.harness.meta.meta_cases import dot, make_objective

CASES = [
    *((name, "mlp", {}) for name in learners.names() if not learners.spec(name).refuses_discrete),
    *(("maml", name, {}) for name in policies.names() if name != "mlp"),
    *(("rl2", name, {}) for name in ("ssm", "lstm", "transformer")),
    ("maml", "mlp", {"outer": "trpo"}),
]


@pytest.mark.parametrize(("learner", "policy", "settings"), CASES)
def test_an_iteration_learns(learner: str, policy: str, settings: dict):
    setup = make_setup(learner, task_dist="cartpole", policy=policy, **settings)
    state = learners.build(setup).init()
    before = clone(state.params)
    done = iterate(setup, state, jobs=2)
    assert "log_std" not in state.params
    assert all(math.isfinite(value) for value in done.info.values())
    assert done.info["invalid_episodes"] == 0
    assert 8 < done.pre_return < 60  # as long as a pole stands that nobody balances
    for name, value in state.params.items():
        assert value.isfinite().all()
        if not name.startswith("value") or setup.settings.baseline == "value":
            assert (value != before[name]).any(), name


def played(setup, tasks):
    """One adapting meta-episode on the training tasks ``tasks``, as maml collects it."""
    snapshot = learners.build(setup).init().snapshot()
    runner = MetaEpisodeRunner(setup.dist, setup.scoring_adapter(), setup.estimator(snapshot))
    plan = MetaEpisodePlan.for_training(
        seed=setup.cell.seed, iteration=0, seed_keys=tasks, shots=1, episodes=3
    )
    return runner.run(setup.tasks("train", tasks), setup.actor(snapshot), plan, Clock())


def test_actions_are_one_hot_and_their_probability_is_recorded():
    setup = make_setup("maml", task_dist="cartpole", policy="gru")
    outcome = played(setup, (0, 1, 2))
    episodes = outcome.episodes.support[0]
    taken = episodes.actions[episodes.mask]
    np.testing.assert_array_equal(np.sort(taken, -1), np.tile([0.0, 1.0], (len(taken), 1)))
    assert 0.3 < taken[:, 1].mean() < 0.7
    (batch,) = outcome.support
    again = batch.forward(setup.policy, outcome.samplers[0]).head.log_prob(batch.actions)
    torch.testing.assert_close(again[batch.mask], batch.log_probs[batch.mask], atol=1e-5, rtol=0)


def test_draws_do_not_depend_on_the_batch_they_are_in():
    setup = make_setup("maml", task_dist="cartpole")
    together = played(setup, (4, 7, 9)).episodes.support[0]
    alone = played(setup, (7,)).episodes.support[0]
    happened = alone.mask[0]  # a batch goes on until its last episode is over
    np.testing.assert_array_equal(together.mask[1], happened)
    np.testing.assert_array_equal(together.actions[1][happened], alone.actions[0][happened])
    np.testing.assert_allclose(together.obs[1][happened], alone.obs[0][happened])
    assert not np.array_equal(together.actions[0, :, :8], together.actions[1, :, :8])


def test_action_scale_means_nothing():
    unscaled, scaled = (
        played(make_setup("maml", task_dist="cartpole", action_scale=scale), (0, 1))
        for scale in (1.0, 0.1)
    )
    for a, b in zip(unscaled.support, scaled.support, strict=True):
        torch.testing.assert_close(a.x, b.x, atol=0, rtol=0)
    np.testing.assert_array_equal(
        unscaled.episodes.query[1].returns, scaled.episodes.query[1].returns
    )


def test_rl2_is_fed_the_choice_before_as_one_hot():
    setup = make_setup("rl2", task_dist="cartpole", policy="gru", action_scale=0.1)
    state = learners.build(setup).init()
    (kept,), _ = collect(setup, state.snapshot(), jobs=1)
    batch, obs_dim = kept.batch, setup.dist.spec.obs_dim
    previous = batch.x[..., obs_dim : obs_dim + 2]
    for row in range(batch.x.shape[1]):
        steps = int(batch.mask[0, row].sum())
        torch.testing.assert_close(
            previous[0, row, 1:steps], batch.actions[0, row, : steps - 1], atol=0, rtol=0
        )
    assert previous[batch.mask].sum(-1).unique().tolist() == [0.0, 1.0]


def test_the_meta_gradient_is_that_of_the_adapted_objective():
    """Central differences of the whole meta-objective, through the inner step."""
    settings = MLPSettings(hidden_dim=5)
    policy = policies.build("mlp", obs_dim=3, action_dim=3, discrete=True, settings=settings)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    params = {
        name: (10 if name == "mean.weight" else 1) * value.double() + 0.1 * draw(*value.shape)
        for name, value in policy.init_params(0).items()
    }
    direction = {name: draw(*value.shape) for name, value in params.items()}
    support, support_old = random_batch(policy, repeat(params, 2), draw)
    adapted = GradientAdapter(0.1).adapt(policy, params, Shot(support))
    query, query_old = random_batch(policy, adapted, draw)
    data = MAMLData((support,), query, (support_old.head,), query_old.head)
    objective = make_objective(policy, outer="trpo", inner_kl=0.7)

    def total(at) -> torch.Tensor:
        terms = objective.terms(at, data, create_graph=True)
        return (terms.query_loss + 0.7 * terms.inner_kl + terms.outer_kl).sum()

    start = {k: v + 0.05 * direction[k] for k, v in clone(params).items()}  # where no KL is 0
    leaves = clone(start, requires_grad=True)
    gradients = torch.autograd.grad(total(leaves), list(leaves.values()), allow_unused=True)
    got = dot({k: g for k, g in zip(leaves, gradients, strict=True) if g is not None}, direction)
    step = 1e-5
    sides = [
        total(clone({k: v + s * direction[k] for k, v in start.items()}, requires_grad=True)).item()
        for s in (step, -step)
    ]
    assert got == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-6)
    assert abs(got) > 1e-3


def random_batch(policy, params, draw):
    """Random inputs with actions drawn by ``params``; and what ``params`` put out on them."""
    x, first = draw(2, 2, 4, 3), torch.zeros(2, 2, 4, dtype=torch.bool)
    out = policy.forward(params, x, first, ())
    chosen = torch.nn.functional.one_hot(
        (out.action_params + draw(2, 2, 4, 3)).argmax(-1), 3
    ).double()
    log_probs = out.head.log_prob(chosen)
    mask = torch.ones(2, 2, 4, dtype=torch.bool)
    mask[0, 0, 2:] = False
    return Batch(x, first, chosen, log_probs, draw(2, 2, 4), mask), out


def test_reference_lines_are_action_0_and_a_fair_choice():
    setup = make_setup("maml", task_dist="cartpole")
    tasks = tuple(range(30))
    rows = reference(
        setup.dist, EvalConfig(), Job(setup.cell, "reference", 0, 0, "test", tasks, tasks), Clock()
    )
    zero, random = (
        np.array([row.return_ for row in rows if row.policy == line])
        for line in ("zero-action", "random-action")
    )
    assert zero.mean() < 20 < random.mean() < 60  # leaning on one side falls at once
