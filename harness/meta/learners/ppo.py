"""PPO over whole sequences (arXiv 1707.06347): RL² (1611.02779) and the control learners.

    L = mean[ −min(ratio · A, clip(ratio, 1 ± clip) · A) + c_V · huber(V − R) − c_H · H ]
        + c_T · L_task (``task_head.py``)

A sequence is one episode, or with RL² several episodes of a task with memory across them. Workers
keep the sequences they collected; each optimiser step asks every worker for its share of the
gradient on one minibatch, and the shares are added in a fixed order (``sums.py``).

The controls put the results of ``maml`` and ``rl2`` in context: ``multitask`` is one policy for all
tasks without adaptation; ``oracle`` is fed the task, and the history that ``rl2`` is fed, an
estimate of what knowing the task is worth; ``finetune`` is multitask that goes on training by PPO
at test time, on the task's support episodes; ``scratch`` does so from random weights.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from harness import seeding
from harness.meta import objectives
from harness.meta.adapters.ppo import FinetuningSettings
from harness.meta.cell_setup import LearnerSpec
from harness.meta.learners.base import (
    CollectReport,
    GradientRequest,
    IterationInfo,
    JobContext,
    NonNegative,
    PolicySnapshot,
    Positive,
    PositiveInt,
    Request,
    ScalarMoments,
    Unit,
)
from harness.meta.learners.critic import critic_values, init_critic, split
from harness.meta.learners.sequences import SequenceLearner, check_fits
from harness.meta.learners.state import LearnerState, clipped
from harness.meta.learners.sums import Losses, PartialGradient, sum_losses, sum_over_jobs
from harness.meta.learners.task_head import init_task_head, task_error
from harness.meta.rollouts.batch import Batch, Stretches, cut_sequences, prepare
from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.inputs import Goals
from policies.base import Params
from policies.params import clone
from task_distributions import Task

BPTT_STEPS = 50
"""Default of ``bptt_steps``, except for the policies below."""
WHOLE_SEQUENCE_POLICIES = ("transformer",)
"""Policies that learn from whole sequences by default. Sequences are otherwise cut into chunks of
``bptt_steps``, each of which starts from memory computed by the old parameters: with short chunks,
most of a transformer's window is stale. Windowed attention costs about the same in one chunk as in
many, while a recurrent pass takes time in proportion to its length."""

RATE_FACTOR, RATE_RANGE = 1.5, (1e-5, 1e-2)
"""How fast and how far the step size is adapted to the KL divergence."""
FINAL_PART = 0.1
"""Part of training at its end in which an adapted step size falls to zero."""


@dataclass(frozen=True)
class PPOSettings:
    """Settings of ``multitask``."""

    learning_rate: Positive = 1e-3
    """Adam step size at the start of training; it falls to zero linearly, unless there is a
    target_kl."""
    target_kl: NonNegative = 0.0
    """KL divergence from the sampling policy, in the last pass of an iteration, that the step size
    is adapted to: it changes by a factor of 1.5 when the divergence is less than half or more than
    twice as large, and falls to zero linearly in the last tenth of training. 0 turns this off."""
    warm_up: bool = False
    """Play the first iteration twice, the first time only to measure the scale of observations and
    returns."""
    episodes_per_iteration: PositiveInt = 50
    """Episodes per iteration, over all tasks, at most."""
    tasks_per_iteration: PositiveInt = 25
    """Tasks per iteration, at most."""
    update_epochs: PositiveInt = 10
    """Passes over the data of an iteration."""
    minibatches: PositiveInt = 4
    """Optimiser steps per pass."""
    bptt_steps: PositiveInt | Literal["whole"] | None = None
    """Truncation length of backpropagation through time, or whole for no truncation; by default
    50, and whole for the transformer."""
    random_phase: bool = False
    """Begin truncation at a random step in every iteration, so that stretches differ and some
    cross the boundary between episodes."""
    burn_in: Annotated[int, Ge(0)] = 0
    """Steps before each truncated stretch that bring its memory up to date; the gradient goes
    through them, but the loss is not of them."""
    clip: Positive = 0.2
    """Likelihood-ratio clip."""
    gamma: Unit = 0.97
    """Discount factor per step."""
    gae_lambda: Unit = 0.95
    """Lambda of generalised advantage estimation."""
    normalize_advantages: Literal["all", "task"] = "all"
    """Give mean 0 and standard deviation 1 to all advantages of an iteration together, or to those
    of each task by itself, so that tasks with small rewards count as much as others."""
    baseline: Literal["linear", "value"] = "value"
    """Advantage baseline: the policy's value head, or a linear fit to the returns of each task in
    every iteration, which does not credit an action with later episodes."""
    value_coef: NonNegative = 0.5
    """Weight of the Huber loss of the value head, with the value baseline."""
    entropy_coef: NonNegative = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: Positive = 1.0
    """Maximum norm of the policy's gradient, and of what is trained beside it."""
    action_scale: Positive = 1.0
    """The environment receives the policy's action times this."""
    init_std: Positive = 0.3
    """Initial standard deviation of the policy, in its own action units."""
    max_skipped: PositiveInt = 5
    """The cell fails after this many iterations in a row without effect: with a number that is not
    finite, or no valid episode. It also fails if the second half of its training was like that."""

    @property
    def episodes_in_context(self) -> int:
        """Episodes of one training sequence; a setting of ``rl2``."""
        return 1

    @property
    def task_critic(self) -> bool:
        """Whether ``critic.py`` replaces the policy's value head; a setting of ``rl2``."""
        return False

    @property
    def task_coef(self) -> float:
        """Weight of the error of the predicted task (``task_head.py``); a setting of ``rl2``."""
        return 0.0

    def resolved_bptt_steps(self, policy: str) -> int | Literal["whole"]:
        """Return ``bptt_steps``, or the default for the registered policy ``policy``."""
        if self.bptt_steps is not None:
            return self.bptt_steps
        return "whole" if policy in WHOLE_SEQUENCE_POLICIES else BPTT_STEPS

    def resolved_for(self, policy: str) -> PPOSettings:
        """Return the settings with the defaults for the registered policy ``policy`` filled in."""
        return replace(self, bptt_steps=self.resolved_bptt_steps(policy))

    def unused(self) -> dict[str, str]:
        """Return the settings that have no effect beside the others, with the reason."""
        found: dict[str, str] = {}
        if self.bptt_steps == "whole":
            found = dict.fromkeys(("random_phase", "burn_in"), "whole sequences are not truncated")
        if self.baseline == "linear":
            found["value_coef"] = "there is no value loss with the linear baseline"
        return found


