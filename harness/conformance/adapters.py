"""What every adapter keeps: parameters as values, and each task adapted as if it were alone."""

from __future__ import annotations

import unittest

import numpy as np
import torch
from torch import Tensor

import policies
from harness.conformance.policies import close
from harness.conformance.suite import Suite
from harness.meta import adapters, learners
from harness.meta.adapters.base import Adapter, Shot
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy
from policies.params import clone, repeat, select

N, E, T, OBS, ACTIONS = 2, 2, 4, 3, 2
"""Tasks, episodes per task, steps, and the width of observations and actions."""
INNER_LR = 0.1


def make_params(policy: Policy, seed: int = 0, spread: float = 0.05) -> Params:
    """Return float64 parameters [1, ...] away from their symmetric start."""
    params = policy.init_params(seed)
    if "mean.weight" in params:  # so that the head is seen
        params["mean.weight"] = params["mean.weight"] * 30
    generator = torch.Generator().manual_seed(seed)
    return {
        key: (value + spread * torch.randn(value.shape, generator=generator)).double()
        for key, value in params.items()
    }


def make_mask() -> Tensor:
    """Return a mask with one episode that ended early and one that was invalid."""
    mask = torch.ones(N, E, T, dtype=torch.bool)
    mask[0, 0, 2:] = False
    mask[1, 1] = False
    return mask


def make_batch(policy: Policy, params: Params, seed: int) -> Batch:
    """Return a batch of random numbers, its actions sampled by ``params``."""
    generator = torch.Generator().manual_seed(1000 + seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = draw(N, E, T, OBS)
    first = torch.zeros(N, E, T, dtype=torch.bool)
    first[..., 0] = True
    out = policy.forward(params, x, first, policy.initial_memory(N, E, x))
    assert out.log_std is not None
    actions = out.action_params + out.log_std.exp() * draw(N, E, T, ACTIONS)
    return Batch(
        x=x,
        first=first,
        actions=actions.detach(),
        log_probs=out.head.log_prob(actions).detach(),
        advantages=draw(N, E, T),
        value_targets=draw(N, E, T),
        mask=make_mask(),
    )


def part(batch: Batch, task: int) -> Batch:
    """Return the batch of one task."""
    return batch.map(lambda x: x[task : task + 1])


def shot(batch: Batch, tasks: range) -> Shot:
    """Return a shot on ``batch`` with a generator for each of ``tasks``."""
    return Shot(batch, (), tuple(np.random.default_rng(task) for task in tasks))


class AdapterSuite(Suite):
    """The tests of an adapter, on random batches of a small policy."""

    def make(self) -> Adapter:
        """Build it."""
        settings = adapters.settings_class(self.name)(**self.settings)
        return adapters.build(self.name, settings, inner_lr=INNER_LR)

    def start(self) -> tuple[Policy, Params, Batch]:
        """Return a policy, shared parameters of it, and a batch that they sampled."""
        policy = policies.build("mlp", obs_dim=OBS, action_dim=ACTIONS)
        params = make_params(policy)
        return policy, params, make_batch(policy, repeat(params, N), 0)

    def test_it_keeps_the_protocol(self) -> None:
        adapter = self.make()
        assert isinstance(adapter, Adapter)
        assert adapter.needs_support == (adapter.steps_per_shot > 0 or adapter.carries_memory)

    def test_a_learner_can_be_scored_with_it(self) -> None:
        spec = adapters.spec(self.name)
        fitting = [name for name in learners.REGISTRY if learners.spec(name).fits(spec)]
        assert fitting, "no registered learner's policy fits it"

    def test_adapting_makes_new_parameters(self) -> None:
        adapter = self.make()
        policy, params, batch = self.start()
        before = clone(params)
        after = adapter.adapt(policy, params, shot(batch, range(N)))
        assert after.keys() == params.keys()
        assert all(torch.equal(params[key], before[key]) for key in params)
        if not adapter.steps_per_shot:
            return
        assert all(value.shape[0] == N for value in after.values())
        assert not any(value.requires_grad for value in after.values())
        assert all(value.isfinite().all() for value in after.values())
        assert any((after[key] != params[key]).any() for key in params), "nothing changed"

    def test_each_task_adapts_as_if_it_were_alone(self) -> None:
        adapter = self.make()
        if not adapter.steps_per_shot:
            raise unittest.SkipTest("it takes no gradient steps")
        policy, params, batch = self.start()
        both = adapter.adapt(policy, params, shot(batch, range(N)))
        for task in range(N):
            own = shot(part(batch, task), range(task, task + 1))
            alone = adapter.adapt(policy, params, own)
            for key, value in alone.items():
                close(select(both, slice(task, task + 1))[key], value, atol=1e-9)
