"""Outer steps: what the learner asks of the workers' data, and what it does with the answers.

``STEPS`` run on the learner side and yield requests; ``ANSWERS`` run on the workers. Answers of
different jobs are summed in a fixed order (sums.py): it does not matter who computed them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import RunConfig, TrainConfig
from harness.meta.learners.base import DivergedError, Request
from harness.meta.learners.state import LearnerState
from harness.meta.learners.sums import Info, sum_of
from harness.meta.learners.surrogate import Collected, MetaObjective, Terms
from policies.base import Params
from policies.params import clone

Step = Generator[Request, list[Any], Info]

CG_ITERATIONS = 10
CG_DAMPING = 1e-5
BACKTRACKS = 15
BACKTRACK_RATIO = 0.8


# --- worker side ---------------------------------------------------------------------------------


def answer_gradient(
    objective: MetaObjective, data: Collected, payload: dict[str, Params], config: RunConfig
) -> tuple[Params, Info]:
    """Return this job's share of the meta-gradient and of the reported losses."""
    leaves = clone(payload["params"], requires_grad=True)
    terms = objective.terms(leaves, data, create_graph=True)
    train = config.train
    loss = terms.surrogate + train.inner_kl * terms.inner_kl + train.value_coef * terms.value
    share = loss.sum() / config.train.meta_batch_size
    gradients = torch.autograd.grad(share, list(leaves.values()), allow_unused=True)
    return _filled(leaves, gradients), _info(terms, config)


def answer_hvp(
    objective: MetaObjective, data: Collected, payload: dict[str, Params], config: RunConfig
) -> tuple[Params, Info]:
    """Return this job's share of the product of the KL's Hessian and ``payload["vector"]``."""
    leaves = clone(payload["params"], requires_grad=True)
    terms = objective.terms(leaves, data, create_graph=True)
    values = list(leaves.values())
    share = terms.outer_kl.sum() / config.train.meta_batch_size
    first = torch.autograd.grad(share, values, create_graph=True, allow_unused=True)
    dot = sum(
        (gradient * payload["vector"][name]).sum()
        for name, gradient in zip(leaves, first, strict=True)
        if gradient is not None
    )
    assert isinstance(dot, Tensor)
    return _filled(leaves, torch.autograd.grad(dot, values, allow_unused=True)), {}


def answer_losses(
    objective: MetaObjective, data: Collected, payload: dict[str, Params], config: RunConfig
) -> tuple[Params, Info]:
    """Return this job's share of the losses at ``payload["params"]``, without derivatives."""
    return {}, _info(
        objective.terms(clone(payload["params"], requires_grad=True), data, create_graph=False),
        config,
    )


Answer = Callable[[MetaObjective, Collected, dict[str, Params], RunConfig], tuple[Params, Info]]
ANSWERS: dict[str, Answer] = {
    "gradient": answer_gradient,
    "hvp": answer_hvp,
    "losses": answer_losses,
}


def _filled(leaves: Params, gradients: Sequence[Tensor | None]) -> Params:
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient.detach()
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


def _info(terms: Terms, config: RunConfig) -> Info:
    scale = 1.0 / config.train.meta_batch_size
    return {
        "surrogate": float(terms.surrogate.sum().detach()) * scale,
        "value_loss": float(terms.value.sum().detach()) * scale,
        "inner_kl": float(terms.inner_kl.sum().detach()) * scale,
        "outer_kl": float(terms.outer_kl.sum().detach()) * scale,
    }


# --- learner side --------------------------------------------------------------------------------


def ppo_step(state: LearnerState, train: TrainConfig) -> Step:
    """Take ``outer_steps`` Adam steps on the clipped surrogate, all on the same data."""
    info: Info = {}
    for _ in range(train.outer_steps):
        gradient, losses = yield from sum_of("gradient", {"params": state.snapshot()})
        size = norm(gradient)
        if not accept(state, size, train):
            break
        scale = min(1.0, train.max_grad_norm / (size + 1e-6))
        state.adam_step({name: value * scale for name, value in gradient.items()})
        info = {**losses, "grad_norm": size}
    else:
        # Only a whole update forgives: a first step that is always fine must not hide the rest.
        state.skipped = 0
    return info


def trpo_step(state: LearnerState, train: TrainConfig) -> Step:
    """Take one natural-gradient step inside the KL ball of the adapted policies.

    TRPO (arXiv 1502.05477, appendix C): conjugate gradients, then a backtracking line search.
    """
    old = state.snapshot()
    gradient, before = yield from sum_of("gradient", {"params": old})
    size = norm(gradient)
    if not accept(state, size, train):
        return {"grad_norm": size}
    state.skipped = 0
    if size == 0:
        return {**before, "grad_norm": size}
    direction = yield from _conjugate_gradient(old, gradient)
    curvature, _ = yield from sum_of("hvp", {"params": old, "vector": direction})
    length = (2 * train.max_kl / max(_dot(direction, curvature), 1e-12)) ** 0.5
    for attempt in range(BACKTRACKS):
        step = length * BACKTRACK_RATIO**attempt
        trial = {name: value - step * direction[name] for name, value in old.items()}
        _, after = yield from sum_of("losses", {"params": trial})
        if after["outer_kl"] <= train.max_kl and after["surrogate"] < before["surrogate"]:
            for name, value in state.params.items():
                value.copy_(trial[name])
            return {**after, "grad_norm": size, "backtracks": float(attempt)}
    return {**before, "grad_norm": size, "backtracks": float(BACKTRACKS)}


STEPS: dict[str, Callable[[LearnerState, TrainConfig], Step]] = {
    "ppo": ppo_step,
    "trpo": trpo_step,
}


def _conjugate_gradient(params: Params, gradient: Params) -> Generator[Request, list[Any], Params]:
    """Solve (H + damping) x = gradient, H the Hessian of the KL at ``params``."""
    solution = {name: torch.zeros_like(value) for name, value in gradient.items()}
    residual = dict(gradient)
    direction = dict(gradient)
    rr = _dot(residual, residual)
    for _ in range(CG_ITERATIONS):
        product, _ = yield from sum_of("hvp", {"params": params, "vector": direction})
        product = _axpy(CG_DAMPING, direction, product)
        alpha = rr / _dot(direction, product)
        solution = _axpy(alpha, direction, solution)
        residual = _axpy(-alpha, product, residual)
        new_rr = _dot(residual, residual)
        if new_rr < 1e-10:
            break
        direction = _axpy(new_rr / rr, direction, residual)
        rr = new_rr
    return solution


def accept(state: LearnerState, norm: float, train: TrainConfig) -> bool:
    """Return whether a gradient may be followed; count it if not."""
    if math.isfinite(norm):
        return True
    state.skipped += 1
    if state.skipped >= train.max_skipped:
        raise DivergedError(f"{state.skipped} updates in a row had a non-finite gradient")
    return False


def _axpy(scale: float, x: Params, y: Params) -> Params:
    return {name: y[name] + scale * value for name, value in x.items()}


def _dot(x: Params, y: Params) -> float:
    return sum(float((x[name].double() * y[name].double()).sum()) for name in x)


def norm(x: Params) -> float:
    """Return the Euclidean norm of all parameters together."""
    return math.sqrt(_dot(x, x))
