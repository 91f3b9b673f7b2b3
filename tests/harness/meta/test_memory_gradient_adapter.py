"""memory+gradient: every shot both changes the parameters and is remembered."""

import numpy as np
import pytest
import torch

from harness.config.schema import EvalConfig
from harness.conformance.learners import collect, make_setup
from harness.execution.jobs import Job
from harness.execution.scoring import evaluate
from harness.meta import learners
from harness.meta.adapters.gradient import GradientAdapter, inner_loss
from harness.meta.rollouts.episode_loop import Clock
from policies.params import repeat

BOTH = {"policy": "gru", "adapter": "memory+gradient", "init_std": 0.5}


@pytest.fixture(params=["ssm", "gru", "transformer"])
def setup(request):
    return make_setup("maml", **BOTH | {"policy": request.param, "inner_lr": 1.0})


def test_acting_and_learning_agree_after_a_shot_of_both(setup):
    """The likelihoods stored while acting are those of the recomputed, adapted, remembering one."""
    learner = learners.build(setup)
    payload = learner.init().snapshot()
    (data,), _ = collect(setup, payload, jobs=1)
    params = repeat(payload.params, data.query.x.shape[0])
    (support,) = data.support
    loss = inner_loss(support.forward(setup.policy, leaves := _leaves(params)), support)
    adapted = GradientAdapter(1.0).step(leaves, loss, order=0)
    got = data.query.forward(setup.policy, adapted).head.log_prob(data.query.actions)
    torch.testing.assert_close(got, data.query.log_probs, atol=2e-4, rtol=0)
    unadapted = data.query.forward(setup.policy, params).head.log_prob(data.query.actions)
    assert (unadapted - data.query.log_probs).abs().max() > 1e-3


def test_the_query_goes_on_where_the_support_ended(setup):
    learner = learners.build(setup)
    (data,), _ = collect(setup, learner.init().snapshot(), jobs=1)
    (support,), query = data.support, data.query
    assert support.first[..., 0].all()
    assert not query.first.any()
    assert any(part.abs().max() > 0 for part in query.memory)
    obs_dim, action_dim = setup.dist.spec.obs_dim, setup.dist.spec.action_dim
    past = slice(obs_dim, obs_dim + action_dim)
    assert not support.x[:, :, 0, past].any()
    last = support.actions[:, :, -1].clamp(-1, 1)
    torch.testing.assert_close(query.x[:, :, 0, past], last)


def test_both_parts_of_a_shot_change_what_is_scored():
    """Against the same weights scored with a step size of nothing: the memory alone."""
    evaluation = EvalConfig(few_shot=(1,), episodes_per_shot=4, query_episodes=2)
    tasks = tuple(range(6))
    scores = {}
    for inner_lr in (1.0, 1e-12):
        setup = make_setup("maml", **BOTH, inner_lr=inner_lr)
        job = Job(setup.cell, "evaluate", 0, 0, "test", tasks, tasks)
        snapshot = learners.build(setup).init().snapshot()
        records = evaluate(setup, evaluation, job, snapshot, Clock())
        assert {row.adapter for row in records} == {"memory+gradient"}
        assert {row.support_env_steps for row in records if row.shots} == {
            4 * setup.dist.spec.horizon
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
