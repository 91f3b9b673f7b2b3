"""MAML's own: the sizes of an iteration, TRPO's products over jobs, contradicting settings."""

import pytest
import torch

from harness.conformance.learners import collect, make_setup
from harness.meta import learners
from harness.meta.cell_setup import Budget
from harness.meta.learners.maml import MAMLSettings
from harness.meta.learners.trpo import HessianVectorRequest
from harness.meta.rollouts.episode_loop import Clock
from tests.harness.meta.meta_cases import directions, moved


@pytest.mark.parametrize("steps", [1, 3])
def test_every_inner_step_costs_a_batch(steps):
    learner = learners.build(make_setup("maml", adaptation_steps=steps))
    assert learner.episodes_per_iteration == 4 * 3 * (1 + steps)


def test_hessian_vector_products_of_jobs_add_up():
    setup = make_setup("maml", outer="trpo")
    learner = learners.build(setup)
    snapshot = learner.init().snapshot()
    whole, quarters = (collect(setup, snapshot, jobs)[0] for jobs in (1, 4))
    payload = HessianVectorRequest(moved(snapshot.params), directions(snapshot.params, 1))
    one = learner.compute(whole[0], payload, Clock()).gradient
    parts = [learner.compute(data, payload, Clock()).gradient for data in quarters]
    for key, value in one.items():
        torch.testing.assert_close(sum(p[key] for p in parts), value, rtol=1e-4, atol=1e-5)
    assert max(value.abs().max() for value in one.values()) > 1e-4


def test_trpo_with_a_value_head_is_refused():
    with pytest.raises(ValueError, match=r"baseline.*value.*linear"):
        MAMLSettings(outer="trpo", baseline="value")


def test_a_budget_ends_at_the_first_limit():
    budget = Budget(env_steps=1000, meta_iterations=10)
    assert budget.fraction_done(2, 500) == 0.5
    assert budget.fraction_done(12, 500) == 1.0
    assert [budget.exhausted(*at) for at in ((9, 999), (10, 0), (0, 1000))] == [False, True, True]
    assert (budget.iterations(300), budget.iterations(50)) == (4, 10)
    assert Budget(meta_iterations=0).exhausted(0, 0)
    with pytest.raises(ValueError, match="env_steps"):
        Budget()
