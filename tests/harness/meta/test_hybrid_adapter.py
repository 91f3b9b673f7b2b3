"""memory+gradient: every shot both teaches the parameters and is remembered."""

import dataclasses

import numpy as np
import pytest
import torch

from harness.execution.cell import CellRunner
from harness.execution.local import LocalBackend
from harness.meta import learners
from harness.meta.adapters.gradient import inner_loss
from policies.params import repeat
from tests.harness.meta.meta_cases import collect, make_problem

BOTH = {"adapter": "memory+gradient", "inner_lr": 1.0}


@pytest.fixture(params=["ssm", "gru", "transformer"])
def problem(request):
    return make_problem(policy=request.param, adapt=BOTH, init_std=0.5)


def test_acting_and_learning_agree_after_a_shot_of_both(problem):
    """The likelihoods stored while acting are those of the recomputed, adapted, remembering one."""
    learner = learners.build(problem)
    payload = learner.policy_state(learner.init())
    (data,), _ = collect(problem, payload, jobs=1)
    params = repeat(payload.params, data.query.x.shape[0])
    (support,) = data.support
    loss = inner_loss(support.forward(problem.policy, leaves := _leaves(params)), support)
    adapted = learner.objective.adapter.step(leaves, loss, order=0)
    got = data.query.forward(problem.policy, adapted).head.log_prob(data.query.actions)
    torch.testing.assert_close(got, data.query.log_probs, atol=2e-4, rtol=0)
    unadapted = data.query.forward(problem.policy, params).head.log_prob(data.query.actions)
    assert (unadapted - data.query.log_probs).abs().max() > 1e-3


def test_the_query_goes_on_where_the_support_ended(problem):
    learner = learners.build(problem)
    (data,), _ = collect(problem, learner.policy_state(learner.init()), jobs=1)
    (support,), query = data.support, data.query
    assert support.first[..., 0].all()
    assert not query.first.any()
    assert any(part.abs().max() > 0 for part in query.memory)
    obs_dim, action_dim = problem.dist.spec.obs_dim, problem.dist.spec.action_dim
    past = slice(obs_dim, obs_dim + action_dim)
    assert not support.x[:, :, 0, past].any()
    last = support.actions[:, :, -1].clamp(-1, 1)
    torch.testing.assert_close(query.x[:, :, 0, past], last)


def test_both_parts_of_a_shot_change_what_is_scored():
    """Against the same weights scored with a step size of nothing: the memory alone."""
    problem = make_problem(policy="gru", adapt=BOTH, init_std=0.5)
    evaluation = dataclasses.replace(
        problem.config.evaluation, few_shot=(1,), episodes_per_shot=4, query_episodes=2
    )
    scores = {}
    for inner_lr in (1.0, 1e-12):
        adapt = dataclasses.replace(problem.config.adapt, inner_lr=inner_lr)
        config = dataclasses.replace(problem.config, adapt=adapt, evaluation=evaluation)
        runner = CellRunner(dataclasses.replace(problem, config=config), LocalBackend(config))
        host = runner.backend.start_learner(problem.cell, None)
        records = runner.evaluate(host, lambda done, jobs: None)
        assert {row.adapter for row in records} == {"memory+gradient"}
        assert {row.support_env_steps for row in records if row.shots} == {
            4 * problem.dist.spec.horizon
        }
        scores[inner_lr] = {
            shots: np.array([row.return_ for row in records if row.shots == shots])
            for shots in (0, 1)
        }
    assert (scores[1.0][0] == scores[1e-12][0]).all()
    assert (scores[1e-12][1] != scores[1e-12][0]).all()
    assert (scores[1.0][1] != scores[1e-12][1]).all()


def _leaves(params):
    return {name: value.clone().requires_grad_() for name, value in params.items()}
