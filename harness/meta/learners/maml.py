"""MAML for reinforcement learning, with the second-order meta-gradient by default.

Meta-training finds parameters theta from which a shot, that is one policy-gradient step on newly
collected support episodes, adapts to task i:

    theta_i' = theta − alpha · ∇ L_in_i(theta)     inner step (arXiv 1703.03400, sec. 2.2)
    min_theta  mean_i L_out_i(theta_i')            meta-objective, on query episodes of theta_i'

L_in is the likelihood-ratio surrogate (J^LR of arXiv 1810.06784), whose derivative through the
inner step estimates the Hessian of the return with low variance and some bias. ``outer="ppo"``
takes several Adam steps on a clipped L_out plus ``inner_kl`` times the KL from the sampling
policies: ProMP (same paper). ``outer="trpo"`` takes one natural-gradient step on the unclipped one:
MAML as published (``trpo.py``).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harness.meta import objectives
from harness.meta.adapters.gradient import (
    GradientAdapter,
    inner_loss,
    memory_and_gradient,
    with_step_sizes,
)
from harness.meta.cell_setup import CellSetup, LearnerSpec
from harness.meta.learners.base import (
    CollectReport,
    GradientRequest,
    IterationInfo,
    JobContext,
    LossRequest,
    NonNegative,
    PolicySnapshot,
    Positive,
    PositiveInt,
    Request,
    Unit,
)
from harness.meta.learners.state import LearnerState, norm
from harness.meta.learners.sums import PartialGradient, sum_over_jobs
from harness.meta.learners.trpo import (
    HessianVectorRequest,
    TrustRegionLosses,
    hessian_vector_product,
    trpo_step,
)
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner, Outcome
from harness.meta.rollouts.batch import Batch, prepare
from harness.meta.rollouts.episode_loop import Clock
from policies.base import Params, Policy, PolicyOutput
from policies.heads import Head
from policies.params import clone, repeat
from task_distributions import Task


@dataclass(frozen=True)
class MAMLSettings:
    """Settings of ``maml``."""

    meta_batch_size: PositiveInt = 20
    """Tasks per meta-iteration."""
    episodes_per_task: PositiveInt = 20
    """Episodes per task in each support batch and in the query batch."""
    adaptation_steps: PositiveInt = 1
    """Inner gradient steps while meta-training (at test time, one per shot)."""
    inner_lr: Positive = 0.1
    """Step size of the inner gradient step."""
    learned_inner_lr: bool = False
    """Learn a step size per parameter, starting from inner_lr (Meta-SGD, arXiv 1707.09835)."""
    outer: Literal["ppo", "trpo"] = "ppo"
    """Outer step: clipped surrogate as in ProMP (arXiv 1810.06784), or TRPO as in MAML."""
    learning_rate: Positive = 1e-3
    """Adam step size of the ppo outer step."""
    outer_updates: PositiveInt = 5
    """Gradient steps of the ppo outer step on the data of one meta-iteration."""
    clip: Positive = 0.3
    """Likelihood-ratio clip of the ppo outer step."""
    inner_kl: NonNegative = 5e-4
    """Weight of the KL penalty that keeps the policies before each inner step near those that
    sampled its support data."""
    max_kl: Positive = 0.01
    """Trust region of the trpo outer step."""
    max_grad_norm: Positive = 1.0
    """Maximum norm of the meta-gradient in the ppo outer step."""
    warm_up: bool = False
    """Play the first iteration twice, the first time only to measure the scale of observations and
    returns."""
    first_order: bool = False
    """Drop the second derivatives of the inner step."""
    gamma: Unit = 0.99
    """Discount factor per step."""
    gae_lambda: Unit = 0.95
    """Lambda of generalised advantage estimation (arXiv 1506.02438)."""
    baseline: Literal["linear", "value"] = "linear"
    """Advantage baseline: linear features fitted per task, or the policy's value head."""
    value_coef: NonNegative = 0.5
    """Weight of the value loss, with the value baseline."""
    action_scale: Positive = 0.3
    """The environment receives the policy's action times this."""
    init_std: Positive = 0.6
    """Initial standard deviation of the policy, in its own action units."""
    max_skipped: PositiveInt = 5
    """The cell fails after this many iterations in a row without effect: with a number that is not
    finite, or no valid episode. It also fails if the second half of its training was like that."""

    def __post_init__(self) -> None:
        """Refuse combinations without a meaning.

        Raises:
            ValueError: the trpo outer step is to fit a value head.
        """
        if self.outer == "trpo" and self.baseline == "value":
            raise ValueError(
                "baseline is 'value', but outer 'trpo' fits no value head. "
                "Choose baseline 'linear', or outer 'ppo'"
            )

    def unused(self) -> dict[str, str]:
        """Return the settings that have no effect beside the others, with the reason."""
        found: dict[str, str] = {}
        if self.outer == "trpo":
            ppo = ("learning_rate", "outer_updates", "clip", "inner_kl", "max_grad_norm")
            found |= dict.fromkeys(ppo, "the trpo outer step does not use it")
        else:
            found["max_kl"] = "only the trpo outer step uses it"
        if self.baseline == "linear":
            found["value_coef"] = "there is no value loss with the linear baseline"
        return found


