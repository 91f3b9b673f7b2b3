"""Small problems for the tests of harness.meta: random batches, collected data, a cell to train."""

from itertools import pairwise

import torch
from harness.meta.learners.surrogate import Collected, MetaObjective

import policies
from harness.config.schema import AdaptConfig, PPOConfig, RunConfig, TrainConfig
from harness.meta import learners
from harness.meta.adapters import GradientAdapter
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import IterationInfo, JobContext, PolicyState
from harness.meta.rollouts.batch import Batch
from harness.meta.rollouts.episode_loop import Clock
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
    return MetaObjective(policy, GradientAdapter(INNER_LR), TrainConfig(**settings))


def collected(policy: Policy, params: Params, steps: int) -> Collected:
    """What a worker would keep: each batch sampled after the steps before it."""
    adapter, current = GradientAdapter(INNER_LR), repeat(params, N)
    support, old = [], []
    for step in range(steps):
        batch = make_batch(policy, current, step)
        support.append(batch)
        with torch.no_grad():
            old.append(batch.forward(policy, current))
        current = adapter.adapt(policy, current, batch)
    query = make_batch(policy, current, 99)
    with torch.no_grad():
        query_old = query.forward(policy, current)
    return Collected(tuple(support), query, tuple(old), query_old)


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


def make_problem(
    learner: str = "maml",
    *,
    policy: str = "mlp",
    task_dist: str = "point_goal",
    adapt=None,
    minibatches: int = 2,
    **train,
) -> CellSetup:
    """A cell on ``task_dist``, 4 tasks of 3 episodes an iteration unless told otherwise."""
    settings = {"meta_batch_size": 4, "episodes_per_task": 3, "action_scale": 1.0, **train}
    config = RunConfig(
        task_dist=task_dist,
        policy=(policy,),
        learner=(learner,),
        train=TrainConfig(**settings),
        ppo=PPOConfig(ppo_episodes=24, ppo_tasks=4, ppo_passes=2, ppo_minibatches=minibatches),
        adapt=AdaptConfig(**(adapt or {})),
    )
    return CellSetup.build(Cell(task_dist, policy, learner, 0), config)


def collect(problem: CellSetup, payload: PolicyState, jobs: int, iteration: int = 0):
    """Collect an iteration's data on ``jobs`` jobs; return what each keeps and the reports."""
    learner = learners.build(problem)
    size = problem.config.train.meta_batch_size
    bounds = [part * size // jobs for part in range(jobs + 1)]
    pairs = [
        learner.collect(problem.tasks("train", keys), JobContext(iteration, keys), payload, Clock())
        for keys in (tuple(range(*pair)) for pair in pairwise(bounds))
    ]
    return [data for data, _ in pairs], [report for _, report in pairs]


def iterate(problem: CellSetup, state, jobs: int, iteration: int = 0) -> IterationInfo:
    """Play one outer iteration by hand on ``jobs`` jobs; return what it reports."""
    learner = learners.build(problem)
    playing = learner.iterate(state)
    request = next(playing)
    assert request.kind == "collect"
    data, results = collect(problem, request.payload, jobs, iteration)
    while True:
        try:
            request = playing.send(results)
        except StopIteration as stop:
            return stop.value
        results = [learner.compute(request.kind, kept, request.payload, Clock()) for kept in data]
