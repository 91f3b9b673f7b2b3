"""Gated recurrent unit (arXiv 1406.1078, with the reset after the product as in torch.nn.GRU).

    r, z = sigmoid(W_rz u + U_rz h + b_rz)
    n = tanh(W_n u + b_n + r * (U_n h + c_n))
    h' = (1 - z) * n + z * h

Letters: N tasks, B sequences per task, T time, E encoder, H hidden; gates in the order r, z, n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from policies.actor_critic import ActorCritic
from policies.base import Memory, Params
from policies.functional import linear, orthogonal_gates, reset
from policies.fused.compiled import arrays
from policies.fused.gru import forward_fused, step, vjp
from policies.fused.node import Recurrence, Tensors, as_node
from policies.fused.step import dense
from policies.settings import PolicySettings, Size
from policies.timeline import stack, unbind


@dataclass(frozen=True)
class GRUSettings(PolicySettings):
    """Settings of the GRU policy."""

    hidden_dim: Size = 64
    """Units in each layer."""
    encoder_dim: Size = 64
    """Width of the input encoder."""
    num_layers: Size = 1
    """Layers, each fed the states of the one below."""


def unroll(first: Tensor, gates: Tensor, weight: Tensor, bias: Tensor, h: Tensor) -> Tensors:
    """Return h after every step ``[N, T, B, H]`` and after the last one.

    Args:
        first: ``[N, T, B]``; where set, h counts as zero before that step.
        gates: W u + b, ``[N, T, B, 3 H]``.
        weight: U, ``[N, H, 3 H]``.
        bias: c_n, ``[N, 1, H]``.
        h: before the first step, ``[N, B, H]``.
    """
    hidden = h.shape[-1]
    gate_inputs, new_inputs = unbind(gates[..., : 2 * hidden]), unbind(gates[..., 2 * hidden :])
    gate_weight, new_weight = weight[..., : 2 * hidden], weight[..., 2 * hidden :]
    states = []
    steps = zip(first.unbind(1), gate_inputs, new_inputs, strict=True)
    for resets, gate_input, new_input in steps:
        (h,) = reset((h,), resets)
        r, z = torch.baddbmm(gate_input, h, gate_weight).sigmoid().chunk(2, dim=-1)
        n = torch.addcmul(new_input, r, torch.baddbmm(bias, h, new_weight)).tanh()
        h = torch.lerp(n, h, z)
        states.append(h)
    return stack(states), h


RECURRENCE = Recurrence(unroll, forward_fused, vjp)
"""The equation, and the kernels that compute it."""


@dataclass(frozen=True)
class GRUCore:
    """Layers of gated recurrent units."""

    settings: GRUSettings
    time_major: ClassVar[bool] = True

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1."""
        inputs, hidden = self.settings.encoder_dim, self.settings.hidden_dim
        params: Params = {}
        for layer in range(self.settings.num_layers):
            name = f"gru.{layer}"
            params[f"{name}.weight"] = orthogonal_gates(generator, inputs, hidden, 3)
            params[f"{name}.bias"] = torch.zeros(1, 1, 3 * hidden)
            params[f"{name}.recurrent_weight"] = orthogonal_gates(generator, hidden, hidden, 3)
            params[f"{name}.recurrent_bias"] = torch.zeros(1, 1, hidden)
            inputs = hidden
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros ``h [N, B, H]``, one per layer."""
        shape = (num_tasks, batch, self.settings.hidden_dim)
        return tuple(like.new_zeros(shape) for _ in range(self.settings.num_layers))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return the last layer's ``h`` after every step, ``[N, T, B, H]``, and each one's last."""
        last = []
        for layer, h in enumerate(memory):
            name = f"gru.{layer}"
            gates = linear(params, name, u)
            weight, bias = params[f"{name}.recurrent_weight"], params[f"{name}.recurrent_bias"]
            u, h = as_node(RECURRENCE, first, gates, weight, bias, h)
            last.append(h)
        return u, tuple(last)

    def act(
        self, params: Params, u: np.ndarray, first: np.ndarray, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        """Return the last layer's ``h [M, B, H]`` after one step, and each one's."""
        last = []
        for layer, h in enumerate(memory):
            name = f"gru.{layer}"
            parts = arrays(params[f"{name}.recurrent_weight"], params[f"{name}.recurrent_bias"], h)
            u = step(dense(params, name, u), first, parts)
            last.append(torch.from_numpy(u))
        return u, tuple(last)


def build(
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    settings: GRUSettings = GRUSettings(),
) -> ActorCritic:
    """Build the GRU policy; see ``policies.build``."""
    return ActorCritic("gru", GRUCore(settings), obs_dim, action_dim, discrete, init_std)
