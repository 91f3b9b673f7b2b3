"""TRPO's step (arXiv 1502.05477, appendix C) as the outer step of MAML (arXiv 1703.03400).

max g·x  subject to  ½ x·H x ≤ max_kl,  H the Hessian of the KL of the adapted policies

Conjugate gradients solve H x = g from Hessian-vector products alone, which the workers compute
beside their data; a backtracking line search then checks the KL and the surrogate themselves.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.meta.learners.base import GradientRequest, LossRequest, Request
from harness.meta.learners.state import LearnerState, dot, norm
from harness.meta.learners.sums import Losses, PartialGradient, sum_over_jobs
from policies.base import Params
from policies.params import clone

CG_ITERATIONS = 10
CG_DAMPING = 1e-5
BACKTRACKS = 15
BACKTRACK_RATIO = 0.8

Info = dict[str, float]


@dataclass(frozen=True, slots=True)
class HessianVectorRequest:
    """Asks for the product of the KL's Hessian at ``params`` with ``vector``."""

    params: Params
    vector: Params


@dataclass(frozen=True, slots=True)
class TrustRegionLosses(Losses):
    """The losses that the line search checks."""

    surrogate: float
    """Mean loss of the adapted policies on the query data."""
    outer_kl: float
    """KL of the adapted policies from those that sampled the query data."""


Answer = PartialGradient[TrustRegionLosses]


# --- learner side --------------------------------------------------------------------------------


def trpo_step(state: LearnerState, max_kl: float) -> Generator[Request, list[Any], Info]:
    """Take one natural-gradient step inside the KL ball of the adapted policies."""
    old = clone(state.params)
    answer: Answer = yield from sum_over_jobs(GradientRequest(old))
    gradient, before = answer.gradient, answer.losses
    info = {"grad_norm": norm(gradient)}
    if not state.accepts(info["grad_norm"]):
        return info
    if info["grad_norm"] == 0:
        return before.as_info() | info
    direction = yield from conjugate_gradient(old, gradient)
    curvature = yield from sum_over_jobs(HessianVectorRequest(old, direction))
    length = (2 * max_kl / max(dot(direction, curvature.gradient), 1e-12)) ** 0.5
    if not state.accepts(length * norm(direction)):
        return before.as_info() | info
    for attempt in range(BACKTRACKS):
        step = length * BACKTRACK_RATIO**attempt
        trial = {name: value - step * direction[name] for name, value in old.items()}
        tried: Answer = yield from sum_over_jobs(LossRequest(trial))
        after = tried.losses
        if after.outer_kl <= max_kl and after.surrogate < before.surrogate:
            for name, value in state.params.items():
                value.copy_(trial[name])
            return after.as_info() | info | {"backtracks": float(attempt)}
    return before.as_info() | info | {"backtracks": float(BACKTRACKS)}


def conjugate_gradient(params: Params, gradient: Params) -> Generator[Request, list[Any], Params]:
    """Solve (H + damping) x = gradient for x, H the Hessian of the KL at ``params``."""
    solution = {name: torch.zeros_like(value) for name, value in gradient.items()}
    residual = dict(gradient)
    direction = dict(gradient)
    rr = dot(residual, residual)
    for _ in range(CG_ITERATIONS):
        product = (yield from sum_over_jobs(HessianVectorRequest(params, direction))).gradient
        product = _axpy(CG_DAMPING, direction, product)
        alpha = rr / (dot(direction, product) or math.nan)
        solution = _axpy(alpha, direction, solution)
        residual = _axpy(-alpha, product, residual)
        new_rr = dot(residual, residual)
        if new_rr < 1e-10:
            break
        direction = _axpy(new_rr / rr, direction, residual)
        rr = new_rr
    return solution


def _axpy(scale: float, x: Params, y: Params) -> Params:
    return {name: y[name] + scale * value for name, value in x.items()}


# --- worker side ---------------------------------------------------------------------------------


def hessian_vector_product(
    scalar: Tensor, leaves: Params, vector: Params
) -> PartialGradient[Losses]:
    """Return the product of the Hessian of ``scalar`` in the leaves with ``vector``."""
    first = torch.autograd.grad(scalar, list(leaves.values()), create_graph=True, allow_unused=True)
    product = sum(
        (gradient * vector[name]).sum()
        for name, gradient in zip(leaves, first, strict=True)
        if gradient is not None
    )
    assert isinstance(product, Tensor)
    return PartialGradient.of(product, leaves, Losses())
