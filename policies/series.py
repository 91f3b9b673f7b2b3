"""A whole series through one state space fed by one hidden layer, as one node of the graph.

    u = relu(W x + b)     s' = A s + B u     y = C s + D x + bias

The hidden layer is the widest thing here: it is made a few rows at a time, which stay in the cache,
and made again on the way back, so that all of it is never in memory. Gradients that are to be
differentiated again, other devices than CPUs and autocast take the plain equations, all at once.

Letters: R = T * B rows, time-major; I inputs, H hidden, S state, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.scan import recur
from policies.sequence_node import Tensors, as_node
from policies.state_space import run_states

ROWS = 1600
"""Rows of the hidden layer made at once."""


def run_series(x: Tensor, state: Tensor, parts: Tensors) -> Tensors:
    """Return outputs ``[1, R, O]`` and the state after the last step ``[1, B, S]``.

    Args:
        x: inputs, ``[1, R, I]``.
        state: before the first step, ``[1, B, S]``.
        parts: W ``[1, I, H]``, b ``[1, 1, H]``, the diagonal of A ``[1, 1, S]``, B ``[1, H, S]``,
            C ``[1, S, O]``, D ``[1, I, O]`` and bias ``[1, 1, O]``.
    """
    series = _Series(x.requires_grad)
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return series.plain(x, state, *parts)
    return as_node(series, x, state, *parts)


@dataclass(frozen=True, eq=False)
class _Series:
    wants_x: bool
    """Whether x gets a gradient."""

    def plain(
        self, x: Tensor, state: Tensor, w: Tensor, b: Tensor, a: Tensor, into: Tensor, *out: Tensor
    ) -> Tensors:
        c, d, bias = out
        batch = state.shape[1]
        u = torch.baddbmm(b, x, w).relu_().view(1, -1, batch, w.shape[-1])
        first = torch.zeros(u.shape[:3], dtype=torch.bool, device=x.device)
        states, last = run_states((a, torch.ones_like(a)), into, u, (first, state))
        return torch.baddbmm(torch.baddbmm(bias, x, d), states, c), last

    def run(
        self, x: Tensor, state: Tensor, w: Tensor, b: Tensor, a: Tensor, into: Tensor, *out: Tensor
    ) -> tuple[Tensors, Tensors]:
        c, d, bias = (part[0] for part in out)
        inputs = x.new_empty(x.shape[1], state.shape[-1])
        hidden = x.new_empty(min(ROWS, len(inputs)), w.shape[-1])
        for rows, target in zip(torch.split(x[0], ROWS), torch.split(inputs, ROWS), strict=True):
            torch.mm(_encoded(rows, w, b, hidden), into[0], out=target)
        shaped = inputs.view(1, -1, state.shape[1], state.shape[-1])
        states = recur(a.unsqueeze(1), shaped, None, state, False, shaped)
        y = torch.addmm(bias, x[0], d).addmm_(states.view_as(inputs), c)
        return (y.unsqueeze(0), states[:, -1].clone()), (states,)

    def pull(self, inputs: Tensors, kept: Tensors, gradients: Tensors) -> tuple[Tensor | None, ...]:
        x, state, w, b, a, into, c, d, _ = inputs
        (states,), (to_y, to_last) = kept, gradients
        arriving = torch.bmm(to_y, c.mT).view_as(states)
        arriving[:, -1] += to_last
        g = recur(a.unsqueeze(1), arriving, None, None, True, arriving)
        to_a = (g[:, 1:] * states[:, :-1]).sum((1, 2)) + (g[:, 0] * state).sum(1)
        to_x = torch.bmm(to_y, d.mT) if self.wants_x else None
        to_w, to_b, to_into = self._pull_hidden(x[0], g.flatten(1, 2)[0], (w, b, into), to_x)
        to_c = torch.bmm(states.flatten(1, 2).mT, to_y)
        to_d, to_bias = torch.bmm(x.mT, to_y), to_y.sum(1, keepdim=True)
        return to_x, g[:, 0] * a, to_w, to_b, to_a.unsqueeze(1), to_into, to_c, to_d, to_bias

    def _pull_hidden(self, x: Tensor, g: Tensor, parts: Tensors, to_x: Tensor | None) -> Tensors:
        """Return the gradients of W, b and B, from those of the states; that of x is added."""
        w, b, into = parts
        to_w, to_b, to_into = (torch.zeros_like(part) for part in parts)
        made, arriving = (x.new_empty(min(ROWS, len(x)), w.shape[-1]) for _ in range(2))
        for start in range(0, len(x), ROWS):
            rows, here = x[start : start + ROWS], g[start : start + ROWS]
            u = _encoded(rows, w, b, made)
            to_into[0].addmm_(u.mT, here)
            to_u = torch.mm(here, into[0].mT, out=arriving[: len(rows)]).mul_(u.sign_())
            to_w[0].addmm_(rows.mT, to_u)
            to_b += to_u.sum(0)
            if to_x is not None:
                to_x[0, start : start + ROWS].addmm_(to_u, w[0].mT)
        return to_w, to_b, to_into


def _encoded(rows: Tensor, w: Tensor, b: Tensor, out: Tensor) -> Tensor:
    return torch.addmm(b[0], rows, w[0], out=out[: len(rows)]).relu_()
