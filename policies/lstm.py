"""Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers 2000).

i, f, o = sigmoid(W u + U h + b),  g = tanh(W_g u + U_g h + b_g)
c' = f * c + i * g,  h' = o * tanh(c')

Letters: N tasks, B sequences per task, T time, E encoder, H hidden; gates in the order i, f, o, g.
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
from policies.fused.lstm import forward_fused, step, vjp
from policies.fused.node import Recurrence, Tensors, as_node
from policies.fused.step import dense
from policies.settings import PolicySettings, Size
from policies.timeline import stack, unbind


@dataclass(frozen=True)
class LSTMSettings(PolicySettings):
    """Settings of the LSTM policy; 52 units are as many parameters as a GRU of 64."""

    hidden_dim: Size = 52
    """Units in each layer."""
    encoder_dim: Size = 64
    """Width of the input encoder."""
    num_layers: Size = 1
    """Layers, each fed the states of the one below."""


def unroll(first: Tensor, gates: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> Tensors:
    """Return h after every step ``[N, T, B, H]``, and h and c after the last one.

    Args:
        first: ``[N, T, B]``; where set, h and c count as zero before that step.
        gates: W u + b, ``[N, T, B, 4 H]``.
        weight: U, ``[N, H, 4 H]``.
        h: before the first step, ``[N, B, H]``.
        c: the same.
    """
    hidden = h.shape[-1]
    states = []
    for resets, inputs in zip(first.unbind(1), unbind(gates), strict=True):
        h, c = reset((h, c), resets)
        summed = torch.baddbmm(inputs, h, weight)
        i, f, o = summed[..., : 3 * hidden].sigmoid().chunk(3, dim=-1)
        c = torch.addcmul(f * c, i, summed[..., 3 * hidden :].tanh())
        h = o * c.tanh()
        states.append(h)
    return stack(states), h, c


RECURRENCE = Recurrence(unroll, forward_fused, vjp)
"""The equation, and the kernels that compute it."""


@dataclass(frozen=True)
class LSTMCore:
    """Layers of long short-term memory."""

    settings: LSTMSettings
    time_major: ClassVar[bool] = True

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1; forget gates start open."""
        inputs, hidden = self.settings.encoder_dim, self.settings.hidden_dim
        params: Params = {}
        for layer in range(self.settings.num_layers):
            name = f"lstm.{layer}"
            params[f"{name}.weight"] = orthogonal_gates(generator, inputs, hidden, 4)
            params[f"{name}.bias"] = torch.zeros(1, 1, 4 * hidden)
            params[f"{name}.bias"][..., hidden : 2 * hidden] = 1.0
            params[f"{name}.recurrent_weight"] = orthogonal_gates(generator, hidden, hidden, 4)
            inputs = hidden
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros ``h`` and ``c``, each ``[N, B, H]``, for every layer in turn."""
        shape = (num_tasks, batch, self.settings.hidden_dim)
        return tuple(like.new_zeros(shape) for _ in range(2 * self.settings.num_layers))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return the last layer's ``h`` after every step, ``[N, T, B, H]``, and each one's last."""
        last: list[Tensor] = []
        for layer in range(self.settings.num_layers):
            name = f"lstm.{layer}"
            gates = linear(params, name, u)
            before = memory[2 * layer : 2 * layer + 2]
            weight = params[f"{name}.recurrent_weight"]
            u, *after = as_node(RECURRENCE, first, gates, weight, *before)
            last.extend(after)
        return u, tuple(last)

    def act(
        self, params: Params, u: np.ndarray, first: np.ndarray, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        """Return the last layer's ``h [M, B, H]`` after one step, and each one's h and c."""
        last: list[Tensor] = []
        for layer in range(self.settings.num_layers):
            name = f"lstm.{layer}"
            parts = arrays(params[f"{name}.recurrent_weight"], *memory[2 * layer : 2 * layer + 2])
            u, c = step(dense(params, name, u), first, parts)
            last += [torch.from_numpy(u), torch.from_numpy(c)]
        return u, tuple(last)


def build(
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    settings: LSTMSettings = LSTMSettings(),
) -> ActorCritic:
    """Build the LSTM policy; see ``policies.build``."""
    return ActorCritic("lstm", LSTMCore(settings), obs_dim, action_dim, discrete, init_std)
