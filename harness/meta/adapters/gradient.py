"""The gradient adapter: one policy-gradient step per shot, on parameters that differ per task.

MAML's inner loop (arXiv 1703.03400, eq. 4) with the importance-weighted surrogate; Meta-SGD
(arXiv 1707.09835) if the parameters include learned step sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.meta import objectives
from harness.meta.adapters.base import AdapterSpec, Shot
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy, PolicyOutput
from policies.params import clone, repeat

INNER_LR = 0.03
"""Step size with learners that have none of their own."""
STEP_SIZE = "step_size."
"""Prefix of learned step sizes among the parameters, each of the shape of what it scales."""


def with_step_sizes(params: Params, inner_lr: float) -> Params:
    """Return ``params`` and a step size for each of their entries, initially ``inner_lr``."""
    sizes = {STEP_SIZE + name: torch.full_like(value, inner_lr) for name, value in params.items()}
    return params | sizes


def without_step_sizes(params: Params) -> Params:
    """Return the parameters of the policy itself."""
    return {name: value for name, value in params.items() if not name.startswith(STEP_SIZE)}


def inner_loss(out: PolicyOutput, batch: Batch) -> Float[Tensor, " N"]:
    """Return the surrogate that one shot minimises, per task."""
    log_probs = out.head.log_prob(batch.actions)
    return objectives.likelihood_ratio_loss(
        log_probs, batch.log_probs, batch.advantages, batch.mask
    )


@dataclass(frozen=True, slots=True)
class GradientAdapter:
    """theta' = theta − inner_lr · ∇ inner_loss(theta), once per shot.

    If it also carries memory, the next episodes continue the support episodes: the gradient pools
    all support episodes of a task, while each query episode continues one of them.
    """

    inner_lr: float
    name: str = "gradient"
    needs_support: bool = True
    steps_per_shot: int = 1
    carries_memory: bool = False

    def adapt(self, policy: Policy, params: Params, shot: Shot) -> Params:
        """Return the parameters [N, ...] after one more shot, without a graph."""
        leaves = clone(repeat(params, shot.batch.x.shape[0]), requires_grad=True)
        return clone(self.step(leaves, self.loss(policy, leaves, shot), order=0))

    def loss(self, policy: Policy, params: Params, shot: Shot) -> Float[Tensor, " N"]:
        """Return what the step of one shot minimises, per task."""
        return inner_loss(shot.batch.forward(policy, params), shot.batch)

    def step(self, params: Params, loss: Float[Tensor, " N"], *, order: int) -> Params:
        """Return the parameters after one gradient step on ``loss``.

        With ``order`` 2 the result is differentiable through the gradient; with 1 only through
        ``params`` themselves (first order, arXiv 1803.02999); with 0 the graph of ``loss`` is
        freed. What the loss does not depend on (the value head, step sizes) stays unchanged.
        """
        # Tasks share nothing but the graph: the gradient of the sum holds each task's own.
        gradients = torch.autograd.grad(
            loss.sum(),
            list(params.values()),
            create_graph=order == 2,
            retain_graph=order > 0,
            allow_unused=True,
        )
        return {
            name: value
            if gradient is None
            else value - params.get(STEP_SIZE + name, self.inner_lr) * gradient
            for (name, value), gradient in zip(params.items(), gradients, strict=True)
        }


def memory_and_gradient(inner_lr: float) -> GradientAdapter:
    """Return the adapter whose shots both change the parameters and are remembered."""
    return GradientAdapter(inner_lr, name="memory+gradient", carries_memory=True)


GRADIENT = AdapterSpec(build=lambda settings, inner_lr: GradientAdapter(inner_lr))
MEMORY_AND_GRADIENT = AdapterSpec(
    build=lambda settings, inner_lr: memory_and_gradient(inner_lr),
    feeds_history=True,
    trained_through=True,
)
