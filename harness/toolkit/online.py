"""Online adaptation: a policy acts, keeps its last steps, and takes gradient steps in between.

A recurrent policy learns from contiguous sequences, each from the memory it had at the start.
Letters: T stored steps, O observation, A action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.meta import objectives
from harness.toolkit.adaptation import AdaptationConfig, Adapter
from harness.toolkit.hooks import MetaRLHook
from policies.base import Memory
from policies.modules import PolicyBase

ValueFn = Callable[[Tensor, Memory], Tensor]
"""(observations [1, T, O], memory before them) -> values [1, T]."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one environment, without a batch axis except for the memory's of size 1."""

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    memory: Memory
    """Before the step."""
    first: bool
    """The step starts an episode."""
    reward: float
    next_obs: Tensor
    terminated: bool


class StepBuffer:
    """The last ``size`` steps, in order.

    Raises:
        ValueError: ``size`` is below 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"the buffer size is {size}; it must be at least 1")
        self._steps: deque[Step] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Step) -> None:
        """Append a step; a full buffer drops its oldest."""
        self._steps.append(step)

    def clear(self) -> None:
        """Remove all steps."""
        self._steps.clear()

    @torch.no_grad()
    def batch(
        self, value_fn: ValueFn, gamma: float = 0.99, gae_lambda: float = 0.95
    ) -> dict[str, Any]:
        """Return the steps as one sequence [1, T, ...] with advantages and value targets.

        Advantages are GAE (arXiv 1506.02438), normalized over the sequence. Truncated and
        unfinished episodes are bootstrapped with the value of their last observation.

        Raises:
            ValueError: the buffer is empty.
        """
        if not self._steps:
            raise ValueError("no experience to adapt on; let the policy act first")
        steps = list(self._steps)
        starts = [t for t, step in enumerate(steps) if step.first or t == 0]
        estimates = [
            _advantages_and_returns(steps[start:end], value_fn, gamma, gae_lambda)
            for start, end in zip(starts, [*starts[1:], len(steps)], strict=True)
        ]
        advantages, returns = (torch.cat(parts, -1) for parts in zip(*estimates, strict=True))
        every_step = torch.ones_like(advantages, dtype=torch.bool)
        return {
            "obs": torch.stack([step.obs for step in steps]).unsqueeze(0),
            "actions": torch.stack([step.action for step in steps]).unsqueeze(0),
            "log_probs": torch.stack([step.log_prob for step in steps]).unsqueeze(0),
            "advantages": objectives.normalized(advantages, every_step)[0],
            "returns": returns[0],
            "first": torch.tensor([[step.first for step in steps]], device=returns.device),
            "hidden_state": steps[0].memory,
        }


def _advantages_and_returns(
    steps: list[Step], value_fn: ValueFn, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns, each [1, 1, T], for consecutive steps of one episode."""
    obs = torch.stack([step.obs for step in steps] + [steps[-1].next_obs])
    values = value_fn(obs.unsqueeze(0), steps[0].memory)
    current, last = values[:, :-1].unsqueeze(0), values[:, -1:]
    if steps[-1].terminated:
        last = torch.zeros_like(last)
    rewards = current.new_tensor([step.reward for step in steps]).view_as(current)
    mask = torch.ones_like(current, dtype=torch.bool)
    advantages = objectives.gae(rewards, mask, objectives.Values(current, last), gamma, gae_lambda)
    return advantages, advantages + current


@dataclass(frozen=True, slots=True)
class OnlineLoss:
    """Coefficients of the loss on experience."""

    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    """Range of the likelihood ratio (arXiv 1707.06347)."""
    value_coef: float = 0.5
    entropy_coef: float = 0.0


