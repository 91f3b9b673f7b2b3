"""Gated recurrent unit (arXiv 1406.1078, with the reset after the product as in torch.nn.GRU).

    r, z = sigmoid(W_rz u + U_rz h + b_rz)
    n = tanh(W_n u + b_n + r * (U_n h + c_n))
    h' = (1 - z) * n + z * h

Letters: N tasks, B sequences per task, T time, E encoder, H hidden; gates in the order r, z, n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from policies.actor_critic import factory
from policies.base import Params
from policies.functional import orthogonal_gates, reset
from policies.fused import gru as fused
from policies.fused.node import Recurrence, Tensors
from policies.recurrent import RecurrentCore
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


@dataclass(frozen=True)
class GRUCore(RecurrentCore):
    """Layers of gated recurrent units."""

    settings: GRUSettings
    name: ClassVar[str] = "gru"
    num_states: ClassVar[int] = 1
    recurrent: ClassVar[tuple[str, ...]] = ("recurrent_weight", "recurrent_bias")
    recurrence: ClassVar[Recurrence] = Recurrence(unroll, fused.forward_fused, fused.vjp)
    step = staticmethod(fused.step)

    def init_layer(self, generator: Generator, inputs: int) -> Params:
        """Return W, b, U and c_n."""
        hidden = self.settings.hidden_dim
        return {
            "weight": orthogonal_gates(generator, inputs, hidden, 3),
            "bias": torch.zeros(1, 1, 3 * hidden),
            "recurrent_weight": orthogonal_gates(generator, hidden, hidden, 3),
            "recurrent_bias": torch.zeros(1, 1, hidden),
        }


build = factory("gru", GRUCore, GRUSettings)
