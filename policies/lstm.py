"""Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers 2000).

i, f, o = sigmoid(W u + U h + b),  g = tanh(W_g u + U_g h + b_g)
c' = f * c + i * g,  h' = o * tanh(c')

Letters: N tasks, B sequences per task, T time, H hidden; gates in the order i, f, o, g.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from policies.actor_critic import ENCODER_DIM, ActorCritic
from policies.base import Memory, Params
from policies.functional import linear, orthogonal_gates, positive, reset
from policies.fused.lstm import forward_fused, vjp
from policies.fused.node import Recurrence, Tensors, as_node
from policies.timeline import stack, unbind


@dataclass(frozen=True)
class LSTMCore:
    """One layer of long short-term memory, H wide."""

    output_dim: int
    time_major: bool = True

    def init_params(self, generator: Generator) -> Params:
        """Return fresh parameters with a leading axis of 1; forget gates start open."""
        hidden = self.output_dim
        bias = torch.zeros(1, 1, 4 * hidden)
        bias[..., hidden : 2 * hidden] = 1.0
        return {
            "lstm.weight": orthogonal_gates(generator, ENCODER_DIM, hidden, 4),
            "lstm.bias": bias,
            "lstm.recurrent_weight": orthogonal_gates(generator, hidden, hidden, 4),
        }

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros ``h`` and ``c``, each ``[N, B, H]``."""
        return (
            like.new_zeros(num_tasks, batch, self.output_dim),
            like.new_zeros(num_tasks, batch, self.output_dim),
        )

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return ``h`` after every step, ``[N, T, B, H]``, and the last ``h, c`` as memory."""
        gates = linear(params, "lstm", u)
        weight = params["lstm.recurrent_weight"]
        states, *last = as_node(RECURRENCE, first, gates, weight, *memory)
        return states, tuple(last)


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


def build(
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    hidden_dim: int = 52,
) -> ActorCritic:
    """Build the LSTM policy with ``hidden_dim`` units; 52 of them are as large as a GRU of 64."""
    positive(hidden_dim=hidden_dim)
    return ActorCritic(
        "lstm", obs_dim, action_dim, LSTMCore(hidden_dim), init_std, discrete=discrete
    )
