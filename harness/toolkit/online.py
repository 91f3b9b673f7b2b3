"""Adapting a policy while it acts: the last steps in a buffer, gradient steps in between.

Advantages are generalised estimates from the policy's own value head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.toolkit.hooks import MetaRLHook
from harness.toolkit.module_adapter import Adapter
from harness.toolkit.settings import AdaptationConfig
from harness.toolkit.step_buffer import Discount, Step, StepBuffer
from policies.base import Memory
from policies.modules import PolicyBase


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
        base = config or AdaptationConfig()
        base = replace(base, learning_rate=adaptation_lr, num_steps=adaptation_steps)
        self.model = model
        self._device = next(model.parameters()).device
        self.adapter = Adapter(model, base, self._device)
        self._loss = loss or OnlineLoss()
        self._hook = MetaRLHook(
            self.adapter, self._loss.clip, self._loss.value_coef, self._loss.entropy_coef
        )
        self._trail = StepBuffer(buffer_size)

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
                self._trail.add(step)
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
        info = self._hook.adapt(self._batch())
        return info | {"buffer_steps": float(len(self._trail))}

    def reset(self) -> None:
        """Forget what was played and bring the parameters back."""
        self._trail.clear()
        self.adapter.reset()

    def _episode(self, env: Any, seed: int | None) -> Iterator[Step]:
        result = env.reset() if seed is None else env.reset(seed=seed)
        obs = as_tensor(result[0] if isinstance(result, tuple) else result).to(self._device)
        memory, first, over = self.model.init_hidden(1), True, False
        while not over:
            with torch.no_grad():
                action, log_prob, _, after = self.model.get_action(obs.unsqueeze(0), memory)
            next_obs, reward, terminated, truncated = step_env(env, action[0].cpu().numpy())
            next_obs = next_obs.to(self._device)
            yield Step(obs, action[0], log_prob[0], memory, first, reward, next_obs, terminated)
            obs, memory, first, over = next_obs, after, False, terminated or truncated

    def _batch(self) -> dict[str, Any]:
        def values_of(series: Tensor, memory: Memory) -> Tensor:
            values: Tensor = self.model(series, memory)[2]
            return values

        return self._trail.batch(values_of, Discount(self._loss.gamma, self._loss.gae_lambda))


def step_env(env: Any, action: np.ndarray) -> tuple[Tensor, float, bool, bool]:
    """Return next observation, reward, terminated and truncated of either kind of environment."""
    space = getattr(env, "action_space", None)
    if getattr(space, "low", None) is not None:
        assert space is not None
        action = np.clip(action, space.low, space.high).reshape(space.shape).astype(space.dtype)
    result = env.step(action)
    if len(result) == 5:
        obs, reward, terminated, truncated, _ = result
        return as_tensor(obs), float(reward), bool(terminated), bool(truncated)
    obs, reward, done, info = result
    cut = isinstance(info, Mapping) and bool(np.any(info.get("truncated", False)))
    over = bool(np.asarray(done).item())
    return as_tensor(obs), float(np.asarray(reward).item()), over and not cut, over and cut


def as_tensor(obs: Any) -> Tensor:
    """Return an observation as a flat vector of 32-bit numbers."""
    return torch.as_tensor(np.asarray(obs), dtype=torch.float32).flatten()
