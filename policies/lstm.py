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
from policies.functional import linear, orthogonal_gates, positive, reset, resetting_steps
from policies.sequence_node import Tensors, as_node
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
        states, *last = as_node(_Recurrence(first), gates, weight, *memory)
        return states, tuple(last)


@dataclass(frozen=True, eq=False)
class _Recurrence:
    """h over time, and the last h and c, from gate inputs, recurrent weight, and those before."""

    first: Tensor

    def plain(self, gates: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> Tensors:
        hidden = h.shape[-1]
        states = []
        for at, inputs in zip(self.first.unbind(1), unbind(gates), strict=True):
            h, c = reset((h, c), at)
            summed = torch.baddbmm(inputs, h, weight)
            i, f, o = summed[..., : 3 * hidden].sigmoid().chunk(3, dim=-1)
            c = torch.addcmul(f * c, i, summed[..., 3 * hidden :].tanh())
            h = o * c.tanh()
            states.append(h)
        return stack(states), h, c

    def run(self, gates: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensors, Tensors]:
        hidden = h.shape[-1]
        opened = torch.empty_like(gates, memory_format=torch.contiguous_format)
        h_before, c_before, h_after, squashed = (
            torch.empty_like(opened[..., :hidden]) for _ in range(4)
        )
        resets = resetting_steps(self.first)
        parts = (gates, opened, h_before, c_before, h_after, squashed)
        rows = zip(*(x.unbind(1) for x in parts), strict=True)
        for t, (gate, open_t, h_was, c_was, h_t, squashed_t) in enumerate(rows):
            if resets[t]:
                h, c = reset((h, c), self.first[:, t])
            h_was.copy_(h)
            c_was.copy_(c)
            torch.baddbmm(gate, h, weight, out=open_t)
            open_t[..., : 3 * hidden].sigmoid_()
            open_t[..., 3 * hidden :].tanh_()
            i, f, o, g = open_t.chunk(4, dim=-1)
            c = torch.addcmul(f * c, i, g)
            torch.tanh(c, out=squashed_t)
            h = torch.mul(o, squashed_t, out=h_t)
        return (h_after, h.clone(), c), (opened, h_before, c_before, squashed)

    def pull(self, inputs: Tensors, kept: Tensors, gradients: Tensors) -> Tensors:
        opened, h_before, c_before, squashed = kept
        i, f, o, g = opened.chunk(4, dim=-1)
        from_h = o * (1 - squashed.square())
        to_o = squashed * o * (1 - o)
        to_i, to_f, to_g = g * i * (1 - i), c_before * f * (1 - f), i * (1 - g.square())
        factors = torch.stack([to_i, to_f, torch.zeros_like(to_o), to_g], -2)
        through = torch.empty_like(factors)
        resets, transposed = resetting_steps(self.first), inputs[1].mT
        _, to_h, to_c = gradients
        parts = (gradients[0], through, factors, from_h, to_o, f)
        rows = list(enumerate(zip(*(x.unbind(1) for x in parts), strict=True)))
        for t, (arriving, out, factor, from_h_t, to_o_t, f_t) in reversed(rows):
            whole = arriving + to_h
            cell = torch.addcmul(to_c, whole, from_h_t)
            torch.mul(cell.unsqueeze(-2), factor, out=out)
            torch.mul(whole, to_o_t, out=out[..., 2, :])
            to_h, to_c = torch.bmm(out.flatten(-2), transposed), cell * f_t
            if resets[t]:
                to_h, to_c = reset((to_h, to_c), self.first[:, t])
        to_gates = through.flatten(-2)
        to_weight = h_before.flatten(1, 2).mT @ to_gates.flatten(1, 2)
        return to_gates, to_weight, to_h, to_c


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
