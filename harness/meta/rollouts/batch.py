"""Episodes as training data: inputs, advantages and value targets as tensors.

Array letters: N tasks, E sequences per task (an episode, or several end to end), T time, I input,
A action, S chunks of sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.meta import objectives
from harness.meta.rollouts import trajectories
from harness.meta.rollouts.actor import Actor
from harness.meta.rollouts.inputs import Goals
from harness.types import Episodes
from policies.base import Memory, Params, Policy, PolicyOutput
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class Batch:
    """The data of one gradient step."""

    x: Float[Tensor, "N E T I"]
    """Normalised policy inputs."""
    first: Bool[Tensor, "N E T"]
    """Steps before which memory is reset."""
    actions: Float[Tensor, "N E T A"]
    log_probs: Float[Tensor, "N E T"]
    """Under the policy that sampled."""
    advantages: Float[Tensor, "N E T"]
    mask: Bool[Tensor, "N E T"]
    value_targets: Float[Tensor, "N E T"] | None = None
    """Targets of the value head, in units of ``return_scale``; none with the linear baseline."""
    memory: Memory = ()
    """Before the first step; a fresh one if empty."""
    task: Float[Tensor, "N E T G"] | None = None
    """Features of the task, for what observes or predicts it in training."""

    def forward(self, policy: Policy, params: Params) -> PolicyOutput:
        """Unroll ``policy`` over the whole batch."""
        fresh = policy.initial_memory(self.x.shape[0], self.x.shape[1], self.x)
        return policy.forward(params, self.x, self.first, self.memory or fresh)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with ``function`` applied to each of its tensors."""
        memory = tuple(function(part) for part in self.memory)
        parts = {name: getattr(self, name) for name in _TENSORS}
        given = {name: function(part) for name, part in parts.items() if part is not None}
        return Batch(**given, memory=memory)

    def take(self, rows: Sequence[int]) -> Batch:
        """Return the given sequences of a batch [1, S, ...]."""
        index = torch.tensor(rows, dtype=torch.long)
        return self.map(lambda x: x[:, index])

    @classmethod
    def concatenate(cls, batches: Sequence[Batch]) -> Batch:
        """Return the sequences of several batches as one batch."""
        parts = {name: [getattr(batch, name) for batch in batches] for name in _TENSORS}
        given = {name: torch.cat(part, 1) for name, part in parts.items() if part[0] is not None}
        memories = zip(*(batch.memory for batch in batches), strict=True)
        return cls(**given, memory=tuple(torch.cat(memory, 1) for memory in memories))


_TENSORS = [entry.name for entry in fields(Batch) if entry.name != "memory"]


@dataclass(frozen=True, slots=True)
class AdvantageEstimator:
    """Generalised advantage estimation (arXiv 1506.02438) over one of two baselines."""

    gamma: float
    gae_lambda: float
    baseline: Literal["linear", "value"]
    return_scale: float = 1.0
    """Rewards are divided by this wherever the value head is involved."""

    def estimate(
        self, played: trajectories.Trajectories, values: Float[Tensor, "N E U"] | None
    ) -> tuple[Float[Tensor, "N E T"], Float[Tensor, "N E T"] | None]:
        """Return advantages and, with the value head as baseline, its targets.

        With the linear baseline, each episode's advantages are of its own rewards. With the value
        head they go on into the next episode of a sequence.

        Args:
            played: the trajectories.
            values: the value head's predictions at every step and after the last one; not needed
                with the linear baseline.
        """
        gae = (self.gamma, self.gae_lambda)
        if values is not None:
            after = values.gather(2, played.length.unsqueeze(-1)).squeeze(-1)
            rewards, at = played.rewards / self.return_scale, values[..., :-1]
            expected = objectives.Values(at, after)
            advantages = objectives.gae(rewards, played.mask, expected, *gae, played.terminated)
            return advantages, advantages + at
        ends = torch.nn.functional.pad(played.begins[..., 1:], (0, 1))
        discounts = self.gamma * (~ends).to(played.rewards.dtype)
        returns = objectives.discounted_returns(played.rewards, discounts)
        at = objectives.linear_baseline(played.obs, returns, played.mask, played.begins)
        fitted = objectives.Values(at, torch.zeros_like(at[..., 0]))
        return objectives.gae(played.rewards, played.mask, fitted, *gae, ends), None


