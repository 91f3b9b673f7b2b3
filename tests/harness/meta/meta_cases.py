"""Small cases for the tests of harness.meta: random batches, collected data, a cell to train."""

from dataclasses import fields
from itertools import pairwise

import torch

import policies
import task_distributions
from harness.meta import adapters, learners
from harness.meta.adapters.base import Shot
from harness.meta.adapters.gradient import GradientAdapter
from harness.meta.cell_setup import Budget, CellSetup
from harness.meta.learners.base import IterationInfo, JobContext, PolicySnapshot, RequestKind
from harness.meta.learners.maml import MAMLSettings, MetaBatch, MetaObjective
from harness.meta.rollouts.batch import Batch
from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.inputs import Goals, Inputs
from harness.types import Cell
from policies.base import Params, Policy
from policies.params import clone, repeat

N, E, T, OBS, ACTIONS = 2, 2, 4, 3, 2
INNER_LR = 0.1


def make_policy(name: str) -> Policy:
    options = {"transformer": {"context": 3}}.get(name, {})
    settings = policies.settings_class(name)(**options)
    return policies.build(name, obs_dim=OBS, action_dim=ACTIONS, settings=settings)


def make_params(policy: Policy, seed: int = 0, spread: float = 0.05) -> Params:
    """Float64 parameters [1, ...] away from their symmetric start, with a mean head to see."""
    params = policy.init_params(seed)
    params["mean.weight"] = params["mean.weight"] * 30
    generator = torch.Generator().manual_seed(seed)
    return {
        key: (value + spread * torch.randn(value.shape, generator=generator)).double()
        for key, value in params.items()
    }


def make_mask() -> torch.Tensor:
    """One episode that ended early and one that was invalid, among full ones."""
    mask = torch.ones(N, E, T, dtype=torch.bool)
    mask[0, 0, 2:] = False
    mask[1, 1] = False
    return mask


def make_batch(policy: Policy, params: Params, seed: int) -> Batch:
    """A batch of numbers drawn at random, its actions sampled by ``params``."""
    generator = torch.Generator().manual_seed(1000 + seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = draw(N, E, T, OBS)
    first = torch.zeros(N, E, T, dtype=torch.bool)
    first[..., 0] = True
    out = policy.forward(params, x, first, policy.initial_memory(N, E, x))
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


def make_objective(policy: Policy, **settings) -> MetaObjective:
    return MetaObjective(policy, MAMLSettings(inner_lr=INNER_LR, **settings))


def collected(policy: Policy, params: Params, steps: int) -> MetaBatch:
    """What a worker would keep: each batch sampled after the steps before it."""
    adapter, current = GradientAdapter(INNER_LR), repeat(params, N)
    support, old = [], []
    for step in range(steps):
        batch = make_batch(policy, current, step)
        support.append(batch)
        with torch.no_grad():
            old.append(batch.forward(policy, current))
        current = adapter.adapt(policy, current, Shot(batch))
    query = make_batch(policy, current, 99)
    with torch.no_grad():
        query_old = query.forward(policy, current)
    return MetaBatch(tuple(support), query, tuple(old), query_old)


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


SMALL = {
    "meta_batch_size": 4,
    "episodes_per_task": 3,
    "episodes_per_iteration": 24,
    "tasks_per_iteration": 4,
    "update_epochs": 2,
    "minibatches": 2,
    "action_scale": 1.0,
}
"""24 episodes per iteration, of 4 tasks, for every learner whose settings have these names."""


def accepted(learner: str, settings: dict) -> dict:
    """Those of ``settings`` that the learner has."""
    names = {entry.name for entry in fields(learners.spec(learner).settings)}
    return {name: value for name, value in settings.items() if name in names}


def make_setup(
    learner: str = "maml",
    *,
    policy: str = "mlp",
    task_dist: str = "point_goal",
    adapter: str | None = None,
    normalize_obs: bool = True,
    **settings,
) -> CellSetup:
    """A cell on ``task_dist``, of the small settings above and those given."""
    spec, dist = learners.spec(learner), task_distributions.load(task_dist)
    chosen = spec.settings(**accepted(learner, SMALL) | settings)
    adapter = adapter or spec.adapter
    history = spec.feeds_history or adapters.spec(adapter).feeds_history
    inputs = Inputs(dist.spec, history, Goals.of_distribution(dist) if spec.feeds_task else None)
    return CellSetup(
        cell=Cell(task_dist, policy, learner, 0),
        dist=dist,
        policy=policies.build(
            policy,
            obs_dim=inputs.dim,
            action_dim=dist.spec.action_dim,
            discrete=dist.spec.discrete,
            init_std=chosen.init_std,
        ),
        inputs=inputs,
        learner=spec,
        settings=chosen,
        adapter=adapter,
        adapter_settings=adapters.settings_class(adapter)(),
        budget=Budget(meta_iterations=100),
        normalize_obs=normalize_obs,
        train_tasks=tuple(range(len(dist.tasks("train")))),
    )


def collect(setup: CellSetup, snapshot: PolicySnapshot, jobs: int, iteration: int = 0):
    """Collect an iteration's data in ``jobs`` jobs; return what each keeps and the reports."""
    learner = learners.build(setup)
    size = learner.tasks_per_iteration
    bounds = [part * size // jobs for part in range(jobs + 1)]
    pairs = [
        learner.collect(setup.tasks("train", keys), JobContext(iteration, keys), snapshot, Clock())
        for keys in (tuple(range(*pair)) for pair in pairwise(bounds))
    ]
    return [data for data, _ in pairs], [report for _, report in pairs]


def iterate(setup: CellSetup, state, jobs: int, iteration: int = 0) -> IterationInfo:
    """Run one meta-iteration by hand in ``jobs`` jobs; return what it reports."""
    learner = learners.build(setup)
    steps = learner.iterate(state)
    request = next(steps)
    assert request.kind is RequestKind.COLLECT
    data, results = collect(setup, request.payload, jobs, iteration)
    while True:
        try:
            request = steps.send(results)
        except StopIteration as stop:
            return stop.value
        assert request.kind is RequestKind.COMPUTE
        results = [learner.compute(kept, request.payload, Clock()) for kept in data]
