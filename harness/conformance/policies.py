"""What every policy keeps: shapes, resets, independence of tasks and of the future, derivatives."""

from __future__ import annotations

import itertools
import math
import pickle

import torch
from torch import Tensor

import policies
from harness.conformance.suite import Suite
from policies.base import Memory, Params, Policy, PolicyOutput
from policies.params import cast, clone, repeat, select

OBS_DIM, ACTION_DIM = 5, 2
TASKS, BATCH, STEPS = 3, 4, 23


def own_params(policy: Policy, tasks: int = TASKS, dtype: torch.dtype = torch.float32) -> Params:
    """Return different parameters for every task, with a mean head large enough to see."""
    parts = [policy.init_params(seed) for seed in range(tasks)]
    params = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if "mean.weight" in params:
        params["mean.weight"] = params["mean.weight"] * 50
    generator = torch.Generator().manual_seed(99)
    return {
        name: (value + 0.05 * torch.randn(value.shape, generator=generator)).to(dtype)
        for name, value in params.items()
    }


def make_inputs(
    dtype: torch.dtype = torch.float32, steps: int = STEPS, resets: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Return random inputs [N, B, T, I], and where memory is reset [N, B, T]."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(TASKS, BATCH, steps, OBS_DIM, generator=generator).to(dtype)
    first = torch.rand(TASKS, BATCH, steps, generator=generator) < resets
    return x, first


def used_memory(policy: Policy, params: Params, dtype: torch.dtype = torch.float32) -> Memory:
    """Return a memory from the middle of an episode."""
    x, first = make_inputs(dtype, steps=4, resets=0.0)
    memory = policy.initial_memory(TASKS, BATCH, x)
    return tuple(m.detach() for m in policy.forward(params, x + 1, first, memory).memory)


def step_through(
    policy: Policy, params: Params, x: Tensor, first: Tensor, memory: Memory
) -> PolicyOutput:
    """Return the output of T calls with one step each."""
    outs: list[PolicyOutput] = []
    for t in range(x.shape[2]):
        before = outs[-1].memory if outs else memory
        outs.append(policy.forward(params, x[:, :, t : t + 1], first[:, :, t : t + 1], before))
    action_params, value, features = (
        torch.cat([getattr(out, name) for out in outs], 2)
        for name in ("action_params", "value", "features")
    )
    return PolicyOutput(action_params, outs[-1].log_std, value, outs[-1].memory, features)


def close(left: Tensor, right: Tensor, atol: float = 1e-5) -> None:
    """Raise AssertionError unless two tensors are equal up to ``atol``."""
    torch.testing.assert_close(left, right, atol=atol, rtol=0)


def same_output(left: PolicyOutput, right: PolicyOutput, atol: float = 1e-5) -> None:
    """Raise AssertionError unless two outputs are equal up to ``atol``, memory included."""
    close(left.action_params, right.action_params, atol)
    close(left.value, right.value, atol)
    close(left.features, right.features, atol)
    assert len(left.memory) == len(right.memory)
    for a, b in zip(left.memory, right.memory, strict=True):
        close(a, b, atol)


def meta_objective(
    policy: Policy, params: Params, data: tuple[Tensor, Tensor], memory: Memory
) -> Tensor:
    """Return a loss after one inner gradient step on another: the shape of MAML."""
    x, first = data

    def loss(values: Params, shift: float) -> Tensor:
        out = policy.forward(values, x + shift, first, memory)
        assert out.log_std is not None
        spread = (out.log_std + shift).exp().sum()
        return (out.action_params.sin().sum() + out.value.square().sum()) / x.shape[2] + spread

    grads = torch.autograd.grad(loss(params, 0.0), list(params.values()), create_graph=True)
    adapted = {
        key: value - 0.1 * grad for (key, value), grad in zip(params.items(), grads, strict=True)
    }
    return loss(adapted, 0.3)


class PolicySuite(Suite):
    """The tests of a policy."""

    def make(self, *, discrete: bool = False, init_std: float = 1.0) -> Policy:
        """Build it, for 5 inputs and 2 actions."""
        return policies.build(
            self.name,
            obs_dim=OBS_DIM,
            action_dim=ACTION_DIM,
            discrete=discrete,
            init_std=init_std,
            settings=policies.settings_class(self.name)(**self.settings),
        )

    def test_its_outputs_have_the_documented_shapes(self) -> None:
        policy = self.make()
        x, first = make_inputs()
        memory = policy.initial_memory(TASKS, BATCH, x)
        for params, sets in ((policy.init_params(0), 1), (own_params(policy), TASKS)):
            assert all(value.shape[0] == sets for value in params.values())
            out = policy.forward(params, x, first, memory)
            assert out.action_params.shape == (TASKS, BATCH, STEPS, ACTION_DIM)
            assert out.value.shape == (TASKS, BATCH, STEPS)
            assert out.features.shape[:3] == (TASKS, BATCH, STEPS)
            assert out.log_std is not None
            assert out.log_std.shape == (sets, 1, 1, ACTION_DIM)
            assert [m.shape for m in out.memory] == [m.shape for m in memory]
            assert all(m.shape[:2] == (TASKS, BATCH) for m in memory)

    def test_discrete_actions_are_logits_without_a_deviation(self) -> None:
        policy = self.make(discrete=True)
        x, first = make_inputs()
        memory = policy.initial_memory(TASKS, BATCH, x)
        out = policy.forward(policy.init_params(0), x, first, memory)
        assert policy.discrete
        assert out.log_std is None
        assert out.action_params.shape == (TASKS, BATCH, STEPS, ACTION_DIM)

    def test_it_says_its_sizes(self) -> None:
        policy = self.make()
        assert isinstance(policy, Policy)
        assert (policy.input_dim, policy.action_dim, policy.discrete) == (5, 2, False)

    def test_unrolling_equals_stepping(self) -> None:
        policy = self.make()
        for resets, shared, graph in itertools.product(
            (0.0, 0.15, 1.0), (False, True), (False, True)
        ):
            params = own_params(policy)
            memory = used_memory(policy, params)
            if shared:
                params = select(params, slice(1))
            params = clone(params, requires_grad=graph)  # acting may take another path
            x, first = make_inputs(resets=resets)
            whole = policy.forward(params, x, first, memory)
            same_output(whole, step_through(policy, params, x, first, memory))

    def test_unrolling_in_two_parts_equals_one(self) -> None:
        policy = self.make()
        params = own_params(policy)
        x, first = make_inputs()
        memory = used_memory(policy, params)
        whole = policy.forward(params, x, first, memory)
        head = policy.forward(params, x[:, :, :9], first[:, :, :9], memory)
        tail = policy.forward(params, x[:, :, 9:], first[:, :, 9:], head.memory)
        close(torch.cat([head.action_params, tail.action_params], 2), whole.action_params)
        for a, b in zip(tail.memory, whole.memory, strict=True):
            close(a, b)

    def test_first_resets_memory_before_its_step(self) -> None:
        policy = self.make()
        params = own_params(policy)
        x, first = make_inputs(resets=0.0)
        first[:, :, 11] = True
        used = policy.forward(params, x, first, used_memory(policy, params))
        rest = first[:, :, 11:] & False
        fresh = policy.forward(params, x[:, :, 11:], rest, policy.initial_memory(TASKS, BATCH, x))
        close(used.action_params[:, :, 11:], fresh.action_params)
        close(used.value[:, :, 11:], fresh.value)

    def test_its_memory_matters_if_it_has_one(self) -> None:
        policy = self.make()
        params = own_params(policy)
        x, first = make_inputs(resets=0.0)
        used = policy.forward(params, x, first, used_memory(policy, params))
        fresh = policy.forward(params, x, first, policy.initial_memory(TASKS, BATCH, x))
        change = (used.action_params[:, :, 0] - fresh.action_params[:, :, 0]).abs().max()
        assert bool(change > 1e-3) is bool(used.memory)

    def test_nan_ends_with_its_episode(self) -> None:
        policy = self.make()
        for graph in (False, True):
            params = clone(own_params(policy), requires_grad=graph)
            x, first = make_inputs(steps=1, resets=0.0)
            memory = tuple(torch.full_like(m, math.nan) for m in used_memory(policy, params))
            out = policy.forward(params, x, ~first, memory)
            assert out.action_params.isfinite().all()
            assert all(m.isfinite().all() for m in out.memory)

    def test_own_parameters_equal_separate_runs(self) -> None:
        policy = self.make()
        params = own_params(policy)
        x, first = make_inputs()
        memory = used_memory(policy, params)
        together = policy.forward(params, x, first, memory)
        for task in range(TASKS):
            at = slice(task, task + 1)
            own = tuple(m[at] for m in memory)
            alone = policy.forward(select(params, at), x[at], first[at], own)
            close(together.action_params[at], alone.action_params)
            close(together.value[at], alone.value)
            close(together.features[at], alone.features)

    def test_shared_parameters_equal_repeated_ones(self) -> None:
        policy = self.make()
        params = select(own_params(policy), slice(1))
        for steps in (1, STEPS):
            x, first = make_inputs(steps=steps)
            memory = used_memory(policy, params)
            same_output(
                policy.forward(params, x, first, memory),
                policy.forward(repeat(params, TASKS), x, first, memory),
            )

    def test_sequences_see_neither_each_other_nor_the_future(self) -> None:
        policy = self.make()
        params = {key: value.requires_grad_() for key, value in own_params(policy).items()}
        x, first = make_inputs()
        x.requires_grad_()
        out = policy.forward(params, x, first & False, used_memory(policy, params))
        for output in (out.action_params, out.features):
            (grad,) = torch.autograd.grad(output[1, 2, 10].sum(), x, retain_graph=True)
            seen = grad.abs().sum(-1) > 0
            assert seen[1, 2, 10]
            seen[1, 2, :11] = False
            assert not seen.any()

    def test_the_dtype_follows_the_parameters(self) -> None:
        policy = self.make()
        x, first = make_inputs(torch.float64)
        params = cast(policy.init_params(0), torch.float64)
        out = policy.forward(params, x, first, policy.initial_memory(TASKS, BATCH, x))
        assert out.log_std is not None
        for tensor in (out.action_params, out.log_std, out.value, out.features, *out.memory):
            assert tensor.dtype == torch.float64
        memory = policy.initial_memory(TASKS, BATCH, x.float())
        single = policy.forward(cast(params, torch.float32), x.float(), first, memory)
        close(single.action_params.double(), out.action_params)

    def test_parameters_are_a_function_of_the_seed_alone(self) -> None:
        policy = self.make()
        torch.manual_seed(0)
        one = policy.init_params(5)
        state = torch.get_rng_state()
        torch.rand(3)
        two, other = self.make().init_params(5), policy.init_params(6)
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert any(not torch.equal(one[key], other[key]) for key in one)
        torch.manual_seed(0)
        assert torch.equal(state, torch.get_rng_state())

    def test_the_deviation_of_actions_starts_as_asked(self) -> None:
        policy = self.make(init_std=0.6)
        x, first = make_inputs()
        params = policy.init_params(0)
        out = policy.forward(params, x, first, policy.initial_memory(TASKS, BATCH, x))
        assert out.log_std is not None
        close(out.log_std.exp(), torch.full_like(out.log_std, 0.6))

    def test_it_pickles(self) -> None:
        policy = self.make()
        params = own_params(policy)
        x, first = make_inputs()
        memory = used_memory(policy, params)
        again = pickle.loads(pickle.dumps(policy))
        same_output(
            policy.forward(params, x, first, memory),
            again.forward(params, x, first, pickle.loads(pickle.dumps(memory))),
            atol=0.0,
        )

    def test_inputs_are_left_alone(self) -> None:
        policy = self.make()
        params = own_params(policy)
        for steps in (1, STEPS):
            x, first = make_inputs(steps=steps)
            memory = used_memory(policy, params)
            before = pickle.dumps((params, x, first, memory))
            with torch.no_grad():
                policy.forward(params, x, first, memory)
            assert pickle.dumps((params, x, first, memory)) == before

    def test_every_parameter_gets_a_gradient(self) -> None:
        policy = self.make()
        params = clone(own_params(policy), requires_grad=True)
        x, first = make_inputs()
        out = policy.forward(params, x, first, used_memory(policy, params))
        assert out.log_std is not None
        loss = (out.action_params.square().sum() + out.value.sin().sum()) * out.log_std.exp().sum()
        for key, grad in zip(params, torch.autograd.grad(loss, list(params.values())), strict=True):
            assert grad.isfinite().all(), f"the gradient of {key} is not finite"
            assert (grad.flatten(1).abs().amax(1) > 0).all(), f"{key} has no gradient"

    def test_the_gradient_through_an_inner_step_equals_finite_differences(self) -> None:
        policy = self.make()
        for tasks in (1, TASKS):
            params = own_params(policy, tasks, torch.float64)
            data = make_inputs(torch.float64, steps=9)
            memory = used_memory(policy, params, torch.float64)
            params = clone(params, requires_grad=True)
            value = meta_objective(policy, params, data, memory)
            grads = torch.autograd.grad(value, list(params.values()))
            generator = torch.Generator().manual_seed(3)
            for key, grad in zip(params, grads, strict=True):
                direction = torch.randn(grad.shape, generator=generator, dtype=torch.float64)
                ends = []
                for sign in (1, -1):
                    moved = clone(params, requires_grad=True)
                    moved[key] = (params[key] + sign * 1e-6 * direction).detach()
                    moved[key].requires_grad_()
                    ends.append(meta_objective(policy, moved, data, memory).item())
                expected, got = (ends[0] - ends[1]) / 2e-6, (grad * direction).sum().item()
                assert math.isclose(got, expected, rel_tol=2e-5, abs_tol=2e-6), key
