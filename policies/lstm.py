"""Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers 2000).

i, f, o = sigmoid(W u + U h + b),  g = tanh(W_g u + U_g h + b_g)
c' = f * c + i * g,  h' = o * tanh(c')

Letters: N tasks, B sequences per task, T time, E encoder, H hidden; gates in the order i, f, o, g.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from policies.actor_critic import factory
from policies.base import Params
from policies.functional import orthogonal_gates, reset
from policies.fused import lstm as fused
from policies.fused.node import Recurrence, Tensors
from policies.recurrent import RecurrentCore
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


@dataclass(frozen=True)
class LSTMCore(RecurrentCore):
    """Layers of long short-term memory."""

    settings: LSTMSettings
    name: ClassVar[str] = "lstm"
    num_states: ClassVar[int] = 2
    recurrent: ClassVar[tuple[str, ...]] = ("recurrent_weight",)
    recurrence: ClassVar[Recurrence] = Recurrence(unroll, fused.forward_fused, fused.vjp)
    step = staticmethod(fused.step)

    def init_layer(self, generator: Generator, inputs: int) -> Params:
        """Return W, b and U; forget gates start open."""
        hidden = self.settings.hidden_dim
        bias = torch.zeros(1, 1, 4 * hidden)
        bias[..., hidden : 2 * hidden] = 1.0
        return {
            "weight": orthogonal_gates(generator, inputs, hidden, 4),
            "bias": bias,
            "recurrent_weight": orthogonal_gates(generator, hidden, hidden, 4),
        }


build = factory("lstm", LSTMCore, LSTMSettings)
