"""The meta-objective as a function of the meta-parameters, on data that was collected before.

theta -> adapt on each support batch, with the graph -> outer surrogate on the query batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.config.schema import TrainConfig
from harness.meta import objectives
from harness.meta.adapters.gradient import GradientAdapter, inner_loss
from harness.meta.rollouts.batch import Batch
from policies.base import Params, Policy, PolicyOutput
from policies.params import repeat


@dataclass(frozen=True, slots=True)
class Collected:
    """One job's data as the worker keeps it between the requests of an iteration."""

    support: tuple[Batch, ...]
    query: Batch
    support_old: tuple[PolicyOutput, ...]
    """What the sampling policies put out on their own support data, for the inner KL."""
    query_old: PolicyOutput | None
    """The same for the adapted policies on the query data; TRPO measures its step there."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The pieces of the meta-objective, per task; each differentiable in the meta-parameters."""

    surrogate: Float[Tensor, " N"]
    """Outer policy loss on the query data."""
    value: Float[Tensor, " N"]
    """Squared error of the value head, 0 with the linear baseline."""
    inner_kl: Float[Tensor, " N"]
    """KL(sampling ‖ now) on the support data, summed over the steps (arXiv 1810.06784, eq. 7)."""
    outer_kl: Float[Tensor, " N"]
    """KL(adapted then ‖ adapted now) on the query data; 0 where not asked for."""


@dataclass(frozen=True, slots=True)
class MetaObjective:
    """Computes ``Terms``; holds the settings, no state."""

    policy: Policy
    adapter: GradientAdapter
    train: TrainConfig

    def terms(self, params: Params, data: Collected, *, create_graph: bool) -> Terms:
        """Return the terms at meta-parameters ``params`` [1, ...].

        ``create_graph`` false serves evaluation without derivatives (line search).
        """
        num_tasks = data.query.x.shape[0]
        order = (1 if self.train.first_order else 2) if create_graph else 1
        inner_kl = torch.zeros(num_tasks, dtype=data.query.x.dtype)
        value = torch.zeros_like(inner_kl)
        if data.support:
            params = repeat(params, num_tasks)
        for batch, old in zip(data.support, data.support_old, strict=True):
            out = batch.forward(self.policy, params)
            inner_kl = inner_kl + objectives.masked_mean(old.head.kl(out.head), batch.mask)
            value = value + self._value_loss(out, batch)
            params = self.adapter.step(params, inner_loss(out, batch), order=order)
        out = data.query.forward(self.policy, params)
        return Terms(
            surrogate=self._surrogate(out, data.query),
            value=value + self._value_loss(out, data.query),
            inner_kl=inner_kl,
            outer_kl=self._outer_kl(data, out),
        )

    def _surrogate(self, out: PolicyOutput, batch: Batch) -> Tensor:
        log_probs = out.head.log_prob(batch.actions)
        args = (log_probs, batch.log_probs, batch.advantages, batch.mask)
        if self.train.outer == "ppo":
            return objectives.ppo_clip_loss(*args, clip=self.train.clip)
        return objectives.likelihood_ratio_loss(*args)

    def _value_loss(self, out: PolicyOutput, batch: Batch) -> Tensor:
        if self.train.baseline == "linear":
            return torch.zeros(batch.x.shape[0], dtype=batch.x.dtype)
        error = (out.value - batch.value_targets).square()
        return objectives.masked_mean(error, batch.mask)

    @staticmethod
    def _outer_kl(data: Collected, out: PolicyOutput) -> Tensor:
        if data.query_old is None:
            return torch.zeros(data.query.x.shape[0], dtype=data.query.x.dtype)
        kl = data.query_old.head.kl(out.head)
        return objectives.masked_mean(kl, data.query.mask)
