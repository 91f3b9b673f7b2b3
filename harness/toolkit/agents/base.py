"""What an agent is, and the part that all agents around a torch module share: acting, remembering.

Shapes: one observation ``[O]`` or a batch ``[B, O]`` of them; actions likewise.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.toolkit import stateful
from harness.toolkit.stateful import Hidden
from harness.toolkit.step_buffer import Discount, Step, StepBuffer
from policies.base import Memory, Params
from policies.heads import gaussian_log_prob
from policies.modules import PolicyBase

Lock = AbstractContextManager[Any]
_LOCKS: weakref.WeakKeyDictionary[nn.Module, Lock] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


class Agent(ABC):
    """Acts, observes what came of it, adapts to a task, and is meta-trained across tasks."""

    @abstractmethod
    def act(self, observation: Any) -> Any:
        """Return an action."""

    @abstractmethod
    def observe(
        self,
        observation: Any,
        action: Any,
        reward: float,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """Take note of what ``action`` led to.

        Args:
            observation: after the action.
            action: what was done.
            reward: what it earned.
            terminated: the task ended there.
            truncated: the episode was cut there.
        """

    @abstractmethod
    def adapt(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Adapt to the task at hand (inner loop); return what happened."""

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Learn across tasks (outer loop); return what happened."""

    def reset(self) -> None:
        """Begin an episode; nothing to do unless an agent says so."""
        return


class ModuleAgent(Agent):
    """Acts with a torch module, with its hidden state carried from step to step.

    A policy draws its actions and remembers its steps, to adapt on them; any other module acts by
    its output.

    Args:
        model: a module; with a hidden state as ``stateful`` says.
        buffer_size: last steps kept to adapt on.
        deterministic: take a policy's mean action.
        seed: of the actions drawn.
    """

    def __init__(
        self,
        model: nn.Module,
        buffer_size: int = 1000,
        deterministic: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.trail = StepBuffer(buffer_size)
        self._deterministic = deterministic
        self._generator = torch.Generator().manual_seed(seed)
        self._hidden: Hidden = None
        self._taken: _Taken | None = None

    def fast_params(self) -> Params | None:
        """Return parameters that take the place of the module's, None for its own."""
        return None

    @torch.no_grad()
    def act(self, observation: Any) -> np.ndarray:
        """Return the action ``[A]`` for ``observation [O]``, or ``[B, A]`` for ``[B, O]``."""
        obs = self._tensor(observation)
        batch = obs.unsqueeze(0) if obs.dim() == 1 else obs
        first = self._hidden is None
        before = stateful.initial_hidden(self.model, len(batch)) if first else self._hidden
        result = self._call(batch, before)
        action, self._hidden = stateful.split(result)
        if isinstance(self.model, PolicyBase):
            mean, log_std, _, _ = result
            if not self._deterministic:
                noise = torch.randn(mean.shape, generator=self._generator).to(mean)
                action = mean + log_std.exp() * noise
            if obs.dim() == 1:
                self._taken = _Taken(obs, mean[0], log_std[0], before, first)
        numbers: np.ndarray = (action[0] if obs.dim() == 1 else action).cpu().numpy()
        return numbers

    def observe(
        self,
        observation: Any,
        action: Any,
        reward: float,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """Remember a step of a policy; after the last of an episode the hidden state is fresh.

        The likelihood kept is that of ``action`` as given here, be it clipped since ``act``.
        """
        if self._taken is not None:
            taken, done = self._taken, self._tensor(action)
            log_prob = gaussian_log_prob(done, taken.mean, taken.log_std)
            step = Step(
                taken.obs,
                done,
                log_prob,
                taken.memory,
                taken.first,
                float(reward),
                self._tensor(observation),
                bool(terminated),
            )
            self.trail.add(step)
        self._taken = None
        if terminated or truncated:
            self.reset()

    def reset(self) -> None:
        """Begin an episode with a fresh hidden state; parameters and experience stay."""
        self._hidden = self._taken = None

    def experience(self) -> dict[str, Any]:
        """Return the steps remembered as a batch to adapt on; see ``StepBuffer.batch``.

        Raises:
            ValueError: the module is no policy, or it has not acted yet.
        """
        if not isinstance(self.model, PolicyBase):
            raise ValueError(
                f"{type(self.model).__name__} is no policy and cannot learn from rewards; pass "
                "inputs and targets to adapt"
            )
        return self.trail.batch(lambda series, memory: self._call(series, memory)[2], Discount())

    def _call(self, x: Tensor, hidden: Hidden) -> Any:
        with torch.no_grad(), lock_of(self.model):
            return stateful.detach(stateful.call_whole(self.model, x, hidden, self.fast_params()))

    def _tensor(self, numbers: Any) -> Tensor:
        like = next(self.model.parameters())
        return torch.as_tensor(np.asarray(numbers)).to(like)


@dataclass(frozen=True, slots=True)
class _Taken:
    """The last action's distribution, until what it led to is observed."""

    obs: Tensor
    mean: Tensor
    log_std: Tensor
    memory: Memory
    first: bool


def lock_of(model: nn.Module) -> Lock:
    """Return the lock of ``model``: running it with other parameters changes it for a moment."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, threading.RLock())
