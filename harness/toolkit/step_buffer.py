"""The last steps a policy took, ready to learn from.

A policy with memory learns from whole stretches of experience, each from the memory it had when the
stretch began. Letters: T steps kept, O observation, A action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.meta import objectives
from policies.base import Memory

ValuesOf = Callable[[Tensor, Memory], Tensor]
"""(series [1, T, O], memory before it) -> values [1, T]."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one environment; tensors without a batch axis, but for the memory's of 1."""

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    memory: Memory
    """Before the step."""
    first: bool
    reward: float
    next_obs: Tensor
    terminated: bool


@dataclass(frozen=True, slots=True)
class Discount:
    """How later rewards count, and estimates of them."""

    gamma: float = 0.99
    gae_lambda: float = 0.95


class StepBuffer:
    """The last ``size`` steps, in order."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a buffer of {size} steps; it must hold at least 1. Raise its size")
        self._steps: deque[Step] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Step) -> None:
        """Append a step; the oldest makes room."""
        self._steps.append(step)

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()

    @torch.no_grad()
    def batch(self, values_of: ValuesOf, discount: Discount) -> dict[str, Any]:
        """Return the steps as one series [1, T, ...] with advantages and value targets.

        Advantages are generalised estimates (arXiv 1506.02438), normalised over the series; an
        episode that was cut or still runs is bootstrapped with the value of what came last.

        Raises:
            ValueError: there are no steps.
        """
        if not self._steps:
            raise ValueError("nothing to adapt on; let the policy act in an environment first")
        steps = list(self._steps)
        starts = [t for t, step in enumerate(steps) if step.first or t == 0]
        parts = [
            _estimate(steps[a:b], values_of, discount)
            for a, b in zip(starts, [*starts[1:], len(steps)], strict=True)
        ]
        advantages = torch.cat([part[0] for part in parts])
        spread = advantages.std(correction=0) + 1e-8
        obs = torch.stack([step.obs for step in steps])
        first = torch.tensor([[step.first for step in steps]], device=obs.device)
        return {
            "obs": obs.unsqueeze(0),
            "actions": torch.stack([step.action for step in steps]).unsqueeze(0),
            "log_probs": torch.stack([step.log_prob for step in steps]).unsqueeze(0),
            "advantages": ((advantages - advantages.mean()) / spread).unsqueeze(0),
            "returns": torch.cat([part[1] for part in parts]).unsqueeze(0),
            "first": first,
            "hidden_state": steps[0].memory,
        }


def _estimate(steps: list[Step], values_of: ValuesOf, discount: Discount) -> tuple[Tensor, Tensor]:
    """Return advantages and returns [T] of a stretch of one episode."""
    obs = torch.stack([step.obs for step in steps] + [steps[-1].next_obs])
    values = values_of(obs.unsqueeze(0), steps[0].memory)
    at, after = values[:, :-1].unsqueeze(0), values[:, -1:]
    if steps[-1].terminated:
        after = torch.zeros_like(after)
    rewards = at.new_tensor([step.reward for step in steps]).view_as(at)
    advantages = objectives.gae(
        rewards,
        torch.ones_like(at, dtype=torch.bool),
        objectives.Values(at, after),
        discount.gamma,
        discount.gae_lambda,
    )
    return advantages.flatten(), (advantages + at).flatten()
