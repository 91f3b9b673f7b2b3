"""A policy that acts: its parameters, what it is fed and what it remembers, on a batch of tasks.

Array letters: N tasks, E episodes per task, B = N·E, T horizon, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.meta.rollouts.episode_loop import Clock, run_episodes
from harness.meta.rollouts.inputs import Inputs, Past
from harness.meta.rollouts.normalizer import Normalizer
from harness.types import Episodes
from policies import heads
from policies.base import Memory, Params, Policy
from task_distributions.base import BatchedEnv


@dataclass(frozen=True, slots=True)
class Context:
    """What a policy carries from one episode on a task to the next."""

    memory: Memory
    action: Float[Tensor, "N E A"]
    """The last one, in the environment's units."""
    reward: Float[Tensor, "N E"]
    """The last one, in the actor's reward unit."""

    def lanes(self, count: int) -> Context:
        """Return the first ``count`` episodes of every task."""
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
    inputs: Inputs | None = None
    """What is fed; the observation alone if None."""
    reward_unit: float = 1.0
    """Rewards are fed divided by this."""
    context: Context | None = None
    """Where the next episodes take up; a fresh memory if None."""

    def fresh(self, num_tasks: int, episodes: int) -> Context:
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
    """Run one episode per environment; return them, and the context they lead to.

    Args:
        env: N·E environments.
        actor: what acts; its context is where the episodes take up.
        seeds: one reset seed per environment, [B].
        noise: what actions are drawn with (``rollout.draw_noise``); ``None`` takes the likeliest.
        clock: charged with ``physics`` and ``inference``.
    """
    player = _Player(actor, env, noise)
    episodes = run_episodes(
        env,
        player.act,
        seeds,
        action_scale=actor.action_scale,
        clock=clock,
        watch=player.watch if player.keeps_context else None,
    )
    return episodes, player.after(episodes)


class _Player:
    """An actor in the middle of its episodes."""

    def __init__(
        self, actor: Actor, env: BatchedEnv, noise: Float[np.ndarray, "T N E A"] | None
    ) -> None:
        self._actor, self._noise, self._tasks = actor, noise, tuple(env.tasks)
        self._inputs = actor.inputs or Inputs(env.spec)
        self._dtype = next(iter(actor.params.values())).dtype
        num_tasks, episodes = len(env.tasks), env.episodes_per_task
        self._before = self._now = actor.context or actor.fresh(num_tasks, episodes)
        self._started = actor.context is not None
        self._played = self._now
        self.keeps_context = self._inputs.context
        """Whether anything of these episodes is fed to the policy again."""
        self._sampler = heads.sampler(actor.params.get("log_std"))

    def act(self, step: int, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        actor, now = self._actor, self._now
        grid = obs.shape[:2]
        x = actor.normalizer(torch.from_numpy(obs)).unsqueeze(2).to(self._dtype)
        begins = torch.full((*grid, 1), step == 0)
        past = Past(now.action.unsqueeze(2), now.reward.unsqueeze(2), begins)
        x = self._inputs.assemble(x, past, self._tasks)
        fresh = begins if not self._started else torch.zeros_like(begins)
        out = actor.policy.forward(actor.params, x, fresh, now.memory)
        action_params = out.action_params.squeeze(2)
        if self._noise is None:
            actions, log_probs = self._sampler.mode(action_params), None
        else:
            actions, log_probs = self._sampler.draw(action_params, self._noise[step])
        self._played = self._now = replace(now, memory=out.memory)
        if self.keeps_context:
            taken = torch.from_numpy(actions * actor.action_scale).clamp(-1.0, 1.0)
            self._played = Context(out.memory, taken, now.reward)
            self._now = now
        return actions, log_probs

    def watch(self, reward: np.ndarray, happened: np.ndarray) -> None:
        """Take over what the last step led to, where it happened."""
        fed = torch.from_numpy(reward).to(self._dtype) / self._actor.reward_unit
        played = replace(self._played, reward=fed)
        self._now = select(torch.from_numpy(happened), played, self._now)

    def after(self, episodes: Episodes) -> Context:
        """Return the context after the episodes; an invalid one leaves no trace."""
        return select(torch.from_numpy(~episodes.invalid), self._now, self._before)


def select(where: Tensor, yes: Context, no: Context) -> Context:
    """Return the context of ``yes`` where ``where`` [N, E] is set, else that of ``no``."""
    if where.all():
        return yes

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(where.view(*where.shape, *(1,) * (a.dim() - 2)), a, b)

    memory = tuple(pick(a, b) for a, b in zip(yes.memory, no.memory, strict=True))
    return Context(memory, pick(yes.action, no.action), pick(yes.reward, no.reward))
