"""The series of ``policies.state_space.run_series``, forward and backward by hand.

The hidden layer is by far the largest tensor: it is computed a few rows at a time, so that they
stay in the cache, and recomputed in the backward pass, so that it never exists as a whole.

Letters as in ``run_series``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.fused.node import Tensors
from policies.fused.scan import run_loop

ROWS = 1600
"""Rows of the hidden layer computed at once."""


def forward_fused(
    x: Tensor, state: Tensor, w: Tensor, b: Tensor, a: Tensor, input_matrix: Tensor, *out: Tensor
) -> tuple[Tensors, Tensors]:
    """Return the outputs of ``series_reference`` there, and the tensors saved for ``vjp``."""
    c, d, bias = (part[0] for part in out)
    inputs = x.new_empty(x.shape[1], state.shape[-1])
    hidden = x.new_empty(min(ROWS, len(inputs)), w.shape[-1])
    for rows, target in zip(torch.split(x[0], ROWS), torch.split(inputs, ROWS), strict=True):
        torch.mm(_encode(rows, w, b, hidden), input_matrix[0], out=target)
    shaped = inputs.view(1, -1, state.shape[1], state.shape[-1])
    states = run_loop(a.unsqueeze(1), shaped, None, state, False, shaped)
    y = torch.addmm(bias, x[0], d).addmm_(states.view_as(inputs), c)
    return (y.unsqueeze(0), states[:, -1].clone()), (states,)


def vjp(inputs: Tensors, saved: Tensors, gradients: Tensors) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs of ``forward_fused`` from those of its outputs."""
    x, state, w, b, a, input_matrix, c, d, _ = inputs
    (states,), (to_y, to_last) = saved, gradients
    to_states = torch.bmm(to_y, c.mT).view_as(states)
    to_states[:, -1] += to_last
    g = run_loop(a.unsqueeze(1), to_states, None, None, True, to_states)
    to_a = (g[:, 1:] * states[:, :-1]).sum((1, 2)) + (g[:, 0] * state).sum(1)
    to_x = torch.bmm(to_y, d.mT) if x.requires_grad else None
    hidden = _hidden_vjp(x[0], g.flatten(1, 2)[0], (w, b, input_matrix), to_x)
    to_w, to_b, to_input_matrix = hidden
    to_c = torch.bmm(states.flatten(1, 2).mT, to_y)
    to_d, to_bias = torch.bmm(x.mT, to_y), to_y.sum(1, keepdim=True)
    to_state, to_a = g[:, 0] * a, to_a.unsqueeze(1)
    return to_x, to_state, to_w, to_b, to_a, to_input_matrix, to_c, to_d, to_bias


def _hidden_vjp(x: Tensor, g: Tensor, parts: Tensors, to_x: Tensor | None) -> Tensors:
    """Return the gradients of W, b and B from those of the states; add that of x to ``to_x``."""
    w, b, input_matrix = parts
    to_w, to_b, to_input_matrix = (torch.zeros_like(part) for part in parts)
    hidden, buffer = (x.new_empty(min(ROWS, len(x)), w.shape[-1]) for _ in range(2))
    for start in range(0, len(x), ROWS):
        rows, to_inputs = x[start : start + ROWS], g[start : start + ROWS]
        u = _encode(rows, w, b, hidden)
        to_input_matrix[0].addmm_(u.mT, to_inputs)
        to_u = torch.mm(to_inputs, input_matrix[0].mT, out=buffer[: len(rows)]).mul_(u.sign_())
        to_w[0].addmm_(rows.mT, to_u)
        to_b += to_u.sum(0)
        if to_x is not None:
            to_x[0, start : start + ROWS].addmm_(to_u, w[0].mT)
    return to_w, to_b, to_input_matrix


def _encode(rows: Tensor, w: Tensor, b: Tensor, out: Tensor) -> Tensor:
    return torch.addmm(b[0], rows, w[0], out=out[: len(rows)]).relu_()