@dataclass(frozen=True)
class RL2Settings(PPOSettings):
    """Settings of ``rl2``."""

    episodes_in_context: PositiveInt = 2
    """Episodes of one training sequence; memory is kept across them."""
    task_critic: bool = False
    """Estimate values by a network apart from the policy that observes the task (``critic.py``)."""
    task_coef: NonNegative = 0.0
    """Weight of an auxiliary loss in training: the error of a layer that predicts the task from
    what the policy's heads read (arXiv 1905.06424)."""

    def __post_init__(self) -> None:
        """Refuse sequences that do not fit into an iteration, and two baselines.

        Raises:
            ValueError: a sequence has more episodes than an iteration, or there is a critic beside
                the linear baseline.
        """
        check_fits(self.episodes_in_context, self.episodes_per_iteration)
        if self.task_critic and self.baseline == "linear":
            raise ValueError("task_critic needs baseline 'value', not 'linear'")


@dataclass(frozen=True)
class OracleSettings(PPOSettings):
    """Settings of ``oracle``."""

    history: bool = True
    """Feed the previous action, the previous reward and the start of the episode too, as to rl2."""


@dataclass(frozen=True)
class FinetuneSettings(PPOSettings, FinetuningSettings):
    """Settings of ``finetune`` and ``scratch``."""


