"""What a learner needs known before it is built: how it is trained and what its policy is fed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.config.schema import PPOConfig, RunConfig


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """How a learner differs from maml."""

    ppo: bool = False
    """It trains by PPO over sequences, with the settings of that section."""
    context: bool = False
    """Its policy is fed previous action, reward and boundary; memory outlives the episode."""
    goal: bool = False
    """Its policy is fed the task."""
    untrained: bool = False
    """It has no outer loop: its weights stay as they were drawn."""
    trained_as: str | None = None
    """Another learner whose training is the same to the last bit; only the scoring differs."""

    def settings(self, config: RunConfig) -> RunConfig:
        """Return ``config`` with the training settings this learner goes by.

        PPO takes as many episodes as maml over the whole training, in iterations of its own size.
        """
        if not self.ppo:
            return config
        ppo, train = config.ppo, config.train
        batches = 1 + config.adapt.adaptation_steps
        per_epoch = train.meta_batch_size * train.episodes_per_task * batches
        episodes = min(ppo.ppo_episodes, per_epoch)
        length = ppo.episodes_in_context if self.context else 1
        tasks = max(1, min(ppo.ppo_tasks, episodes // length))
        sequences = max(1, episodes // (tasks * length))
        train = replace(
            train,
            epochs=0
            if self.untrained
            else train.epochs * per_epoch // (tasks * sequences * length),
            meta_batch_size=tasks,
            episodes_per_task=sequences,
            outer="ppo",
            baseline="value",
            outer_lr=ppo.ppo_lr,
            gamma=ppo.ppo_gamma,
            gae_lambda=ppo.ppo_gae_lambda,
            action_scale=ppo.ppo_action_scale,
            init_std=ppo.ppo_init_std,
        )
        return replace(config, train=train, adapt=replace(config.adapt, inner_lr=ppo.ppo_inner_lr))


TRAITS: dict[str, LearnerSpec] = {
    "rl2": LearnerSpec(ppo=True, context=True),
    "multitask": LearnerSpec(ppo=True),
    "finetune": LearnerSpec(ppo=True, trained_as="multitask"),
    "scratch": LearnerSpec(ppo=True, untrained=True),
    "oracle": LearnerSpec(ppo=True, goal=True),
}


def traits(learner: str) -> LearnerSpec:
    """Return the traits of the learner ``learner``; the defaults for one not listed."""
    return TRAITS.get(learner, LearnerSpec())


CHUNK_STEPS = 50
"""Longest stretch that the gradient goes back in time, of a policy not named below."""
WHOLE = ("transformer",)
"""Policies that learn from whole sequences. The window that a stretch begins with was made by the
parameters that acted: the shorter the stretches, the more of what is seen is stale. And a window
costs the same in one stretch as in many, where a recurrent pass is as slow as it is long."""


def chunk_steps(ppo: PPOConfig, network: str) -> int | Literal["whole"]:
    """Return the longest stretch that a policy learns from, of whole sequences ``whole``."""
    if ppo.chunk_steps is not None:
        return ppo.chunk_steps
    return "whole" if network in WHOLE else CHUNK_STEPS


def decided(config: RunConfig) -> dict[str, int | str]:
    """Return what is decided here since ``config`` leaves it open: setting and policy -> value."""
    if config.ppo.chunk_steps is not None or not any(traits(name).ppo for name in config.learner):
        return {}
    return {f"chunk_steps of {name}": chunk_steps(config.ppo, name) for name in config.policy}


def spelled_out(config: RunConfig) -> RunConfig:
    """Return ``config``, which is of one policy, with what ``decided`` would tell given in it."""
    if not decided(config):
        return config
    (network,) = config.policy
    return replace(config, ppo=replace(config.ppo, chunk_steps=chunk_steps(config.ppo, network)))