# --- learner -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MAMLLearner:
    """MAML with ``adaptation_steps`` inner steps. Satisfies ``Learner``."""

    setup: CellSetup

    @property
    def settings(self) -> MAMLSettings:
        """Its settings."""
        settings: MAMLSettings = self.setup.settings
        return settings

    @property
    def tasks_per_iteration(self) -> int:
        """Tasks of one meta-iteration."""
        return self.settings.meta_batch_size

    @property
    def envs_per_task(self) -> int:
        """Parallel environments per task; each plays one episode of a batch."""
        return self.settings.episodes_per_task

    @property
    def episodes_per_iteration(self) -> int:
        """Episodes of one meta-iteration, over all tasks and batches."""
        batches = 1 + self.settings.adaptation_steps
        return self.tasks_per_iteration * self.envs_per_task * batches

    def init(self) -> LearnerState:
        """Return the untrained state."""
        settings, setup = self.settings, self.setup
        params = setup.policy.init_params(setup.cell.seed)
        if settings.learned_inner_lr:
            params = with_step_sizes(params, settings.inner_lr)
        obs_dim = setup.dist.spec.obs_dim
        return LearnerState.fresh(params, settings.learning_rate, obs_dim, setup.normalize_obs)

    def iterate(self, state: LearnerState) -> Generator[Request, list[Any], IterationInfo]:
        """Collect, then take the outer step."""
        settings = self.settings
        reports = yield from state.collect(warm_up=settings.warm_up)
        if settings.outer == "trpo":
            info = yield from trpo_step(state, settings.max_kl)
        else:
            info = yield from ppo_step(state, settings)
        return state.finish_iteration(reports, info)

    def collect(
        self, tasks: Sequence[Task], context: JobContext, policy: PolicySnapshot, clock: Clock
    ) -> tuple[MAMLData, CollectReport]:
        """Play support -> adapt -> query with sampled actions and keep the batches."""
        setup, settings = self.setup, self.settings
        steps, estimator = settings.adaptation_steps, setup.estimator(policy)
        make = memory_and_gradient if setup.inputs.history else GradientAdapter
        runner = MetaEpisodeRunner(setup.dist, make(settings.inner_lr), estimator)
        plan = MetaEpisodePlan.for_training(
            seed=setup.cell.seed,
            iteration=context.iteration,
            seed_keys=context.seed_keys,
            shots=steps,
            episodes=self.envs_per_task,
        )
        outcome = runner.run(tasks, setup.actor(policy), plan, clock)
        episodes = outcome.episodes.query[steps]
        query = prepare([episodes], outcome.adapted, tuple(tasks), estimator)
        blocks = (*outcome.episodes.support, episodes)
        return self._sampled(outcome, query), CollectReport.on(blocks, policy, settings.gamma)

    @torch.no_grad()
    def _sampled(self, outcome: Outcome, query: Batch) -> MAMLData:
        """Return the data to keep, with the action distributions that sampled it."""
        policy, trpo = self.setup.policy, self.settings.outer == "trpo"
        sampled = zip(outcome.support, outcome.samplers, strict=True)
        return MAMLData(
            support=outcome.support,
            query=query,
            support_sampled=tuple(batch.forward(policy, params).head for batch, params in sampled),
            query_sampled=query.forward(policy, outcome.adapted.params).head if trpo else None,
        )

    def compute(
        self,
        data: MAMLData,
        payload: GradientRequest | HessianVectorRequest | LossRequest,
        clock: Clock,
    ) -> PartialGradient[Any]:
        """Return this job's share of what ``payload`` asks for, at its meta-parameters."""
        objective = MetaObjective(self.setup.policy, self.settings)
        theta = clone(payload.params, requires_grad=True)
        create_graph = not isinstance(payload, LossRequest)
        terms = objective.terms(theta, data, create_graph=create_graph)
        if isinstance(payload, LossRequest):
            return PartialGradient({}, objective.losses(terms))
        if isinstance(payload, HessianVectorRequest):
            kl = terms.outer_kl.sum() / self.settings.meta_batch_size
            return hessian_vector_product(kl, theta, payload.vector)
        loss = objective.loss(terms).sum() / self.settings.meta_batch_size
        return PartialGradient.of(loss, theta, objective.losses(terms))