class TestTimeAdapter:
    """Plays episodes and adapts ``model`` to its own experience along the way.

    Args:
        model: an actor-critic from ``policies.modules``; changed in place, restored by ``reset``.
        adaptation_lr: step size.
        adaptation_steps: gradient steps per adaptation.
        buffer_size: number of latest environment steps to learn from.
        config: optimizer and guards; the two settings above override its own.
        loss: coefficients of the loss.
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
        config = replace(
            config or AdaptationConfig(), learning_rate=adaptation_lr, num_steps=adaptation_steps
        )
        self.model = model
        self._device = next(model.parameters()).device
        self.adapter = Adapter(model, config, self._device)
        self._loss = loss or OnlineLoss()
        self._hook = MetaRLHook(
            self.adapter, self._loss.clip, self._loss.value_coef, self._loss.entropy_coef
        )
        self._buffer = StepBuffer(buffer_size)

    def adapt_online(
        self, env: Any, num_episodes: int = 5, adapt_every: int = 10, seed: int | None = None
    ) -> tuple[list[float], list[dict[str, float]]]:
        """Play ``num_episodes`` and adapt after every ``adapt_every`` steps.

        Args:
            env: a Gymnasium environment, or one whose ``reset`` returns only the observation and
                whose ``step`` returns (obs, reward, done, info).
            num_episodes: number of episodes.
            adapt_every: environment steps between adaptations.
            seed: of the first episode; later ones count up from it. Unseeded if None.

        Returns:
            The return of each episode, and the statistics of each adaptation.
        """
        returns, stats, num_steps = [], [], 0
        for episode in range(num_episodes):
            total = 0.0
            for step in self._episode(env, None if seed is None else seed + episode):
                total += step.reward
                self._buffer.add(step)
                num_steps += 1
                if num_steps % adapt_every == 0:
                    stats.append({"episode": float(episode), **self.adapt()})
            returns.append(total)
        return returns, stats

    def adapt(self) -> dict[str, float]:
        """Adapt to the buffered steps; return ``Adapter.adapt``'s result and ``buffer_steps``.

        Raises:
            ValueError: the buffer is empty.
        """
        return self._hook.adapt(self._batch()) | {"buffer_steps": float(len(self._buffer))}

    def reset(self) -> None:
        """Clear the buffer and restore the parameters."""
        self._buffer.clear()
        self.adapter.reset()

    def _episode(self, env: Any, seed: int | None) -> Iterator[Step]:
        obs = reset_env(env, seed).to(self._device)
        memory, first, done = self.model.init_hidden(1), True, False
        while not done:
            with torch.no_grad():
                action, log_prob, _, next_memory = self.model.get_action(obs.unsqueeze(0), memory)
            next_obs, reward, terminated, truncated = step_env(env, action[0].cpu().numpy())
            next_obs = next_obs.to(self._device)
            yield Step(obs, action[0], log_prob[0], memory, first, reward, next_obs, terminated)
            obs, memory, first, done = next_obs, next_memory, False, terminated or truncated

    def _batch(self) -> dict[str, Any]:
        return self._buffer.batch(
            lambda obs, memory: self.model(obs, memory)[2], self._loss.gamma, self._loss.gae_lambda
        )


def reset_env(env: Any, seed: int | None = None) -> Tensor:
    """Start an episode; return the flat first observation of either kind of environment."""
    result = env.reset() if seed is None else env.reset(seed=seed)
    return _flat(result[0] if isinstance(result, tuple) else result)


def step_env(env: Any, action: np.ndarray) -> tuple[Tensor, float, bool, bool]:
    """Clip ``action`` to the action space and take it in either kind of environment.

    Returns:
        Flat next observation, reward, terminated and truncated.
    """
    space = getattr(env, "action_space", None)
    if space is not None and hasattr(space, "low"):
        action = np.clip(action, space.low, space.high).reshape(space.shape).astype(space.dtype)
    result = env.step(action)
    if len(result) == 5:
        obs, reward, terminated, truncated, _ = result
        return _flat(obs), float(reward), bool(terminated), bool(truncated)
    obs, reward, done, info = result
    done = bool(np.asarray(done).item())
    truncated = done and isinstance(info, Mapping) and bool(np.any(info.get("truncated", False)))
    return _flat(obs), float(np.asarray(reward).item()), done and not truncated, truncated


def _flat(obs: Any) -> Tensor:
    return torch.as_tensor(np.asarray(obs), dtype=torch.float32).flatten()
