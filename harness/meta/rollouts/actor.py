"""A policy that acts on a batch of tasks: its parameters, inputs and memory.

Array letters: N tasks, E episodes per task, B = N·E, T horizon, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.meta.rollouts.episode_loop import Clock, run_episodes
from harness.meta.rollouts.inputs import Inputs, StepInputs
from harness.meta.rollouts.normalizer import Normalizer
from harness.types import Episodes
from policies import heads
from policies.base import Memory, Params, Policy
from task_distributions.base import BatchedEnv, EnvSpec, Task


@dataclass(frozen=True, slots=True)
class Context:
    """The state that a policy carries from one episode on a task to the next."""

    memory: Memory
    action: Float[Tensor, "N E A"]
    """The last one, in the environment's units."""
    reward: Float[Tensor, "N E"]
    """The last one, in the actor's reward unit."""

    def first_episodes(self, count: int) -> Context:
        """Return the context of the first ``count`` episodes of every task."""
        memory = tuple(part[:, :count] for part in self.memory)
        return Context(memory, self.action[:, :count], self.reward[:, :count])


@dataclass(frozen=True, slots=True)
class Actor:
    """A policy ready to act: parameters with a leading axis of N or 1, and a frozen normaliser."""

    policy: Policy
    params: Params
    normalizer: Normalizer
    action_scale: float
    """The environment receives the policy's action times this."""
    inputs: Inputs
    """Assembles the policy's input."""
    reward_unit: float = 1.0
    """Rewards are divided by this before they are fed to the policy."""
    context: Context | None = None
    """The state that the next episodes continue from; a fresh memory if ``None``."""

    def fresh_context(self, num_tasks: int, episodes: int) -> Context:
        """Return the context before the first episode."""
        like = next(iter(self.params.values()))
        memory = self.policy.initial_memory(num_tasks, episodes, like)
        action = like.new_zeros(num_tasks, episodes, self.policy.action_dim)
        return Context(memory, action, action[..., 0])


@torch.no_grad()
def rollout(
    env: BatchedEnv,
    actor: Actor,
    seeds: Sequence[int],
    noise: Float[np.ndarray, "T N E A"] | None,
    clock: Clock,
) -> tuple[Episodes, Context]:
    """Run one episode per environment; return the episodes and the context after them.

    Args:
        env: N·E environments.
        actor: the policy; the episodes continue from its context.
        seeds: one reset seed per environment, [B].
        noise: from ``draw_noise``, to sample actions with; ``None`` takes the likeliest action.
        clock: charged with ``physics`` and ``inference``.
    """
    playing = Playing(actor, env.spec, tuple(env.tasks), env.episodes_per_task, noise)
    episodes = run_episodes(
        env,
        playing.act,
        seeds,
        action_scale=actor.action_scale,
        clock=clock,
        on_step=playing.observe if playing.feeds_history else None,
    )
    return episodes, playing.context_after(episodes)


class Playing:
    """An actor in the middle of its episodes: the part of it that changes from step to step."""

    def __init__(
        self,
        actor: Actor,
        spec: EnvSpec,
        tasks: tuple[Task, ...],
        episodes: int,
        noise: Float[np.ndarray, "T N E A"] | None,
    ) -> None:
        self._actor, self._noise = actor, noise
        self._before = actor.context or actor.fresh_context(len(tasks), episodes)
        self._now = self._acted = _Step.of(self._before)
        self.feeds_history = actor.inputs.history
        self._inputs = StepInputs(actor.inputs, actor.normalizer, tasks, self._now.reward)
        self._continues = torch.zeros(len(tasks), episodes, 1, dtype=torch.bool)
        self._resets = torch.full_like(self._continues, actor.context is None)
        self._sampler = heads.sampler(actor.params.get("log_std"))

    @property
    def context(self) -> Context:
        """The context after the last step."""
        return self._now.context()

    def act(self, step: int, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return actions [N, E, A] at ``obs`` [N, E, O], and their log-probabilities if drawn."""
        actor, now = self._actor, self._now
        x = self._inputs.assemble(obs, now.action, now.reward, step == 0)
        first = self._continues if step else self._resets
        out = actor.policy.forward(actor.params, x, first, now.memory)
        action_params = out.action_params.squeeze(2)
        if self._noise is None:
            actions, log_probs = self._sampler.mode(action_params), None
        else:
            actions, log_probs = self._sampler.draw(action_params, self._noise[step])
        if self.feeds_history:  # ``observe`` completes the step with the reward
            sent = np.clip(actions * actor.action_scale, -1.0, 1.0)
            self._acted = _Step(out.memory, sent, now.reward)
        else:
            self._now = _Step(out.memory, now.action, now.reward)
        return actions, log_probs

    def observe(self, reward: np.ndarray, happened: np.ndarray) -> None:
        """Take over the step that was acted, in the episodes where it happened."""
        reward = (reward / self._actor.reward_unit).astype(self._now.reward.dtype, copy=False)
        acted = _Step(self._acted.memory, self._acted.action, reward)
        if happened.all():
            self._now = acted
        else:
            where = torch.from_numpy(happened)
            self._now = _Step.of(_select(where, acted.context(), self._now.context()))

    def context_after(self, episodes: Episodes) -> Context:
        """Return the context after the episodes; an invalid one leaves no trace."""
        return _select(torch.from_numpy(~episodes.invalid), self._now.context(), self._before)


class _Step(NamedTuple):
    """A ``Context`` with arrays for the action and the reward."""

    memory: Memory
    action: np.ndarray
    reward: np.ndarray

    @classmethod
    def of(cls, context: Context) -> _Step:
        return cls(context.memory, context.action.numpy(), context.reward.numpy())

    def context(self) -> Context:
        return Context(self.memory, torch.from_numpy(self.action), torch.from_numpy(self.reward))


def _select(where: Tensor, yes: Context, no: Context) -> Context:
    """Return the context ``yes`` where ``where`` [N, E] is set, else ``no``."""
    if where.all():
        return yes

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(where.view(*where.shape, *(1,) * (a.dim() - 2)), a, b)

    memory = tuple(pick(a, b) for a, b in zip(yes.memory, no.memory, strict=True))
    return Context(memory, pick(yes.action, no.action), pick(yes.reward, no.reward))