TaskCritic = Callable[[Float[Tensor, "N E U I"], Float[Tensor, "N E U G"]], Float[Tensor, "N E U"]]
"""Estimates values from the policy's inputs and the features of the task."""


@torch.no_grad()
def prepare(
    blocks: Sequence[Episodes],
    actor: Actor,
    tasks: tuple[Task, ...],
    estimator: AdvantageEstimator,
    *,
    normalize: bool = True,
    goals: Goals | None = None,
    critic: TaskCritic | None = None,
) -> Batch:
    """Put the episodes of ``blocks`` end to end and compute inputs, advantages and value targets.

    Args:
        blocks: episodes in the order in which they were played.
        actor: what played them, in the state before the first episode. Any memory it began with is
            taken as given: nothing is differentiated through it.
        tasks: one per row of the blocks.
        estimator: how advantages are estimated; values are those of ``actor``.
        normalize: give the advantages of each task mean 0 and standard deviation 1.
        goals: puts the features of the tasks into the batch.
        critic: estimates values instead of ``actor``; it needs ``goals``.

    Raises:
        ValueError: there is a critic without goals.
    """
    if critic and goals is None:
        raise ValueError("a critic that observes the task needs goals")
    played = trajectories.pack(blocks, actor)
    inputs = trajectories.inputs_along(played, actor, tasks)
    values = inputs.values(actor) if estimator.baseline == "value" and not critic else None
    task = None
    if goals:
        features = goals.of(tasks).to(inputs.x.dtype)[:, None, None]
        task = features.expand(*inputs.x.shape[:3], -1)
        values = critic(inputs.x, task) if critic else values
        task = task[:, :, :-1]
    advantages, targets = estimator.estimate(played, values)
    return Batch(
        x=inputs.x[:, :, :-1],
        first=inputs.first[..., :-1],
        actions=played.actions,
        log_probs=played.log_probs,
        advantages=objectives.normalized(advantages, played.mask) if normalize else advantages,
        value_targets=targets,
        mask=played.mask,
        memory=inputs.memory,
        task=task,
    )


@dataclass(frozen=True, slots=True)
class Stretches:
    """How sequences are cut for truncated backpropagation."""

    length: int
    phase: int = 0
    """Steps before the first cut, less than ``length``; 0 for ``length``."""
    burn_in: int = 0
    """Steps before a stretch that update its memory; losses are not of them."""


@torch.no_grad()
def cut_sequences(batch: Batch, actor: Actor, stretches: Stretches | None) -> Batch:
    """Cut sequences [N, E, T] into chunks [1, S, burn-in and length].

    Each chunk starts from the memory that ``actor`` had there; gradients do not flow through it.
    Chunks without any step are left out. ``None`` leaves sequences whole.
    """
    steps = batch.x.shape[2]
    cut = stretches or Stretches(steps)
    length = min(cut.length, steps)
    starts = [0, *range(cut.phase or length, steps, length)]
    memory, whole, position = batch.memory, replace(batch, memory=()), 0
    chunks = []
    for start, stop in pairwise([*starts, steps]):
        begin = max(0, start - cut.burn_in)
        if begin > position:
            past = slice(position, begin)
            x, first = batch.x[:, :, past], batch.first[:, :, past]
            memory, position = actor.policy.forward(actor.params, x, first, memory).memory, begin
        window = partial(_window, start=begin, length=min(length + cut.burn_in, steps))
        chunk = whole.map(window)
        chunk.mask[:, :, : start - begin] = False
        chunk.mask[:, :, stop - begin :] = False
        chunks.append(replace(chunk, memory=memory).map(_merge_tasks))
    joined = Batch.concatenate(chunks)
    return joined.take(joined.mask[0].any(-1).nonzero().flatten().tolist())


def _window(x: Tensor, start: int, length: int) -> Tensor:
    """Return ``length`` steps of ``x`` [N, E, T, ...], padded with zeros past its end."""
    window = x[:, :, start : start + length]
    missing = length - window.shape[2]
    if not missing:
        return window.clone()
    return torch.cat([window, window.new_zeros(*x.shape[:2], missing, *x.shape[3:])], 2)


def _merge_tasks(x: Tensor) -> Tensor:
    return x.reshape(1, -1, *x.shape[2:])
