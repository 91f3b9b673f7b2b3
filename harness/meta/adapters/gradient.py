"""The gradient adapter: one policy-gradient step per shot, on parameters that differ per task.

MAML's inner loop (arXiv 1703.03400, eq. 4) with the importance-weighted surrogate; Meta-SGD's
(arXiv 1707.09835) where the parameters bring learned step sizes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.meta import objectives
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy, PolicyOutput
from policies.params import clone, repeat

STEP_SIZE = "step_size."
"""Prefix of learned step sizes among the parameters: one per number of the parameter it names."""


def with_step_sizes(params: Params, inner_lr: float) -> Params:
    """Return ``params`` with a step size for each of their numbers, ``inner_lr`` at first."""
    sizes = {STEP_SIZE + name: torch.full_like(value, inner_lr) for name, value in params.items()}
    return params | sizes


def without_step_sizes(params: Params) -> Params:
    """Return the parameters of the policy itself."""
    return {name: value for name, value in params.items() if not name.startswith(STEP_SIZE)}


def inner_loss(out: PolicyOutput, batch: Batch) -> Float[Tensor, " N"]:
    """Return the surrogate that one shot descends, per task."""
    log_probs = out.head.log_prob(batch.actions)
    return objectives.likelihood_ratio_loss(
        log_probs, batch.log_probs, batch.advantages, batch.mask
    )


@dataclass(frozen=True, slots=True)
class GradientAdapter:
    """theta' = theta − inner_lr · ∇ inner_loss(theta), once per shot.

    Carrying memory too, the policy goes into the next episodes remembering those before: the
    gradient pools all support episodes of a task, the memory is each lane's own.
    """

    inner_lr: float
    name: str = "gradient"
    needs_support: bool = True
    steps_per_shot: int = 1
    carries_memory: bool = False

    def adapt(self, policy: Policy, params: Params, batch: Batch) -> Params:
        """Return the parameters [N, ...] after one shot on ``batch``, without a graph."""
        num_tasks = batch.x.shape[0]
        leaves = clone(repeat(params, num_tasks), requires_grad=True)
        loss = inner_loss(batch.forward(policy, leaves), batch)
        return clone(self.step(leaves, loss, order=0))

    def step(self, params: Params, loss: Float[Tensor, " N"], *, order: int) -> Params:
        """Return the parameters that one gradient step on ``loss`` leads to.

        With ``order`` 2 the result is differentiable through the gradient; with 1 only through
        ``params`` themselves (first order, arXiv 1803.02999); with 0 the graph of ``loss`` is
        freed. What the loss does not depend on (the value head, step sizes) stays as it is.
        """
        # Tasks share nothing but the graph: the gradient of the sum is every task's own.
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
