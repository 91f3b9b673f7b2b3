"""Causal pre-norm transformer over a sliding window (arXiv 1706.03762, 2002.04745).

u = u + W_o attention(norm(u)),  u = u + W_down silu(W_up norm(u)), once per layer.

Its memory is the last C keys and values of each layer and their number, ``age``: one step costs the
window, never the whole past. ``policies.attention`` has the equations and their papers.

Letters: N tasks, B sequences per task, T time, L layers, H width, C context, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import silu

from policies.actor_critic import ENCODER_DIM, ActorCritic
from policies.attention import attend, attend_one, reach_of
from policies.base import Memory, Params
from policies.functional import linear, linear_params, positive, reset, rms_norm


@dataclass(frozen=True)
class TransformerCore:
    """``num_layers`` layers of attention and feed-forward, as wide as the encoder."""

    num_layers: int
    num_heads: int
    head_dim: int
    feedforward_dim: int
    context: int
    output_dim: int = ENCODER_DIM
    time_major: bool = False

    def init_params(self, generator: Generator) -> Params:
        """Return fresh parameters with a leading axis of 1; residual branches start small."""
        width, inner = self.output_dim, self.num_heads * self.head_dim
        gain = (2 * self.num_layers) ** -0.5
        params: Params = {}
        for layer in range(self.num_layers):
            name = f"transformer.{layer}"
            params |= linear_params(generator, f"{name}.qkv", width, inner + 2 * self.head_dim)
            params |= linear_params(generator, f"{name}.out", inner, width, gain)
            params |= linear_params(generator, f"{name}.up", width, self.feedforward_dim)
            params |= linear_params(generator, f"{name}.down", self.feedforward_dim, width, gain)
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return empty caches ``[N, B, C, 2 D]``, one per layer, and ``age [N, B]`` zero."""
        shape = (num_tasks, batch, self.context, 2 * self.head_dim)
        caches = tuple(like.new_zeros(shape) for _ in range(self.num_layers))
        return (*caches, like.new_zeros(num_tasks, batch))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features ``[N, B, T, H]`` and the memory after the last step."""
        if u.shape[2] == 1:
            memory = reset(memory, first[..., 0])
            reach = memory[-1].unsqueeze(-1)
        else:
            reach = reach_of(first, memory[-1], self.context)
        age = (reach[..., -1] + 1).clamp(max=self.context).to(u.dtype)
        caches = []
        for layer, cache in enumerate(memory[:-1]):
            name = f"transformer.{layer}"
            qkv = linear(params, f"{name}.qkv", rms_norm(u))
            attended, cache = self._attend(qkv, cache, reach)
            u = u + linear(params, f"{name}.out", attended)
            u = u + linear(params, f"{name}.down", silu(linear(params, f"{name}.up", rms_norm(u))))
            caches.append(cache)
        if u.shape[2] > 1 and first.any():
            caches = [_forget(cache, age) for cache in caches]
        return rms_norm(u), (*caches, age)

    def _attend(self, qkv: Tensor, cache: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attended values ``[N, B, T, heads * D]`` and the cache after the last step."""
        tasks, batch, steps, _ = qkv.shape
        inner = self.num_heads * self.head_dim
        flat = qkv.reshape(tasks * batch, steps, -1)
        query, present = flat[..., :inner], flat[..., inner:]
        query = query.view(*query.shape[:2], self.num_heads, self.head_dim)
        past, reach = cache.reshape(-1, *cache.shape[2:]), reach.reshape(-1, steps)
        if steps == 1:
            past = torch.cat([past, present], dim=1)
            out = attend_one(query[:, 0], past, reach[:, 0])
            return out.view(tasks, batch, 1, inner), past[:, 1:].view(cache.shape)
        if bool((reach == reach[:1]).all()):
            reach = reach[:1]
        out = attend(query, past, present, reach)
        past = torch.cat([past, present], dim=1)[:, steps:].contiguous()
        return out.reshape(tasks, batch, steps, inner), past.view(cache.shape)


def _forget(cache: Tensor, age: Tensor) -> Tensor:
    """Zero what lies beyond the last reset, as stepping does."""
    context = cache.shape[2]
    distance = torch.arange(context, 0, -1, device=cache.device)
    return cache.masked_fill((distance > age.unsqueeze(-1)).unsqueeze(-1), 0.0)


def build(
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    context: int = 64,
    num_layers: int = 2,
    num_heads: int = 2,
) -> ActorCritic:
    """Build the transformer policy, which sees the last ``context`` steps and its own.

    Heads are 16 wide and the feed-forward layers 48: as many parameters as a GRU of 64.
    """
    positive(context=context, num_layers=num_layers, num_heads=num_heads)
    core = TransformerCore(num_layers, num_heads, 16, 48, context)
    return ActorCritic("transformer", obs_dim, action_dim, core, init_std, discrete=discrete)
