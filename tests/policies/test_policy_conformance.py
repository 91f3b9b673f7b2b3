"""The contract of every registered policy, at default and other settings."""

import math
import pickle

import pytest
import torch

import policies
from policies.lstm import LSTMSettings
from policies.params import cast, clone, num_params, repeat, select
from tests.policies.policy_cases import (
    ACTION_DIM,
    BATCH,
    CASES,
    STEPS,
    TASKS,
    close,
    make,
    make_inputs,
    own_params,
    same_output,
    step_through,
    used_memory,
)

MODEL_SIZES = [(2, 2), (17, 6), (27, 8), (39, 4)]


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


def test_shapes(name):
    policy = make(name)
    x, first = make_inputs()
    memory = policy.initial_memory(TASKS, BATCH, x)
    for params, sets in ((policy.init_params(0), 1), (own_params(policy), TASKS)):
        out = policy.forward(params, x, first, memory)
        assert out.action_params.shape == (TASKS, BATCH, STEPS, ACTION_DIM)
        assert out.value.shape == (TASKS, BATCH, STEPS)
        assert out.log_std.shape == (sets, 1, 1, ACTION_DIM)
        assert [m.shape for m in out.memory] == [m.shape for m in memory]
        assert all(m.shape[:2] == (TASKS, BATCH) for m in memory)


@pytest.mark.parametrize("resets", [0.0, 0.15, 1.0])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("graph", [False, True], ids=["acting", "graph"])
def test_unrolling_equals_stepping(name, resets, shared, graph):
    policy = make(name)
    params = own_params(policy)
    memory = used_memory(policy, params)
    if shared:
        params = select(params, slice(1))
    x, first = make_inputs(resets=resets)
    params = clone(params, requires_grad=graph)
    same_output(
        policy.forward(params, x, first, memory), step_through(policy, params, x, first, memory)
    )


def test_unrolling_in_two_parts_equals_one(name):
    policy = make(name)
    params = own_params(policy)
    x, first = make_inputs()
    memory = used_memory(policy, params)
    whole = policy.forward(params, x, first, memory)
    head = policy.forward(params, x[:, :, :9], first[:, :, :9], memory)
    tail = policy.forward(params, x[:, :, 9:], first[:, :, 9:], head.memory)
    close(torch.cat([head.action_params, tail.action_params], 2), whole.action_params)
    for a, b in zip(tail.memory, whole.memory, strict=True):
        close(a, b)


def test_first_resets_memory_before_its_step(name):
    policy = make(name)
    params = own_params(policy)
    x, first = make_inputs(resets=0.0)
    first[:, :, 11] = True
    used = policy.forward(params, x, first, used_memory(policy, params))
    fresh = policy.forward(
        params, x[:, :, 11:], first[:, :, 11:] & False, policy.initial_memory(TASKS, BATCH, x)
    )
    close(used.action_params[:, :, 11:], fresh.action_params)
    close(used.value[:, :, 11:], fresh.value)


def test_memory_matters(name):
    policy = make(name)
    params = own_params(policy)
    x, first = make_inputs(resets=0.0)
    used = policy.forward(params, x, first, used_memory(policy, params))
    fresh = policy.forward(params, x, first, policy.initial_memory(TASKS, BATCH, x))
    differs = bool((used.action_params[:, :, 0] - fresh.action_params[:, :, 0]).abs().max() > 1e-3)
    assert differs is not name.startswith("mlp")


@pytest.mark.parametrize("graph", [False, True], ids=["acting", "graph"])
def test_nan_ends_with_its_episode(name, graph):
    policy = make(name)
    params = clone(own_params(policy), requires_grad=graph)
    x, first = make_inputs(steps=1, resets=0.0)
    memory = tuple(torch.full_like(m, math.nan) for m in used_memory(policy, params))
    out, kept = (policy.forward(params, x, resets, memory) for resets in (~first, first))
    assert out.action_params.isfinite().all()
    assert all(m.isfinite().all() for m in out.memory)
    assert kept.action_params.isnan().all() or not memory


def test_own_params_equal_separate_runs(name):
    policy = make(name)
    params = own_params(policy)
    x, first = make_inputs()
    memory = used_memory(policy, params)
    together = policy.forward(params, x, first, memory)
    for task in range(TASKS):
        at = slice(task, task + 1)
        alone = policy.forward(select(params, at), x[at], first[at], tuple(m[at] for m in memory))
        close(together.action_params[at], alone.action_params)
        close(together.value[at], alone.value)


@pytest.mark.parametrize("steps", [1, STEPS])
def test_shared_params_equal_repeated_ones(name, steps):
    policy = make(name)
    params = select(own_params(policy), slice(1))
    x, first = make_inputs(steps=steps)
    memory = used_memory(policy, params)
    same_output(
        policy.forward(params, x, first, memory),
        policy.forward(repeat(params, TASKS), x, first, memory),
    )


def test_sequences_do_not_see_each_other_nor_the_future(name):
    policy = make(name)
    params = {key: value.requires_grad_() for key, value in own_params(policy).items()}
    x, first = make_inputs()
    x.requires_grad_()
    out = policy.forward(params, x, first & False, used_memory(policy, params))
    (grad,) = torch.autograd.grad(out.action_params[1, 2, 10].sum(), x)
    seen = grad.abs().sum(-1) > 0
    assert seen[1, 2, 10]
    seen[1, 2, :11] = False
    assert not seen.any()


def test_dtype_follows_the_params(name):
    policy = make(name)
    x, first = make_inputs(torch.float64)
    params = cast(policy.init_params(0), torch.float64)
    out = policy.forward(params, x, first, policy.initial_memory(TASKS, BATCH, x))
    for tensor in (out.action_params, out.log_std, out.value, *out.memory):
        assert tensor.dtype == torch.float64
    single = policy.forward(
        cast(params, torch.float32),
        x.float(),
        first,
        policy.initial_memory(TASKS, BATCH, x.float()),
    )
    close(single.action_params.double(), out.action_params)


def test_parameters_are_a_function_of_the_seed_alone(name):
    policy = make(name)
    torch.manual_seed(0)
    one = policy.init_params(5)
    state = torch.get_rng_state()
    torch.rand(3)
    two, other = make(name).init_params(5), policy.init_params(6)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())


def test_first_actions_are_near_zero_with_the_std_asked_for(name):
    policy = make(name, init_std=0.6)
    x, first = make_inputs()
    params = policy.init_params(0)
    out = policy.forward(params, x, first, policy.initial_memory(TASKS, BATCH, x))
    assert out.action_params.abs().max() < 0.2
    close(out.log_std.exp(), torch.full_like(out.log_std, 0.6))


def test_pickles(name):
    policy = make(name)
    params = own_params(policy)
    x, first = make_inputs()
    memory = used_memory(policy, params)
    again = pickle.loads(pickle.dumps(policy))
    assert again == policy
    same_output(
        policy.forward(params, x, first, memory),
        again.forward(params, x, first, pickle.loads(pickle.dumps(memory))),
        atol=0.0,
    )


def test_inputs_are_left_alone(name):
    policy = make(name)
    params = own_params(policy)
    for steps in (1, STEPS):
        x, first = make_inputs(steps=steps)
        memory = used_memory(policy, params)
        before = pickle.dumps((params, x, first, memory))
        with torch.no_grad():
            policy.forward(params, x, first, memory)
        assert pickle.dumps((params, x, first, memory)) == before


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
    with pytest.raises(ValueError, match=r"unknown policy 'mamba'; choose from: .*ssm"):
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