@dataclass(frozen=True, slots=True)
class PPOData:
    """One job's data, as the worker keeps it between the requests of an iteration."""

    batch: Batch
    """[1, sequences, steps, ...]. Its advantages are normalised by task or not at all."""
    context: JobContext


@dataclass(frozen=True, slots=True)
class MinibatchRequest(GradientRequest):
    """Payload that asks for the gradient at ``params``, summed over a minibatch's steps."""

    update_epoch: int
    minibatch: int
    advantage_mean: float
    advantage_std: float


@dataclass(frozen=True, slots=True)
class PPOLosses(Losses):
    """One job's share of a minibatch: sums over its steps."""

    steps: float = 0.0
    surrogate: float = 0.0
    value_loss: float = 0.0
    kl: float = 0.0
    """KL(sampling policy ‖ current one), by the estimate r - 1 - log r for the likelihood ratio r:
    unbiased and never negative (http://joschu.net/blog/kl-approx.html)."""
    clipped: float = 0.0
    """Steps whose likelihood ratio is outside the clip."""
    target: float = 0.0
    target_square: float = 0.0
    error: float = 0.0
    """Value target minus value."""
    error_square: float = 0.0
    task_error: float = 0.0
    """See ``task_head.task_error``."""

    def means(self) -> dict[str, float]:
        """Return the means over steps, and the share of the targets' variance that is explained."""
        n = max(self.steps, 1.0)
        means = {
            "surrogate": self.surrogate / n,
            "kl": self.kl / n,
            "clip_fraction": self.clipped / n,
        }
        if self.task_error:
            means["task_error"] = self.task_error / n
        if not self.target_square:  # the linear baseline has no targets
            return means
        variance = self.target_square / n - (self.target / n) ** 2
        unexplained = self.error_square / n - (self.error / n) ** 2
        return means | {
            "value_loss": self.value_loss / n,
            "explained_variance": 1.0 - unexplained / max(variance, 1e-12),
        }