# --- meta-objective ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MAMLData:
    """One job's data, as the worker keeps it between the requests of an iteration."""

    support: tuple[Batch, ...]
    query: Batch
    support_sampled: tuple[Head, ...]
    """Action distributions of the sampling policies on their support data, for the inner KL."""
    query_sampled: Head | None
    """The same for the adapted policies on the query data, for TRPO's trust region; else None."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of the meta-objective, per task; differentiable in the meta-parameters."""

    query_loss: Float[Tensor, " N"]
    """L_i(theta_i'): the surrogate of the outer step, on the query data."""
    value_loss: Float[Tensor, " N"]
    """Squared error of the value head; 0 with the linear baseline."""
    inner_kl: Float[Tensor, " N"]
    """KL(sampling ‖ current) on the support data (arXiv 1810.06784): the mean over environment
    steps, summed over inner steps."""
    outer_kl: Float[Tensor, " N"]
    """KL(adapted at sampling ‖ adapted now) on the query data; 0 unless TRPO needs it."""


@dataclass(frozen=True, slots=True)
class MetaLosses(TrustRegionLosses):
    """One job's share of the mean of each term over the meta-batch."""

    value_loss: float
    inner_kl: float


@dataclass(frozen=True, slots=True)
class MetaObjective:
    """The meta-objective as a function of the meta-parameters, on data collected before."""

    policy: Policy
    settings: MAMLSettings

    def terms(self, theta: Params, data: MAMLData, *, create_graph: bool) -> Terms:
        """Return the terms at meta-parameters ``theta`` [1, ...].

        ``create_graph`` false is for evaluation without derivatives (line search).
        """
        num_tasks = data.query.x.shape[0]
        adapter = GradientAdapter(self.settings.inner_lr)
        order = 2 if create_graph and not self.settings.first_order else 1
        inner_kl = data.query.x.new_zeros(num_tasks)
        value = torch.zeros_like(inner_kl)
        params = repeat(theta, num_tasks)
        for batch, sampled in zip(data.support, data.support_sampled, strict=True):
            out = batch.forward(self.policy, params)
            inner_kl = inner_kl + objectives.masked_mean(sampled.kl(out.head), batch.mask)
            value = value + self._value_loss(out, batch)
            params = adapter.step(params, inner_loss(out, batch), order=order)
        out = data.query.forward(self.policy, params)
        return Terms(
            query_loss=self._surrogate(out, data.query),
            value_loss=value + self._value_loss(out, data.query),
            inner_kl=inner_kl,
            outer_kl=self._outer_kl(out, data),
        )

    def loss(self, terms: Terms) -> Float[Tensor, " N"]:
        """Return what the outer step minimises, per task.

        TRPO takes its gradient at the sampling parameters, where that of the KL is zero.
        """
        settings = self.settings
        penalty = settings.inner_kl * terms.inner_kl
        return terms.query_loss + penalty + settings.value_coef * terms.value_loss

    def losses(self, terms: Terms) -> MetaLosses:
        """Return the terms as numbers to report."""
        scale = 1.0 / self.settings.meta_batch_size
        return MetaLosses(
            surrogate=float(terms.query_loss.sum().detach()) * scale,
            value_loss=float(terms.value_loss.sum().detach()) * scale,
            inner_kl=float(terms.inner_kl.sum().detach()) * scale,
            outer_kl=float(terms.outer_kl.sum().detach()) * scale,
        )

    def _surrogate(self, out: PolicyOutput, batch: Batch) -> Tensor:
        log_probs = out.head.log_prob(batch.actions)
        args = (log_probs, batch.log_probs, batch.advantages, batch.mask)
        if self.settings.outer == "ppo":
            return objectives.ppo_clip_loss(*args, clip=self.settings.clip)
        return objectives.likelihood_ratio_loss(*args)

    def _value_loss(self, out: PolicyOutput, batch: Batch) -> Tensor:
        if batch.value_targets is None:
            return batch.x.new_zeros(batch.x.shape[0])
        error = (out.value - batch.value_targets).square()
        return objectives.masked_mean(error, batch.mask)

    @staticmethod
    def _outer_kl(out: PolicyOutput, data: MAMLData) -> Tensor:
        if data.query_sampled is None:
            return data.query.x.new_zeros(data.query.x.shape[0])
        return objectives.masked_mean(data.query_sampled.kl(out.head), data.query.mask)


# --- outer step ----------------------------------------------------------------------------------


def ppo_step(
    state: LearnerState, settings: MAMLSettings
) -> Generator[Request, list[Any], dict[str, float]]:
    """Take ``outer_updates`` Adam steps on the clipped surrogate, all on the same data (ProMP)."""
    info: dict[str, float] = {}
    for _ in range(settings.outer_updates):
        answer = yield from sum_over_jobs(GradientRequest(clone(state.params)))
        size = norm(answer.gradient)
        if not state.accepts(size):
            break
        state.adam_step(answer.gradient, min(1.0, settings.max_grad_norm / (size + 1e-6)))
        info = answer.losses.as_info() | {"grad_norm": size}
    return info


MAML = LearnerSpec(
    settings=MAMLSettings, build=MAMLLearner, adapter="gradient", follows_adapter=True
)
