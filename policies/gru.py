"""Gated recurrent unit (arXiv 1406.1078, with the reset after the product as in torch.nn.GRU).

    r, z = sigmoid(W_rz u + U_rz h + b_rz)
    n = tanh(W_n u + b_n + r * (U_n h + c_n))
    h' = (1 - z) * n + z * h

Letters: N tasks, B sequences per task, T time, H hidden; gates in the order r, z, n.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from policies.actor_critic import ENCODER_DIM, ActorCritic
from policies.base import Memory, Params
from policies.functional import linear, orthogonal_gates, positive, reset
from policies.fused.gru import forward_fused, vjp
from policies.fused.node import Recurrence, Tensors, as_node
from policies.timeline import stack, unbind


@dataclass(frozen=True)
class GRUCore:
    """One layer of gated recurrent units, H wide."""

    output_dim: int
    time_major: bool = True

    def init_params(self, generator: Generator) -> Params:
        """Return fresh parameters with a leading axis of 1."""
        hidden = self.output_dim
        return {
            "gru.weight": orthogonal_gates(generator, ENCODER_DIM, hidden, 3),
            "gru.bias": torch.zeros(1, 1, 3 * hidden),
            "gru.recurrent_weight": orthogonal_gates(generator, hidden, hidden, 3),
            "gru.recurrent_bias": torch.zeros(1, 1, hidden),
        }

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros ``h [N, B, H]``."""
        return (like.new_zeros(num_tasks, batch, self.output_dim),)

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return ``h`` after every step, ``[N, T, B, H]``, and the last one as memory."""
        gates = linear(params, "gru", u)
        weight, bias = params["gru.recurrent_weight"], params["gru.recurrent_bias"]
        states, last = as_node(RECURRENCE, first, gates, weight, bias, *memory)
        return states, (last,)


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


def build(
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    hidden_dim: int = 64,
) -> ActorCritic:
    """Build the GRU policy with ``hidden_dim`` units."""
    positive(hidden_dim=hidden_dim)
    return ActorCritic("gru", obs_dim, action_dim, GRUCore(hidden_dim), init_std, discrete=discrete)
