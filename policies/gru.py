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
from policies.functional import linear, orthogonal_gates, positive, reset, resetting_steps
from policies.sequence_node import Tensors, as_node
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
        states, last = as_node(_Recurrence(first), gates, weight, bias, *memory)
        return states, (last,)


@dataclass(frozen=True, eq=False)
class _Recurrence:
    """h over time, from gate inputs, recurrent weight and bias, and the h before."""

    first: Tensor

    def plain(self, gates: Tensor, weight: Tensor, bias: Tensor, h: Tensor) -> Tensors:
        hidden = h.shape[-1]
        gate_inputs, new_inputs = unbind(gates[..., : 2 * hidden]), unbind(gates[..., 2 * hidden :])
        gate_weight, new_weight = weight[..., : 2 * hidden], weight[..., 2 * hidden :]
        states = []
        steps = zip(self.first.unbind(1), gate_inputs, new_inputs, strict=True)
        for at, gate_input, new_input in steps:
            (h,) = reset((h,), at)
            r, z = torch.baddbmm(gate_input, h, gate_weight).sigmoid().chunk(2, dim=-1)
            n = torch.addcmul(new_input, r, torch.baddbmm(bias, h, new_weight)).tanh()
            h = torch.lerp(n, h, z)
            states.append(h)
        return stack(states), h

    def run(
        self, gates: Tensor, weight: Tensor, bias: Tensor, h: Tensor
    ) -> tuple[Tensors, Tensors]:
        hidden = h.shape[-1]
        rz = torch.empty_like(gates[..., : 2 * hidden], memory_format=torch.contiguous_format)
        n, products, before, after = (torch.empty_like(rz[..., :hidden]) for _ in range(4))
        empty_bias = bias.new_zeros(*bias.shape[:-1], 2 * hidden)
        full_bias = torch.cat([empty_bias, bias], -1)
        resets = resetting_steps(self.first)
        rows = zip(*(x.unbind(1) for x in (gates, rz, n, products, before, after)), strict=True)
        for t, (gate, rz_t, n_t, product, before_t, after_t) in enumerate(rows):
            if resets[t]:
                (h,) = reset((h,), self.first[:, t])
            before_t.copy_(h)
            recurrent = torch.baddbmm(full_bias, h, weight)
            torch.add(gate[..., : 2 * hidden], recurrent[..., : 2 * hidden], out=rz_t).sigmoid_()
            product.copy_(recurrent[..., 2 * hidden :])
            torch.addcmul(gate[..., 2 * hidden :], rz_t[..., :hidden], product, out=n_t).tanh_()
            h = torch.lerp(n_t, h, rz_t[..., hidden:], out=after_t)
        return (after, h.clone()), (rz, n, products, before)

    def pull(self, inputs: Tensors, kept: Tensors, gradients: Tensors) -> Tensors:
        rz, n, products, before = kept
        weight = inputs[1]
        r, z = rz.chunk(2, dim=-1)
        to_new = (1 - z) * (1 - n.square())
        to_r = to_new * products * r * (1 - r)
        to_z = (before - n) * z * (1 - z)
        factors = torch.stack([to_r, to_z, to_new * r], -2)
        whole, recurrent = torch.empty_like(n), torch.empty_like(factors)
        resets, transposed = resetting_steps(self.first), weight.mT
        running = gradients[1]
        rows = (x.unbind(1) for x in (gradients[0], whole, recurrent, factors, z))
        for t, (arriving, whole_t, out, factor, z_t) in reversed(
            list(enumerate(zip(*rows, strict=True)))
        ):
            torch.add(arriving, running, out=whole_t)
            torch.mul(whole_t.unsqueeze(-2), factor, out=out)
            running = torch.baddbmm(whole_t * z_t, out.flatten(-2), transposed)
            if resets[t]:
                (running,) = reset((running,), self.first[:, t])
        to_weight = before.flatten(1, 2).mT @ recurrent.flatten(-2).flatten(1, 2)
        to_gates = recurrent.clone()
        torch.mul(whole, to_new, out=to_gates[..., 2, :])
        to_bias = recurrent[..., 2, :].sum((1, 2)).unsqueeze(1)
        return to_gates.flatten(-2), to_weight, to_bias, running


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
