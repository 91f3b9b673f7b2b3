"""The recurrence of ``policies.lstm``, forward and backward by hand.

Letters: N tasks, B sequences per task, T time, H hidden; gates in the order i, f, o, g.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.functional import reset, resetting_steps
from policies.fused.node import Tensors


def forward_fused(
    first: Tensor, gates: Tensor, weight: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensors, Tensors]:
    """Return the outputs of ``policies.lstm.unroll`` and the tensors saved for ``vjp``."""
    hidden = h.shape[-1]
    activated = torch.empty_like(gates, memory_format=torch.contiguous_format)
    h_before, c_before, h_after, cell_tanh = (
        torch.empty_like(activated[..., :hidden]) for _ in range(4)
    )
    resets = resetting_steps(first)
    parts = (gates, activated, h_before, c_before, h_after, cell_tanh)
    rows = zip(*(x.unbind(1) for x in parts), strict=True)
    for t, (gate, activated_t, h_before_t, c_before_t, h_t, cell_tanh_t) in enumerate(rows):
        if resets[t]:
            h, c = reset((h, c), first[:, t])
        h_before_t.copy_(h)
        c_before_t.copy_(c)
        torch.baddbmm(gate, h, weight, out=activated_t)
        activated_t[..., : 3 * hidden].sigmoid_()
        activated_t[..., 3 * hidden :].tanh_()
        i, f, o, g = activated_t.chunk(4, dim=-1)
        c = torch.addcmul(f * c, i, g)
        torch.tanh(c, out=cell_tanh_t)
        h = torch.mul(o, cell_tanh_t, out=h_t)
    return (h_after, h.clone(), c), (activated, h_before, c_before, cell_tanh)


def vjp(inputs: Tensors, saved: Tensors, gradients: Tensors) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of ``forward_fused`` from those of its outputs."""
    first, _, weight, _, _ = inputs
    activated, h_before, c_before, cell_tanh = saved
    i, f, o, g = activated.chunk(4, dim=-1)
    from_h = o * (1 - cell_tanh.square())
    to_o = cell_tanh * o * (1 - o)
    to_i, to_f, to_g = g * i * (1 - i), c_before * f * (1 - f), i * (1 - g.square())
    factors = torch.stack([to_i, to_f, torch.zeros_like(to_o), to_g], -2)
    recurrent = torch.empty_like(factors)
    resets, transposed = resetting_steps(first), weight.mT
    to_states, to_h, to_c = gradients
    parts = (to_states, recurrent, factors, from_h, to_o, f)
    rows = list(enumerate(zip(*(x.unbind(1) for x in parts), strict=True)))
    for t, (gradient_t, out, factor, from_h_t, to_o_t, f_t) in reversed(rows):
        to_state = gradient_t + to_h
        to_cell = torch.addcmul(to_c, to_state, from_h_t)
        torch.mul(to_cell.unsqueeze(-2), factor, out=out)
        torch.mul(to_state, to_o_t, out=out[..., 2, :])
        to_h, to_c = torch.bmm(out.flatten(-2), transposed), to_cell * f_t
        if resets[t]:
            to_h, to_c = reset((to_h, to_c), first[:, t])
    to_gates = recurrent.flatten(-2)
    to_weight = h_before.flatten(1, 2).mT @ to_gates.flatten(1, 2)
    return None, to_gates, to_weight, to_h, to_c
