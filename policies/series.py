"""A linear state space fed by one hidden layer, over a whole series.

    u = relu(W x + b)     s' = A s + B u     y = C s + D x + bias

Letters: R = T * B rows, time-major; I inputs, H hidden, S state, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.fused.node import Recurrence, Tensors, as_node
from policies.fused.series import forward_fused, vjp
from policies.state_space import run_states


def run_series(x: Tensor, state: Tensor, parts: Tensors) -> Tensors:
    """Return outputs ``[1, R, O]`` and the state after the last step ``[1, B, S]``.

    Second-order gradients, devices other than CPUs and autocast use ``reference``.

    Args:
        x: inputs, ``[1, R, I]``.
        state: the state before the first step, ``[1, B, S]``.
        parts: W ``[1, I, H]``, b ``[1, 1, H]``, the diagonal of A ``[1, 1, S]``, B ``[1, H, S]``,
            C ``[1, S, O]``, D ``[1, I, O]`` and bias ``[1, 1, O]``.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return reference(x, state, *parts)
    return as_node(Recurrence(reference, forward_fused, vjp), x, state, *parts)


def reference(
    x: Tensor, state: Tensor, w: Tensor, b: Tensor, a: Tensor, input_matrix: Tensor, *out: Tensor
) -> Tensors:
    """Return the same as ``run_series`` in differentiable torch operations."""
    c, d, bias = out
    u = torch.baddbmm(b, x, w).relu_().view(1, -1, state.shape[1], w.shape[-1])
    first = torch.zeros(u.shape[:3], dtype=torch.bool, device=x.device)
    states, last = run_states((a, torch.ones_like(a)), input_matrix, u, (first, state))
    return torch.baddbmm(torch.baddbmm(bias, x, d), states, c), last
