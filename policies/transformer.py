"""Causal pre-norm transformer over a sliding window (arXiv 1706.03762, 2002.04745).

u = u + W_o attention(norm(u)),  u = u + W_down silu(W_up norm(u)), once per layer.

Its memory is the last C keys and values of each layer and their number, ``age``: the cost of a step
does not grow with the past. ``policies.attention`` has the equations of attention and their papers.

Letters: N tasks, B sequences per task, T time, L layers, H width, C context, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Generator, Tensor
from torch.nn.functional import silu

from policies.actor_critic import factory
from policies.attention import attend, attend_one, reach_of
from policies.base import Memory, Params
from policies.functional import linear, linear_params, project, projection_params, reset, rms_norm
from policies.settings import PolicySettings, Size


@dataclass(frozen=True)
class TransformerSettings(PolicySettings):
    """Settings of the transformer policy; the defaults have as many parameters as a GRU of 64."""

    hidden_dim: Size = 64
    """Width of the residual stream, a multiple of 2 * num_heads; the heads share half of it."""
    encoder_dim: Size = 64
    """Width of the input encoder."""
    num_layers: Size = 2
    """Layers of attention and feed-forward."""
    num_heads: Size = 2
    """Attention heads in each layer."""
    feedforward_ratio: Annotated[float, Gt(0)] = 0.75
    """Width of the feed-forward layers, as a multiple of hidden_dim."""
    context: Size = 64
    """Past steps that attention sees besides the current one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple = self.hidden_dim_multiple
        if self.hidden_dim % multiple:
            below = self.hidden_dim // multiple * multiple
            choices = [str(width) for width in (below, below + multiple) if width]
            raise ValueError(
                f"hidden_dim is {self.hidden_dim} and num_heads is {self.num_heads}; hidden_dim "
                f"must be a multiple of {multiple}, such as {' or '.join(choices)}"
            )

    @property
    def hidden_dim_multiple(self) -> int:
        """The number that ``hidden_dim`` must be a multiple of."""
        return 2 * self.num_heads

    @property
    def head_dim(self) -> int:
        """D, the width of a head."""
        return self.hidden_dim // self.hidden_dim_multiple


@dataclass(frozen=True)
class TransformerCore:
    """Layers of attention and feed-forward."""

    settings: TransformerSettings
    time_major: ClassVar[bool] = False

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1; residual branches start small."""
        sizes = self.settings
        width, inner = sizes.hidden_dim, sizes.num_heads * sizes.head_dim
        feedforward = max(1, round(sizes.feedforward_ratio * width))
        gain = (2 * sizes.num_layers) ** -0.5
        params = projection_params(generator, "transformer.input", sizes.encoder_dim, width)
        for layer in range(sizes.num_layers):
            name = f"transformer.{layer}"
            params |= linear_params(generator, f"{name}.qkv", width, inner + 2 * sizes.head_dim)
            params |= linear_params(generator, f"{name}.out", inner, width, gain)
            params |= linear_params(generator, f"{name}.up", width, feedforward)
            params |= linear_params(generator, f"{name}.down", feedforward, width, gain)
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return empty caches ``[N, B, C, 2 D]``, one per layer, and ``age [N, B]`` zero."""
        sizes = self.settings
        shape = (num_tasks, batch, sizes.context, 2 * sizes.head_dim)
        caches = tuple(like.new_zeros(shape) for _ in range(sizes.num_layers))
        return (*caches, like.new_zeros(num_tasks, batch))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features ``[N, B, T, H]`` and the memory after the last step."""
        context = self.settings.context
        u = project(params, "transformer.input", u)
        if u.shape[2] == 1:
            memory = reset(memory, first[..., 0])
            reach = memory[-1].unsqueeze(-1)
        else:
            reach = reach_of(first, memory[-1], context)
        age = (reach[..., -1] + 1).clamp(max=context).to(u.dtype)
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
        heads, width = self.settings.num_heads, self.settings.head_dim
        inner = heads * width
        flat = qkv.reshape(tasks * batch, steps, -1)
        query, present = flat[..., :inner], flat[..., inner:]
        query = query.view(*query.shape[:2], heads, width)
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
    """Zero the entries from before the last reset, as acting step by step does."""
    context = cache.shape[2]
    distance = torch.arange(context, 0, -1, device=cache.device)
    return cache.masked_fill((distance > age.unsqueeze(-1)).unsqueeze(-1), 0.0)


build = factory("transformer", TransformerCore, TransformerSettings)
