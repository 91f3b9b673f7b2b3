"""Every registered policy keeps its contract, at default and other settings."""

import math

import pytest
import torch

import policies
from harness.conformance import policy_suite
from harness.conformance.policies import BATCH, TASKS, make_inputs, own_params, used_memory
from policies.lstm import LSTMSettings
from policies.params import clone, num_params
from tests.policies.policy_cases import CASES, make

MODEL_SIZES = [(2, 2), (17, 6), (27, 8), (39, 4)]

for case, settings in CASES.items():
    globals()[f"Test_{case}"] = policy_suite(case.partition("-")[0], **settings)


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


def test_first_actions_are_near_zero(name):
    policy = make(name)
    x, first = make_inputs()
    params = policy.init_params(0)
    out = policy.forward(params, x, first, policy.initial_memory(TASKS, BATCH, x))
    assert out.action_params.abs().max() < 0.2


@pytest.mark.parametrize("graph", [False, True], ids=["acting", "graph"])
def test_a_nan_in_memory_is_seen_until_the_reset(name, graph):
    policy = make(name)
    params = clone(own_params(policy), requires_grad=graph)
    x, first = make_inputs(steps=1, resets=0.0)
    memory = tuple(torch.full_like(m, math.nan) for m in used_memory(policy, params))
    kept = policy.forward(params, x, first, memory)
    assert kept.action_params.isnan().all() or not memory


@pytest.mark.parametrize("sizes", MODEL_SIZES, ids=str)
@pytest.mark.parametrize("history", [False, True])
def test_policies_with_memory_are_of_equal_size(sizes, history):
    obs_dim, action_dim = sizes
    obs_dim += action_dim + 2 if history else 0
    counts = {
        name: num_params(
            policies.build(name, obs_dim=obs_dim, action_dim=action_dim).init_params(0)
        )
        for name in set(policies.names()) - {"mlp"}
    }
    assert max(counts.values()) <= 1.1 * min(counts.values()), counts


def test_unknown_names_and_bad_sizes_are_refused():
    with pytest.raises(ValueError, match=r"unknown policy 'mamba'; choose from: ssm"):
        policies.build("mamba", obs_dim=2, action_dim=2)
    with pytest.raises(ValueError, match="init_std is -1"):
        make("gru", init_std=-1.0)
    with pytest.raises(ValueError, match="obs_dim is 0"):
        policies.build("gru", obs_dim=0, action_dim=2)
    with pytest.raises(TypeError, match="GRUSettings"):
        policies.build("gru", obs_dim=2, action_dim=2, settings=LSTMSettings())


def test_wrong_width_or_task_count_is_refused(name):
    policy = make(name)
    x, first = make_inputs()
    memory = policy.initial_memory(TASKS, BATCH, x)
    with pytest.raises(ValueError, match="I = 5"):
        policy.forward(policy.init_params(0), x[..., :4], first, memory)
    with pytest.raises(ValueError, match="1 or N sets"):
        policy.forward(own_params(policy, 2), x, first, memory)
