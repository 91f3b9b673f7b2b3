"""A linear state space: real, diagonal and stable, with a learnable step size.

    x' = A x + B u,  y = C x + D u,  A = diag(-exp(log_a))

discretised by zero-order hold with step size dt (arXiv 2111.00396, 2208.04933):

    x_t = exp(dt A) x_(t-1) + A^-1 (exp(dt A) - 1) B u_t

A starts as S4D-Real, -(1, 2, ...) (arXiv 2206.11893), in blocks as in S5. Resets are part of the
scan (arXiv 2303.03982).

Letters: N tasks, B sequences per task, T time, L layers, H width, S state.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from policies.fused.node import Recurrence, Tensors, as_node
from policies.fused.series import forward_fused, vjp
from policies.scan import scan

BLOCK = 8
"""States per block: A starts as -(1, ..., 8) in every block; dt distinguishes the blocks."""


def init_poles(
    generator: Generator, layers: int, state: int, dt: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return initial ``log_a`` and ``log_dt``, both ``[1, L, 1, S]``, and the rates ``a [S]``.

    Step sizes are log-uniform in the range ``dt``; dt * a is the decay rate per step.
    """
    rate = (torch.arange(state) % BLOCK + 1).float()
    low, high = dt
    uniform = torch.rand(1, layers, 1, state, generator=generator)
    log_dt = uniform * math.log(high / low) + math.log(low)
    return rate.log().repeat(1, layers, 1, 1), log_dt, rate


def discretise(log_a: Tensor, log_dt: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``exp(dt A)`` and ``A^-1 (exp(dt A) - 1)`` for A = -exp(log_a), by zero-order hold."""
    a = log_a.exp()
    exponent = -a * log_dt.exp()
    return exponent.exp(), -torch.expm1(exponent) / a


def run_states(
    pole: tuple[Tensor, Tensor],
    b: Tensor,
    v: Tensor,
    start: tuple[Tensor, Tensor],
    scan_method: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return the states of one state space over time.

    Args:
        pole: decay and input gain of ``discretise``, each ``[N, 1, S]``.
        b: ``B``, ``[N, H, S]``.
        v: inputs, ``[N, T, B, H]``, contiguous.
        start: resets ``[N, T, B]`` and the state before the first step, ``[N, B, S]``.
        scan_method: the algorithm, see ``policies.scan``.

    Returns:
        All states ``[N, T * B, S]`` and the last ones ``[N, B, S]``.
    """
    decay, gain = pole
    first, x = start
    flat = v.view(v.shape[0], -1, v.shape[-1])
    inputs = torch.bmm(flat, b * gain).view(*v.shape[:-1], -1)
    states = scan(decay.unsqueeze(1), inputs, first, x, scan_method)
    return states.view(*flat.shape[:-1], -1), states[:, -1].clone()


def run_series(x: Tensor, state: Tensor, parts: Tensors) -> Tensors:
    """Run a state space that is fed by one hidden layer over a whole series.

        u = relu(W x + b)     s' = A s + B u     y = C s + D x + bias

    Letters: R = T * B rows, time-major; I inputs, H hidden, S state, O outputs. Returns outputs
    ``[1, R, O]`` and the state after the last step ``[1, B, S]``.

    Second-order gradients, devices other than CPUs and autocast use ``series_reference``.

    Args:
        x: inputs, ``[1, R, I]``.
        state: the state before the first step, ``[1, B, S]``.
        parts: W ``[1, I, H]``, b ``[1, 1, H]``, the diagonal of A ``[1, 1, S]``, B ``[1, H, S]``,
            C ``[1, S, O]``, D ``[1, I, O]`` and bias ``[1, 1, O]``.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return series_reference(x, state, *parts)
    return as_node(Recurrence(series_reference, forward_fused, vjp), x, state, *parts)


def series_reference(
    x: Tensor, state: Tensor, w: Tensor, b: Tensor, a: Tensor, input_matrix: Tensor, *out: Tensor
) -> Tensors:
    """Return the same as ``run_series`` in differentiable torch operations."""
    c, d, bias = out
    u = torch.baddbmm(b, x, w).relu_().view(1, -1, state.shape[1], w.shape[-1])
    first = torch.zeros(u.shape[:3], dtype=torch.bool, device=x.device)
    states, last = run_states((a, torch.ones_like(a)), input_matrix, u, (first, state))
    return torch.baddbmm(torch.baddbmm(bias, x, d), states, c), last
