"""From a run's configuration to ``CellSetup``: the one place where training reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import policies
from harness.config.distributions import open_distribution
from harness.config.protocol import used_tasks
from harness.config.schema import RunConfig
from harness.meta import adapters, learners
from harness.meta.cell_setup import Budget, CellSetup
from harness.meta.learners.maml import MAMLSettings
from harness.meta.learners.ppo import FinetuneSettings, PPOSettings, RL2Settings
from harness.meta.rollouts.inputs import Goals, Inputs
from harness.types import Cell


def build_setup(cell: Cell, config: RunConfig) -> CellSetup:
    """Build everything that ``cell`` names.

    Raises:
        ValueError: a name is not registered, or settings contradict each other.
    """
    dist = open_distribution(cell.task_dist, config.env)
    learner = learners.spec(cell.learner)
    settings = _settings(learner.settings, config)
    adapter = learner.adapter if config.adapt.adapter == "auto" else config.adapt.adapter
    history = learner.feeds_history or adapters.spec(adapter).feeds_history
    goals = Goals.of_distribution(dist) if learner.feeds_task else None
    inputs = Inputs(dist.spec, history, goals)
    policy = policies.build(
        cell.network,
        obs_dim=inputs.dim,
        action_dim=dist.spec.action_dim,
        discrete=dist.spec.discrete,
        init_std=settings.init_std,
    )
    setup = CellSetup(
        cell=cell,
        dist=dist,
        policy=policy,
        inputs=inputs,
        learner=learner,
        settings=settings,
        adapter=adapter,
        adapter_settings=_adapter_settings(adapter, config),
        budget=Budget(meta_iterations=0),
        normalize_obs=config.train.normalize_obs,
        train_tasks=used_tasks(dist, config, "train"),
    )
    return replace(setup, budget=_budget(setup, config))


def _maml_episodes(config: RunConfig) -> int:
    """Return the episodes of one meta-iteration of maml, in which budgets are given."""
    train = config.train
    return train.meta_batch_size * train.episodes_per_task * (1 + config.adapt.adaptation_steps)


def _budget(setup: CellSetup, config: RunConfig) -> Budget:
    """Give every learner as many episodes as maml takes, in iterations of its own size."""
    if not setup.learner.trains:
        return Budget(meta_iterations=0)
    episodes = config.train.epochs * _maml_episodes(config)
    return Budget(meta_iterations=episodes // learners.build(setup).episodes_per_iteration)


def _settings(kind: type, config: RunConfig) -> Any:
    """Translate the sections train, ppo and adapt into a learner's settings."""
    train, ppo, adapt = config.train, config.ppo, config.adapt
    if not issubclass(kind, PPOSettings):
        return MAMLSettings(
            meta_batch_size=train.meta_batch_size,
            episodes_per_task=train.episodes_per_task,
            adaptation_steps=adapt.adaptation_steps,
            inner_lr=adapt.inner_lr,
            learned_inner_lr=adapt.learned_inner_lr,
            outer=train.outer,
            learning_rate=train.outer_lr,
            outer_updates=train.outer_steps,
            clip=train.clip,
            inner_kl=train.inner_kl,
            max_kl=train.max_kl,
            max_grad_norm=train.max_grad_norm,
            first_order=train.first_order,
            gamma=train.gamma,
            gae_lambda=train.gae_lambda,
            baseline=train.baseline,
            value_coef=train.value_coef,
            action_scale=train.action_scale,
            init_std=train.init_std,
            max_skipped=train.max_skipped,
        )
    own: dict[str, Any] = {}
    if issubclass(kind, RL2Settings):
        own = {"episodes_in_context": ppo.episodes_in_context}
    if issubclass(kind, FinetuneSettings):
        own = {"inner_lr": ppo.ppo_inner_lr}
    return kind(
        learning_rate=ppo.ppo_lr,
        episodes_per_iteration=min(ppo.ppo_episodes, _maml_episodes(config)),
        tasks_per_iteration=ppo.ppo_tasks,
        update_epochs=ppo.ppo_passes,
        minibatches=ppo.ppo_minibatches,
        bptt_steps=ppo.chunk_steps,
        clip=ppo.ppo_clip,
        gamma=ppo.ppo_gamma,
        gae_lambda=ppo.ppo_gae_lambda,
        value_coef=ppo.ppo_value_coef,
        entropy_coef=ppo.ppo_entropy_coef,
        max_grad_norm=train.max_grad_norm,
        action_scale=ppo.ppo_action_scale,
        init_std=ppo.ppo_init_std,
        max_skipped=train.max_skipped,
        **own,
    )


def _adapter_settings(adapter: str, config: RunConfig) -> Any:
    """Translate the section adapt into an adapter's settings."""
    given = config.adapt.replay if adapter == "hybrid" else {}
    return adapters.settings_class(adapter)(**given)
