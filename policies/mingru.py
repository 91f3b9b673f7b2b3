"""Minimal gated recurrent unit (arXiv 2410.01201): a GRU whose gates do not see the state.

    z = sigmoid(W_z v + b_z)     c = W_h v + b_h     h' = (1 - z) * h + z * c,   v = norm(u)
    u = u + W_o gelu(h') + b_o

The state is linear in itself, so that it is computed by ``policies.scan``, with a decay per step.
Letters: N tasks, B sequences per task, T time, H width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from policies.actor_critic import factory
from policies.base import Memory, Params
from policies.functional import linear, linear_params, project, projection_params, rms_norm
from policies.scan import Method, scan
from policies.settings import PolicySettings, Size

SPANS = (2.0, 100.0)
"""Range of the initial memory spans 1 / z in steps, log-uniform over the units."""


@dataclass(frozen=True)
class MinGRUSettings(PolicySettings):
    """Settings of the minGRU policy; the defaults have as many parameters as a GRU of 64."""

    hidden_dim: Size = 64
    """Width of the residual stream, and units in each layer."""
    encoder_dim: Size = 64
    """Width of the input encoder."""
    num_layers: Size = 2
    """Layers, each with its own state."""
    scan_method: Method = "auto"
    """Algorithm of the scan over time; auto is loop on CPUs and doubling elsewhere."""


@dataclass(frozen=True)
class MinGRUCore:
    """Residual layers of minimal gated recurrent units."""

    settings: MinGRUSettings
    time_major: ClassVar[bool] = True

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1; residual branches start small."""
        sizes = self.settings
        width, (low, high) = sizes.hidden_dim, SPANS
        params = projection_params(generator, "mingru.input", sizes.encoder_dim, width)
        for layer in range(sizes.num_layers):
            name = f"mingru.{layer}"
            params |= linear_params(generator, f"{name}.gate", width, width)
            uniform = torch.rand(1, 1, width, generator=generator)
            params[f"{name}.gate.bias"] = -(low * (high / low) ** uniform - 1.0).log()
            params |= linear_params(generator, f"{name}.candidate", width, width)
            gain = (2 * sizes.num_layers) ** -0.5
            params |= linear_params(generator, f"{name}.out", width, width, gain)
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros ``h [N, B, H]``, one per layer."""
        shape = (num_tasks, batch, self.settings.hidden_dim)
        return tuple(like.new_zeros(shape) for _ in range(self.settings.num_layers))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features ``[N, T, B, H]`` and every layer's last ``h``."""
        u = project(params, "mingru.input", u)
        last = []
        for layer, h in enumerate(memory):
            name = f"mingru.{layer}"
            v = rms_norm(u)
            z = torch.sigmoid(linear(params, f"{name}.gate", v))
            inputs = z * linear(params, f"{name}.candidate", v)
            states = scan(1.0 - z, inputs, first, h, self.settings.scan_method)
            last.append(states[:, -1])
            y = torch.nn.functional.gelu(states, approximate="tanh")
            u = u + linear(params, f"{name}.out", y)
        return u, tuple(last)


build = factory("mingru", MinGRUCore, MinGRUSettings)
