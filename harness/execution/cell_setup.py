"""From a run's configuration to ``CellSetup``: the one place where training reads it."""

from __future__ import annotations

import policies
from harness.config.components import AUTO
from harness.config.distributions import open_distribution
from harness.config.plugins import blame
from harness.config.protocol import used_tasks
from harness.config.schema import RunConfig
from harness.meta import adapters, learners
from harness.meta.cell_setup import Budget, CellSetup
from harness.types import Cell


def build_setup(cell: Cell, config: RunConfig) -> CellSetup:
    """Build everything that ``cell`` names."""
    dist = open_distribution(config.task_dist, config.env)
    chosen, part = config.learner[cell.learner], config.policy[cell.policy]
    learner = learners.spec(chosen.kind)
    adapter, adapter_settings = config.adapter.kind, config.adapter.settings
    if adapter == AUTO:
        adapter = learner.adapter
        adapter_settings = learner.adapter_settings(chosen.settings)
    inputs = learner.inputs(chosen.settings, adapters.spec(adapter), dist)
    policy = policies.build(
        part.kind,
        obs_dim=inputs.dim,
        action_dim=dist.spec.action_dim,
        discrete=dist.spec.discrete,
        init_std=chosen.settings.init_std,
        settings=part.settings,
    )
    train = config.train
    return CellSetup(
        cell=cell,
        dist=dist,
        policy=policy,
        inputs=inputs,
        learner=learner,
        settings=chosen.settings,
        adapter=adapter,
        adapter_settings=adapter_settings,
        budget=Budget(train.env_steps, train.meta_iterations)
        if learner.trains
        else Budget(meta_iterations=0),
        normalize_obs=train.normalize_obs,
        train_tasks=used_tasks(dist, config, "train"),
    )


def planned_iterations(cell: Cell, config: RunConfig) -> int:
    """Return the outer iterations of a cell's training if no episode ends early."""
    with blame(config):
        setup = build_setup(cell, config)
        episodes = learners.build(setup).episodes_per_iteration
    return setup.budget.iterations(episodes * setup.dist.spec.horizon)