@dataclass(frozen=True, slots=True)
class PPOLearner(SequenceLearner):
    """PPO on sequences of episodes. Satisfies ``Learner``."""

    @property
    def settings(self) -> PPOSettings:
        """Its settings."""
        settings: PPOSettings = self.setup.settings
        return settings

    def init(self) -> LearnerState:
        """Return the untrained state."""
        setup = self.setup
        params, obs_dim = setup.policy.init_params(setup.cell.seed), setup.dist.spec.obs_dim
        goals = self._goals()
        if goals and self.settings.task_critic:
            params |= init_critic(setup.cell.seed, setup.inputs.dim + goals.dim)
        if goals and self.settings.task_coef:
            x = torch.zeros(1, 1, 1, setup.inputs.dim)
            memory = setup.policy.initial_memory(1, 1, x)
            out = setup.policy.forward(params, x, torch.ones(1, 1, 1, dtype=torch.bool), memory)
            params |= init_task_head(setup.cell.seed, out.features.shape[-1], goals.dim)
        learning_rate = self.settings.learning_rate
        return LearnerState.fresh(params, learning_rate, obs_dim, setup.normalize_obs)

    def _goals(self) -> Goals | None:
        """Return the tasks as features, for a critic and a task head; None if there is neither."""
        if not (self.settings.task_critic or self.settings.task_coef):
            return None
        return Goals.of_distribution(self.setup.dist)

    def iterate(self, state: LearnerState) -> Generator[Request, list[Any], IterationInfo]:
        """Collect, then pass over the data in minibatches, one Adam step each."""
        s = self.settings
        reports = yield from state.collect(warm_up=s.warm_up)
        self._set_learning_rate(state)
        mean, std = _advantage_statistics(reports)
        info: dict[str, float] = {}
        for epoch in range(s.update_epochs):
            pass_losses = PPOLosses()
            for minibatch in range(s.minibatches):
                request = MinibatchRequest(clone(state.params), epoch, minibatch, mean, std)
                answer = yield from sum_over_jobs(request)
                steps = answer.losses.steps
                if not steps:
                    continue  # fewer sequences than minibatches
                parts = filter(None, split(answer.gradient))  # policy, and critic and task head
                gradient, sizes = clipped(parts, s.max_grad_norm, steps)
                size = math.hypot(*sizes)
                pass_losses = sum_losses(pass_losses, answer.losses)
                info = pass_losses.means() | {"grad_norm": size}
                if not state.accepts(size):
                    return self._finished(state, reports, info)
                state.adam_step(gradient)
        return self._finished(state, reports, info)

    def _falling(self, state: LearnerState) -> float:
        """Return the factor of the step size: 1, and to 0 in the end."""
        done = self.setup.budget.fraction_done(state.iteration, state.env_steps)
        return min(1.0, (1.0 - done) / (FINAL_PART if self.settings.target_kl else 1.0))

    def _set_learning_rate(self, state: LearnerState) -> None:
        rate = state.learning_rate * self._falling(state)
        for group in state.optimizer.param_groups:
            group["lr"] = rate

    def _finished(
        self, state: LearnerState, reports: Sequence[CollectReport], info: dict[str, float]
    ) -> IterationInfo:
        target, rate = self.settings.target_kl, state.learning_rate
        kl = info.get("kl", target)  # without a valid episode there is none, and no change
        adapts = target and self._falling(state) == 1.0  # or it would make up for the fall
        if adapts and kl > 2 * target and rate > RATE_RANGE[0]:
            state.learning_rate = max(rate / RATE_FACTOR, RATE_RANGE[0])
        elif adapts and kl < target / 2 and rate < RATE_RANGE[1]:
            state.learning_rate = min(rate * RATE_FACTOR, RATE_RANGE[1])
        info["learning_rate"] = float(state.optimizer.param_groups[0]["lr"])
        if "log_std" in state.params:
            info["std"] = float(state.params["log_std"].exp().mean())
        return state.finish_iteration(reports, info)

    def collect(
        self, tasks: Sequence[Task], context: JobContext, policy: PolicySnapshot, clock: Clock
    ) -> tuple[PPOData, CollectReport]:
        """Play the sequences with sampled actions and keep them with their advantages."""
        setup, settings = self.setup, self.settings
        actor, blocks = self.play(tasks, context, policy, clock)
        estimator = setup.estimator(policy)
        batch = prepare(
            blocks,
            actor,
            tuple(tasks),
            estimator,
            normalize=settings.normalize_advantages == "task",
            goals=self._goals(),
            critic=partial(critic_values, policy.params) if settings.task_critic else None,
        )
        batch = cut_sequences(batch, actor, self._stretches(context))
        advantages = ScalarMoments.of(batch.advantages[batch.mask].double())
        report = CollectReport.on(blocks, policy, settings.gamma, advantages)
        return PPOData(batch, context), report

    def _stretches(self, context: JobContext) -> Stretches | None:
        """Return how the sequences of a job are cut; None leaves them whole."""
        settings, setup = self.settings, self.setup
        length = settings.resolved_bptt_steps(setup.policy.name)
        if length == "whole":
            return None
        path = setup.cell.seed, "train/phase", context.iteration, context.seed_keys[0]
        phase = int(seeding.generator(*path).integers(length)) if settings.random_phase else 0
        return Stretches(length, phase, settings.burn_in)

    def compute(
        self, data: PPOData, payload: MinibatchRequest, clock: Clock
    ) -> PartialGradient[PPOLosses]:
        """Return this job's share of the gradient on one minibatch, and of the losses."""
        theta = clone(payload.params, requires_grad=True)
        rows = self._minibatch_rows(data, payload.update_epoch, payload.minibatch)
        if not len(rows):
            zeros = {name: torch.zeros_like(leaf) for name, leaf in theta.items()}
            return PartialGradient(zeros, PPOLosses())
        loss, losses = self._loss(data.batch.take(rows.tolist()), theta, payload)
        return PartialGradient.of(loss, theta, losses)

    def _minibatch_rows(self, data: PPOData, epoch: int, minibatch: int) -> np.ndarray:
        """Return the job's sequences that belong to a minibatch, reshuffled every epoch.

        Sequences are dealt to the minibatches in turn, and a job goes on where the one before it
        stops if tasks have equally many. The result does not depend on the number of workers.
        """
        iteration, keys, count = (
            data.context.iteration,
            data.context.seed_keys,
            len(data.batch.x[0]),
        )
        rng = seeding.generator(
            self.setup.cell.seed, "train/minibatches", iteration, keys[0], epoch
        )
        before = keys[0] * count // len(keys) + epoch
        return rng.permutation(count)[
            (minibatch - before) % self.settings.minibatches :: self.settings.minibatches
        ]

    def _loss(
        self, batch: Batch, theta: Params, request: MinibatchRequest
    ) -> tuple[Tensor, PPOLosses]:
        """Return the loss at the top of the page, summed over steps, and its terms."""
        s, mask, steps = self.settings, batch.mask, batch.mask.sum()
        out = batch.forward(self.setup.policy, theta)
        log_probs = out.head.log_prob(batch.actions)
        advantages = (batch.advantages - request.advantage_mean) / request.advantage_std
        args = (log_probs, batch.log_probs, advantages, mask)
        surrogate = objectives.ppo_clip_loss(*args, clip=s.clip).sum() * steps
        value = torch.zeros(())
        if batch.value_targets is not None:
            targets, values = batch.value_targets, out.value
            if s.task_critic and batch.task is not None:
                values = critic_values(theta, batch.x, batch.task)
            huber = torch.nn.functional.smooth_l1_loss(values, targets, reduction="none")
            value = torch.where(mask, huber, 0).sum()
        entropy = out.head.entropy(mask).sum() * steps
        loss = surrogate + s.value_coef * value - s.entropy_coef * entropy
        task = torch.zeros(())
        if s.task_coef and batch.task is not None:
            task = torch.where(mask, task_error(theta, out.features, batch.task), 0).sum()
            loss = loss + s.task_coef * task
        with torch.no_grad():
            log_ratio = (log_probs - batch.log_probs)[mask]
            ratio = log_ratio.exp()
            sums = {
                "surrogate": surrogate,
                "kl": (ratio - 1 - log_ratio).sum(),
                "clipped": ((ratio - 1).abs() > s.clip).sum(),
                "task_error": task,
            }
            if batch.value_targets is not None:
                targets, error = targets[mask], (targets - values)[mask]
                sums |= {
                    "value_loss": value,
                    "target": targets.sum(),
                    "target_square": targets.square().sum(),
                    "error": error.sum(),
                    "error_square": error.square().sum(),
                }
            numbers = torch.stack(list(sums.values())).tolist()
        return loss, PPOLosses(float(steps), **dict(zip(sums, numbers, strict=True)))


