"""The recurrence of ``policies.gru``, forward and backward by hand.

Letters: N tasks, B sequences per task, T time, H hidden; gates in the order r, z, n.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.functional import reset, resetting_steps
from policies.fused.node import Tensors


def forward_fused(
    first: Tensor, gates: Tensor, weight: Tensor, bias: Tensor, h: Tensor
) -> tuple[Tensors, Tensors]:
    """Return the outputs of ``policies.gru.unroll`` and the tensors saved for ``vjp``."""
    hidden = h.shape[-1]
    rz = torch.empty_like(gates[..., : 2 * hidden], memory_format=torch.contiguous_format)
    n, products, before, after = (torch.empty_like(rz[..., :hidden]) for _ in range(4))
    empty_bias = bias.new_zeros(*bias.shape[:-1], 2 * hidden)
    full_bias = torch.cat([empty_bias, bias], -1)
    resets = resetting_steps(first)
    rows = zip(*(x.unbind(1) for x in (gates, rz, n, products, before, after)), strict=True)
    for t, (gate, rz_t, n_t, product, before_t, after_t) in enumerate(rows):
        if resets[t]:
            (h,) = reset((h,), first[:, t])
        before_t.copy_(h)
        recurrent = torch.baddbmm(full_bias, h, weight)
        torch.add(gate[..., : 2 * hidden], recurrent[..., : 2 * hidden], out=rz_t).sigmoid_()
        product.copy_(recurrent[..., 2 * hidden :])
        torch.addcmul(gate[..., 2 * hidden :], rz_t[..., :hidden], product, out=n_t).tanh_()
        h = torch.lerp(n_t, h, rz_t[..., hidden:], out=after_t)
    return (after, h.clone()), (rz, n, products, before)


def vjp(inputs: Tensors, saved: Tensors, gradients: Tensors) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of ``forward_fused`` from those of its outputs."""
    first, _, weight, _, _ = inputs
    rz, n, products, before = saved
    r, z = rz.chunk(2, dim=-1)
    to_new = (1 - z) * (1 - n.square())
    to_r = to_new * products * r * (1 - r)
    to_z = (before - n) * z * (1 - z)
    factors = torch.stack([to_r, to_z, to_new * r], -2)
    to_states, recurrent = torch.empty_like(n), torch.empty_like(factors)
    resets, transposed = resetting_steps(first), weight.mT
    to_h = gradients[1]
    parts = (gradients[0], to_states, recurrent, factors, z)
    rows = list(enumerate(zip(*(x.unbind(1) for x in parts), strict=True)))
    for t, (gradient_t, to_state, out, factor, z_t) in reversed(rows):
        torch.add(gradient_t, to_h, out=to_state)
        torch.mul(to_state.unsqueeze(-2), factor, out=out)
        to_h = torch.baddbmm(to_state * z_t, out.flatten(-2), transposed)
        if resets[t]:
            (to_h,) = reset((to_h,), first[:, t])
    to_weight = before.flatten(1, 2).mT @ recurrent.flatten(-2).flatten(1, 2)
    to_gates = recurrent.clone()
    torch.mul(to_states, to_new, out=to_gates[..., 2, :])
    to_bias = recurrent[..., 2, :].sum((1, 2)).unsqueeze(1)
    return None, to_gates.flatten(-2), to_weight, to_bias, to_h
