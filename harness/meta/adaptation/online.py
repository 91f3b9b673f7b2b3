"""Adapting a policy while it acts: the last steps in a buffer, gradient steps in between.

Advantages are generalised estimates from the policy's own value head; a policy with memory learns
from whole stretches of experience, each from the memory it had when the stretch began.

Letters: T steps in the buffer, O observation, A action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.meta import objectives
from harness.meta.adaptation.hooks import MetaRLHook
from harness.meta.adaptation.module_adapter import Adapter
from harness.meta.adaptation.settings import AdaptationConfig
from policies.base import Memory
from policies.modules import PolicyBase


@dataclass(frozen=True, slots=True)
class _Step:
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
class OnlineLoss:
    """How experience is weighed."""

    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    """Of the likelihood ratio (arXiv 1707.06347)."""
    value_coef: float = 0.5
    entropy_coef: float = 0.0


class TestTimeAdapter:
    """Plays episodes and adapts ``model`` on its own experience on the way.

    Args:
        model: an actor-critic of ``policies``; changed in place, ``reset`` brings it back.
        adaptation_lr: step size.
        adaptation_steps: gradient steps each time.
        buffer_size: last environment steps that are learned from.
        config: guards and optimiser; step size and steps are those above.
        loss: how experience is weighed.
    """

    __test__ = False

    def __init__(
        self,
        model: PolicyBase,
        adaptation_lr: float = 1e-3,
        adaptation_steps: int = 10,
        buffer_size: int = 1000,
        config: AdaptationConfig | None = None,
        loss: OnlineLoss | None = None,
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"buffer_size is {buffer_size}; it must be at least 1. Raise it")
        base = config or AdaptationConfig()
        base = replace(base, learning_rate=adaptation_lr, num_steps=adaptation_steps)
        self.model = model
        self._device = next(model.parameters()).device
        self.adapter = Adapter(model, base, self._device)
        self._loss = loss or OnlineLoss()
        self._hook = MetaRLHook(
            self.adapter, self._loss.clip, self._loss.value_coef, self._loss.entropy_coef
        )
        self._buffer: deque[_Step] = deque(maxlen=buffer_size)

    def adapt_online(
        self, env: Any, num_episodes: int = 5, adapt_every: int = 10, seed: int | None = None
    ) -> tuple[list[float], list[dict[str, float]]]:
        """Play ``num_episodes`` and adapt after every ``adapt_every`` steps.

        Args:
            env: a Gymnasium environment, or one whose ``reset`` returns the observation alone and
                whose ``step`` returns (obs, reward, done, info).
            num_episodes: episodes to play.
            adapt_every: environment steps between adaptations.
            seed: of the first episode; the next ones count up. Unseeded if None.

        Returns:
            The return of each episode, and what each adaptation reported.
        """
        returns, stats, played = [], [], 0
        for episode in range(num_episodes):
            total = 0.0
            for step in self._episode(env, None if seed is None else seed + episode):
                total += step.reward
                self._buffer.append(step)
                played += 1
                if played % adapt_every == 0:
                    stats.append({"episode": float(episode), **self.adapt()})
            returns.append(total)
        return returns, stats

    def adapt(self) -> dict[str, float]:
        """Adapt on what is in the buffer; return what ``Adapter.adapt`` does, and its size.

        Raises:
            ValueError: nothing was played yet.
        """
        if not self._buffer:
            raise ValueError("nothing to adapt on; play with adapt_online first")
        info = self._hook.adapt(self._batch())
        return info | {"buffer_steps": float(len(self._buffer))}

    def reset(self) -> None:
        """Forget what was played and bring the parameters back."""
        self._buffer.clear()
        self.adapter.reset()

    def _episode(self, env: Any, seed: int | None) -> Iterator[_Step]:
        result = env.reset() if seed is None else env.reset(seed=seed)
        obs = _tensor(result[0] if isinstance(result, tuple) else result)
        memory, first, over = self.model.init_hidden(1), True, False
        while not over:
            with torch.no_grad():
                fed = obs.unsqueeze(0).to(self._device)
                action, log_prob, _, after = self.model.get_action(fed, memory)
            next_obs, reward, terminated, truncated = _step(env, action[0].cpu().numpy())
            yield _Step(obs, action[0], log_prob[0], memory, first, reward, next_obs, terminated)
            obs, memory, first, over = next_obs, after, False, terminated or truncated

    @torch.no_grad()
    def _batch(self) -> dict[str, Any]:
        """Return the buffer as one series, with advantages and value targets."""
        steps = list(self._buffer)
        starts = [t for t, step in enumerate(steps) if step.first or t == 0]
        parts = [
            self._estimate(steps[a:b])
            for a, b in zip(starts, [*starts[1:], len(steps)], strict=True)
        ]
        advantages = torch.cat([part[0] for part in parts])
        returns = torch.cat([part[1] for part in parts])
        spread = advantages.std(correction=0) + 1e-8
        obs = torch.stack([step.obs for step in steps]).to(self._device)
        return {
            "obs": obs.unsqueeze(0),
            "actions": torch.stack([step.action for step in steps]).unsqueeze(0),
            "log_probs": torch.stack([step.log_prob for step in steps]).unsqueeze(0),
            "advantages": ((advantages - advantages.mean()) / spread).unsqueeze(0),
            "returns": returns.unsqueeze(0),
            "first": torch.tensor([[step.first for step in steps]], device=self._device),
            "hidden_state": steps[0].memory,
        }

    def _estimate(self, steps: list[_Step]) -> tuple[Tensor, Tensor]:
        """Return advantages and returns [T] of a stretch of one episode."""
        obs = torch.stack([step.obs for step in steps] + [steps[-1].next_obs])
        _, _, values, _ = self.model(obs.unsqueeze(0).to(self._device), steps[0].memory)
        at, after = values[:, :-1].unsqueeze(0), values[:, -1:]
        rewards = at.new_tensor([step.reward for step in steps]).view_as(at)
        if steps[-1].terminated:
            after = torch.zeros_like(after)
        advantages = objectives.gae(
            rewards,
            torch.ones_like(at, dtype=torch.bool),
            objectives.Values(at, after),
            self._loss.gamma,
            self._loss.gae_lambda,
        )
        return advantages.flatten(), (advantages + at).flatten()


def _step(env: Any, action: np.ndarray) -> tuple[Tensor, float, bool, bool]:
    """Return next observation, reward, terminated and truncated of either kind of environment."""
    space = getattr(env, "action_space", None)
    if getattr(space, "low", None) is not None:
        assert space is not None
        action = np.clip(action, space.low, space.high).reshape(space.shape).astype(space.dtype)
    result = env.step(action)
    if len(result) == 5:
        obs, reward, terminated, truncated, _ = result
        return _tensor(obs), float(reward), bool(terminated), bool(truncated)
    obs, reward, done, info = result
    cut = isinstance(info, Mapping) and bool(np.any(info.get("truncated", False)))
    over = bool(np.asarray(done).item())
    return _tensor(obs), float(np.asarray(reward).item()), over and not cut, over and cut


def _tensor(obs: Any) -> Tensor:
    return torch.as_tensor(np.asarray(obs), dtype=torch.float32).flatten()