def _advantage_statistics(reports: Sequence[CollectReport]) -> tuple[float, float]:
    """Return mean and standard deviation of all advantages."""
    moments = sum((report.advantages for report in reports), ScalarMoments())
    count = max(moments.count, 1.0)
    mean = moments.total / count
    return mean, max(moments.square / count - mean * mean, 1e-16) ** 0.5


# --- specs ---------------------------------------------------------------------------------------


FALLS = "its step size falls to zero at the end of the budget"

RL2 = LearnerSpec(
    settings=RL2Settings,
    build=PPOLearner,
    adapter="memory",
    feeds_history=True,
    tied_to_budget=FALLS,
)
MULTITASK = LearnerSpec(
    settings=PPOSettings,
    build=PPOLearner,
    adapter="none",
    uses_value_head=True,
    tied_to_budget=FALLS,
)
ORACLE = LearnerSpec(
    settings=OracleSettings,
    build=PPOLearner,
    adapter="none",
    feeds_task=True,
    uses_value_head=True,
    tied_to_budget=FALLS,
)
FINETUNE = LearnerSpec(
    settings=FinetuneSettings,
    build=PPOLearner,
    adapter="ppo",
    shared_training="multitask",
    uses_value_head=True,
    tied_to_budget=FALLS,
)
SCRATCH = replace(FINETUNE, shared_training=None, trains=False)
