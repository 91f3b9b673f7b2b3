"""The selective state-space policy: decay, input and output of the state depend on the input.

A layer is that of Mamba-2 (arXiv 2405.21060, sec. 7; selection as in Mamba, 2312.00752) without its
short convolution and its last norm, with which PPO's steps were larger (docs/searches.md). For each
of P = H / heads channels x of a head, with a state h of S numbers,

    z, x, B, C, d = W_i norm(u) + b_i     x, B, C = silu(x, B, C)
    dt = softplus(d)                      a = exp(-dt exp(log_a))
    h' = a h + dt B x                     y = C h' + D x       u = u + W_o (y * silu(z)) + b_o

B and C ``[S]`` are shared by all heads; dt, a and log_a are one number per head. The state is
computed by ``policies.scan``, with a decay per step.

Letters: N tasks, B sequences per task, T time, H width, S state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Generator, Tensor
from torch.nn.functional import silu, softplus

from policies.actor_critic import factory
from policies.base import Memory, Params
from policies.functional import linear, linear_params, project, projection_params, rms_norm
from policies.scan import Method, scan
from policies.settings import PolicySettings, Size


@dataclass(frozen=True)
class SelectiveSSMSettings(PolicySettings):
    """Settings of the selective state-space policy; by default as large as a GRU of 64."""

    hidden_dim: Size = 60
    """Width of the residual stream, a multiple of num_heads."""
    encoder_dim: Size = 60
    """Width of the input encoder."""
    num_layers: Size = 2
    """State-space layers, each with its own state."""
    num_heads: Size = 5
    """Groups of channels with a decay of their own."""
    state_dim: Size = 8
    """State of each channel."""
    dt_min: Annotated[float, Gt(0)] = 0.01
    """Smallest initial step size of a head; initial sizes are spaced geometrically."""
    dt_max: Annotated[float, Gt(0)] = 0.5
    """Largest initial step size of a head."""
    scan_method: Method = "auto"
    """Algorithm of the scan over time; auto is loop on CPUs and doubling elsewhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim is {self.hidden_dim} and num_heads is {self.num_heads}; hidden_dim "
                "must be a multiple of num_heads. Change either"
            )
        if self.dt_min > self.dt_max:
            raise ValueError(
                f"dt_min is {self.dt_min} and dt_max is {self.dt_max}; give dt_min <= dt_max. "
                "Change either"
            )

    @property
    def hidden_dim_multiple(self) -> int:
        """The number that ``hidden_dim`` must be a multiple of."""
        return self.num_heads


@dataclass(frozen=True)
class SelectiveSSMCore:
    """Residual layers of selective state spaces."""

    settings: SelectiveSSMSettings
    time_major: ClassVar[bool] = True

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1; residual branches start small."""
        sizes = self.settings
        width, heads = sizes.hidden_dim, sizes.num_heads
        params = projection_params(generator, "selective.input", sizes.encoder_dim, width)
        ends = math.log(sizes.dt_min), math.log(sizes.dt_max)
        dt = torch.linspace(*ends, heads).exp()
        for layer in range(sizes.num_layers):
            name = f"selective.{layer}"
            outputs = 2 * width + 2 * sizes.state_dim + heads
            params |= linear_params(generator, f"{name}.in", width, outputs)
            params[f"{name}.in.bias"][..., -heads:] = dt.expm1().log()  # inverse of softplus
            params[f"{name}.log_a"] = torch.zeros(1, 1, heads)
            params[f"{name}.D"] = torch.ones(1, 1, width)
            gain = (2 * sizes.num_layers) ** -0.5
            params |= linear_params(generator, f"{name}.out", width, width, gain)
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros, one ``[N, B, H * S]`` per layer."""
        shape = (num_tasks, batch, self.settings.hidden_dim * self.settings.state_dim)
        return tuple(like.new_zeros(shape) for _ in range(self.settings.num_layers))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features ``[N, T, B, H]`` and the last state of every layer."""
        u = project(params, "selective.input", u)
        last = []
        for layer, h in enumerate(memory):
            update, h = self._layer(params, f"selective.{layer}", u, (first, h))
            u = u + update
            last.append(h)
        return u, tuple(last)

    def _layer(
        self, params: Params, name: str, u: Tensor, start: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        sizes = self.settings
        width, state, heads = sizes.hidden_dim, sizes.state_dim, sizes.num_heads
        channels, shape = width // heads, u.shape[:3]
        projected = linear(params, f"{name}.in", rms_norm(u))
        z, x, b, c, dt = torch.split(projected, [width, width, state, state, heads], dim=-1)
        x, b, c = silu(x), silu(b), silu(c)
        dt = softplus(dt)
        decay = torch.exp(-dt * params[f"{name}.log_a"].exp().unsqueeze(1))
        scaled = (x.reshape(*shape, heads, channels) * dt.unsqueeze(-1)).reshape(*shape, width, 1)
        inputs = (scaled * b.unsqueeze(-2)).reshape(*shape, width * state)
        decays = decay.unsqueeze(-1).expand(*shape, heads, channels * state).reshape(inputs.shape)
        states = scan(decays, inputs, *start, sizes.scan_method)
        y = (states.view(*shape, width, state) @ c.unsqueeze(-1)).squeeze(-1)
        y = y + x * params[f"{name}.D"].unsqueeze(1)
        return linear(params, f"{name}.out", y * silu(z)), states[:, -1]


build = factory("selective_ssm", SelectiveSSMCore, SelectiveSSMSettings)
