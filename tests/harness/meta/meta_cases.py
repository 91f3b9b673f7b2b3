"""Small cases for the tests of harness.meta: policies, objectives and collected data."""

import torch

import policies
from harness.conformance.adapters import ACTIONS, INNER_LR, OBS, N, make_batch
from harness.meta.adapters.base import Shot
from harness.meta.adapters.gradient import GradientAdapter
from harness.meta.learners.maml import MAMLData, MAMLSettings, MetaObjective
from policies.base import Params, Policy
from policies.params import clone, repeat


def make_policy(name: str) -> Policy:
    options = {"transformer": {"context": 3}}.get(name, {})
    settings = policies.settings_class(name)(**options)
    return policies.build(name, obs_dim=OBS, action_dim=ACTIONS, settings=settings)


def make_objective(policy: Policy, **settings) -> MetaObjective:
    return MetaObjective(policy, MAMLSettings(inner_lr=INNER_LR, **settings))


def collected(policy: Policy, params: Params, steps: int) -> MAMLData:
    """What a worker would keep: each batch sampled after the steps before it."""
    adapter, current = GradientAdapter(INNER_LR), repeat(params, N)
    support, old = [], []
    for step in range(steps):
        batch = make_batch(policy, current, step)
        support.append(batch)
        with torch.no_grad():
            old.append(batch.forward(policy, current).head)
        current = adapter.adapt(policy, current, Shot(batch))
    query = make_batch(policy, current, 99)
    with torch.no_grad():
        query_old = query.forward(policy, current).head
    return MAMLData(tuple(support), query, tuple(old), query_old)


def moved(params: Params, scale: float = 0.02, seed: int = 5) -> Params:
    """Parameters a little off, as they are after a first outer step."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: value + scale * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for key, value in clone(params).items()
    }


def dot(left: Params, right: Params) -> float:
    return sum(float((left[key] * right[key]).sum()) for key in left)


def directions(params: Params, seed: int) -> Params:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for key, value in params.items()
    }


def along(params: Params, direction: Params, step: float) -> Params:
    return {key: value.detach() + step * direction[key] for key, value in params.items()}
