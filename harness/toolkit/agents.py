"""Agents: a common interface to act, observe, adapt and learn, and its two implementations.

Shapes: one observation ``[O]`` or a batch ``[B, O]``; actions ``[A]`` or ``[B, A]`` likewise.

Agents are not thread-safe: agents that run in different threads need a module each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from harness.meta import objectives
from harness.toolkit import stateful
from harness.toolkit.adaptation import Adapter, LossFn
from harness.toolkit.hooks import MetaRLHook
from harness.toolkit.maml import MetaMAML, SupervisedTask
from harness.toolkit.online import Step, StepBuffer
from harness.toolkit.stateful import Hidden
from policies.base import Memory, Params
from policies.heads import gaussian_log_prob
from policies.modules import PolicyBase


class Agent(ABC):
    """Acts, observes the consequences, adapts to a task, and is meta-trained across tasks."""

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
        """Record the consequences of ``action``.

        Args:
            observation: after the action.
            action: the action taken.
            reward: for the action.
            terminated: the MDP ended with this step.
            truncated: the episode was cut off at this step.
        """

    @abstractmethod
    def adapt(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Adapt to the current task (inner loop); return statistics."""

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Learn across tasks (outer loop); return statistics."""

    def reset(self) -> None:
        """Begin an episode. The default does nothing."""
        return


class ModuleAgent(Agent):
    """Acts with a torch module and carries its hidden state from step to step.

    A policy samples its actions and stores its steps to adapt on; the action of any other module
    is its output.

    Args:
        model: a module, called as ``stateful`` describes.
        buffer_size: number of latest steps to adapt on.
        deterministic: use a policy's mean action instead of a sample.
        seed: of the sampled actions.
    """

    def __init__(
        self,
        model: nn.Module,
        buffer_size: int = 1000,
        deterministic: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.buffer = StepBuffer(buffer_size)
        self._deterministic = deterministic
        self._generator = torch.Generator().manual_seed(seed)
        self._hidden: Hidden = None
        self._pending: _PendingStep | None = None

    def fast_params(self) -> Params | None:
        """Return parameters to use in place of the module's own, or None."""
        return None

    @torch.no_grad()
    def act(self, observation: Any) -> np.ndarray:
        """Return the action ``[A]`` for ``observation [O]``, or ``[B, A]`` for ``[B, O]``."""
        obs = self._tensor(observation)
        batch = obs.unsqueeze(0) if obs.dim() == 1 else obs
        first = self._hidden is None
        hidden = stateful.initial_hidden(self.model, len(batch)) if first else self._hidden
        result = self._call(batch, hidden)
        action, self._hidden = stateful.split(result)
        if isinstance(self.model, PolicyBase):
            mean, log_std, _, _ = result
            if not self._deterministic:
                noise = torch.randn(mean.shape, generator=self._generator).to(mean)
                action = mean + log_std.exp() * noise
            if obs.dim() == 1:
                self._pending = _PendingStep(obs, mean[0], log_std[0], hidden, first)
        array: np.ndarray = (action[0] if obs.dim() == 1 else action).cpu().numpy()
        return array

    def observe(
        self,
        observation: Any,
        action: Any,
        reward: float,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """Store a policy's step; the end of an episode resets the hidden state.

        The stored likelihood is that of ``action`` as passed here, which may have been clipped
        since ``act``.
        """
        if self._pending is not None:
            pending, action = self._pending, self._tensor(action)
            step = Step(
                obs=pending.obs,
                action=action,
                log_prob=gaussian_log_prob(action, pending.mean, pending.log_std),
                memory=pending.memory,
                first=pending.first,
                reward=float(reward),
                next_obs=self._tensor(observation),
                terminated=bool(terminated),
            )
            self.buffer.add(step)
        self._pending = None
        if terminated or truncated:
            self.reset()

    def reset(self) -> None:
        """Begin an episode with the initial hidden state; keep parameters and experience."""
        self._hidden = self._pending = None

    def experience(self) -> dict[str, Any]:
        """Return the stored steps as a batch to adapt on; see ``StepBuffer.batch``.

        Raises:
            ValueError: the module is not a policy, or it has not acted yet.
        """
        if not isinstance(self.model, PolicyBase):
            raise ValueError(
                f"{type(self.model).__name__} is not a policy and cannot learn from rewards; pass "
                "inputs and targets to adapt"
            )
        return self.buffer.batch(lambda obs, memory: self._call(obs, memory)[2])

    def _call(self, x: Tensor, hidden: Hidden) -> Any:
        with torch.no_grad():
            return stateful.call_whole(self.model, x, hidden, self.fast_params())

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(np.asarray(array)).to(next(self.model.parameters()))


@dataclass(frozen=True, slots=True)
class _PendingStep:
    """The last action's distribution, kept until its consequences are observed."""

    obs: Tensor
    mean: Tensor
    log_std: Tensor
    memory: Memory
    first: bool


class MetaMAMLAgent(ModuleAgent):
    """Adapts by MAML's inner steps, on data or its own experience, from fixed meta-parameters.

    Args:
        maml: holds the module and its meta-parameters.
        settings: arguments of ``ModuleAgent``.
    """

    def __init__(self, maml: MetaMAML, **settings: Any) -> None:
        super().__init__(maml.model, **settings)
        self.maml = maml
        self._fast: Params | None = None

    def fast_params(self) -> Params | None:
        """Return the adapted parameters, or None before the first adaptation."""
        return self._fast

    def adapt(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        num_steps: int | None = None,
        initial_hidden_state: Hidden = None,
        loss_fn: LossFn = mse_loss,
    ) -> dict[str, float]:
        """Take inner steps; later actions use the resulting parameters.

        Args:
            inputs: support inputs. If None, a policy takes policy-gradient steps on its experience
                since the last adaptation, starting from its current parameters.
            targets: support targets; adaptation starts from the meta-parameters.
            num_steps: gradient steps; ``maml.inner_steps`` if None.
            initial_hidden_state: hidden state before ``inputs``.
            loss_fn: loss of output and target.

        Raises:
            ValueError: there are inputs without targets, or nothing to adapt on.
            FloatingPointError: an adapted parameter is not finite.
        """
        info = {"steps": float(self.maml.inner_steps if num_steps is None else num_steps)}
        if inputs is None:
            return info | {"loss": self._adapt_on_experience(num_steps)}
        if targets is None:
            raise ValueError("inputs without targets; pass both or neither")
        self._fast = self.maml.adapt_task(inputs, targets, initial_hidden_state, loss_fn, num_steps)
        return info

    def update(
        self,
        tasks: Sequence[SupervisedTask],
        initial_hidden_state: Hidden = None,
        loss_fn: LossFn = mse_loss,
    ) -> dict[str, float]:
        """Take one meta-update on ``tasks`` and discard the adapted parameters."""
        loss = self.maml.meta_update(tasks, initial_hidden_state, loss_fn)
        self.forget()
        return {"loss": loss}

    def forget(self) -> None:
        """Return to the meta-parameters."""
        self._fast = None

    def _adapt_on_experience(self, num_steps: int | None) -> float:
        """Take policy-gradient steps; return the loss before the first one."""
        batch = self.experience()
        sampled, advantages = (batch[key].unsqueeze(0) for key in ("log_probs", "advantages"))
        every_step = torch.ones_like(advantages, dtype=torch.bool)

        def loss(params: Params) -> Tensor:
            inputs = (batch["obs"], batch["hidden_state"], batch["first"])
            mean, log_std, _, _ = functional_call(self.model, params, inputs)
            log_probs = gaussian_log_prob(batch["actions"], mean, log_std).unsqueeze(0)
            return objectives.likelihood_ratio_loss(log_probs, sampled, advantages, every_step)[0]

        start: Params = dict(self.model.named_parameters()) if self._fast is None else self._fast
        with torch.no_grad():
            initial_loss = loss(start).item()
        self._fast = self.maml.minimize(loss, num_steps, start)
        self.buffer.clear()
        return initial_loss


class AdaptationAgent(ModuleAgent):
    """Acts with a module whose parameters a test-time adapter changes in place.

    Args:
        adapter: of the module to act with.
        settings: arguments of ``ModuleAgent``.
    """

    def __init__(self, adapter: Adapter, **settings: Any) -> None:
        super().__init__(adapter.model, **settings)
        self.adapter = adapter
        self._hook = MetaRLHook(adapter)

    def adapt(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        hidden_state: Hidden = None,
    ) -> dict[str, float]:
        """Adapt to inputs with targets or, for a policy without them, to its own experience.

        Args:
            inputs: of the module.
            targets: desired outputs.
            hidden_state: before ``inputs``; the initial one if None.

        Raises:
            ValueError: there are inputs without targets, or nothing to adapt on.
        """
        if inputs is None:
            return self._hook.adapt(self.experience())
        if targets is None:
            raise ValueError("inputs without targets; pass both or neither")
        loss, steps = self.adapter.update_step(inputs, targets, hidden_state)
        return {"loss": loss, "steps": float(steps)}

    def update(self) -> dict[str, float]:
        """Make the current parameters those that ``forget`` returns to."""
        return {"drift": self.adapter.commit()}

    def forget(self) -> None:
        """Return to the initial parameters, or those of the last ``update``."""
        self.adapter.reset()
