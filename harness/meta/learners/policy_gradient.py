"""The family maml and multitask belong to: policy-gradient meta-learning, zero or more inner steps.

With one inner step and the clipped outer step this is ProMP (arXiv 1810.06784); with the trpo
outer step it is MAML as published for reinforcement learning (arXiv 1703.03400); with no inner
step it is PPO or TRPO on all training tasks at once.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.meta import adaptation, objectives
from harness.meta.acting import Actor
from harness.meta.adaptation.gradient import GradientAdapter
from harness.meta.batch import Batch, prepare
from harness.meta.learners import outer
from harness.meta.learners.base import IterationInfo, Place, PolicyState, Report, Request
from harness.meta.learners.state import LearnerState
from harness.meta.learners.surrogate import Collected, MetaObjective
from harness.meta.meta_episode import MetaEpisodeRunner, Outcome, Plan
from harness.meta.normalizer import Moments
from harness.meta.problem import Problem
from harness.meta.rollout import Clock
from harness.types import Episodes
from policies.base import Params
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class PolicyGradientLearner:
    """One outer loop over ``adaptation_steps`` inner steps. Satisfies ``Learner``."""

    problem: Problem
    name: str
    adapter: str
    adaptation_steps: int
    episodes_per_task: int
    """Episodes of each support and of the query batch."""

    @property
    def objective(self) -> MetaObjective:
        """The meta-objective this learner descends."""
        config = self.problem.config
        inner = GradientAdapter(inner_lr=config.adapt.inner_lr)
        return MetaObjective(self.problem.policy, inner, config.train)

    def init(self) -> LearnerState:
        """Return the untrained state."""
        train = self.problem.config.train
        params = self.problem.policy.init_params(self.problem.cell.seed)
        obs_dim = self.problem.dist.spec.obs_dim
        return LearnerState.fresh(params, train.outer_lr, obs_dim, train.normalize_obs)

    def restore(self, tensors: Params, meta: dict[str, Any]) -> LearnerState:
        """Return a saved state."""
        state = self.init()
        state.load(tensors, meta)
        return state

    def save(self, state: LearnerState) -> tuple[Params, dict[str, Any]]:
        """Return the whole state as tensors and JSON values."""
        return state.save()

    def policy_state(self, state: LearnerState) -> PolicyState:
        """Return what acting takes."""
        return state.policy_state()

    def iterate(self, state: LearnerState) -> Generator[Request, list[Any], IterationInfo]:
        """Collect, then take the outer step the configuration names."""
        train = self.problem.config.train
        reports: list[Report] = yield Request("collect", state.policy_state())
        info = yield from outer.STEPS[train.outer](state, train)
        state.absorb(reports)
        pre = [value for report in reports for value in report.pre_returns]
        post = [value for report in reports for value in report.post_returns]
        info["invalid_episodes"] = float(sum(report.invalid for report in reports))
        info["skipped_in_a_row"] = float(state.skipped)
        return IterationInfo(_nanmean(pre), _nanmean(post), info)

    def collect(
        self, tasks: Sequence[Task], where: Place, payload: PolicyState, clock: Clock
    ) -> tuple[Collected, Report]:
        """Play support -> adapt -> query with sampled actions and keep the batches."""
        problem = self.problem
        train = problem.config.train
        actor = Actor(problem.policy, payload.params, payload.normalizer, train.action_scale)
        adapter = adaptation.build(self.adapter, problem.config.adapt)
        runner = MetaEpisodeRunner(problem.dist, adapter, train, payload.return_scale)
        plan = Plan(
            query_after=(self.adaptation_steps,),
            support_episodes=self.episodes_per_task,
            query_episodes=self.episodes_per_task,
            deterministic_query=False,
            seed=problem.cell.seed,
            phase="train",
            seed_keys=where.seed_keys,
            iteration=where.iteration,
        )
        outcome = runner.run(tasks, actor, plan, clock)
        episodes = outcome.episodes.query[self.adaptation_steps]
        query = prepare(episodes, outcome.adapted, train, payload.return_scale)
        data = self._keep(outcome, query)
        return data, _report(outcome, self.adaptation_steps, train.gamma)

    def compute(self, kind: str, data: Collected, payload: dict[str, Params], clock: Clock) -> Any:
        """Answer ``gradient``, ``hvp`` or ``losses`` (see outer.py) on one job's data."""
        return outer.ANSWERS[kind](self.objective, data, payload, self.problem.config)

    @torch.no_grad()
    def _keep(self, outcome: Outcome, query: Batch) -> Collected:
        policy, train = self.problem.policy, self.problem.config.train
        sampled = zip(outcome.support, outcome.samplers, strict=True)
        olds = tuple(batch.forward(policy, params) for batch, params in sampled)
        query_old = None
        if train.outer == "trpo":
            query_old = query.forward(policy, outcome.adapted.params)
        return Collected(outcome.support, query, olds, query_old)


def _report(outcome: Outcome, steps: int, gamma: float) -> Report:
    query = outcome.episodes.query[steps]
    batches = (*outcome.episodes.support, query)
    moments = sum((Moments.of(batch) for batch in batches[1:]), Moments.of(batches[0]))
    return Report(
        env_steps=sum(batch.env_steps for batch in batches),
        pre_returns=_task_means(batches[0]),
        post_returns=_task_means(query),
        invalid=sum(int(batch.invalid.sum()) for batch in batches),
        moments=moments,
        return_moments=_return_moments(query, gamma),
    )


def _return_moments(episodes: Episodes, gamma: float) -> tuple[float, float, float]:
    rewards = torch.from_numpy(episodes.rewards).double()
    returns = objectives.discounted_returns(rewards, gamma).numpy()[episodes.mask]
    return float(len(returns)), float(returns.sum()), float(np.square(returns).sum())


def _task_means(episodes: Episodes) -> tuple[float, ...]:
    return tuple(_nanmean(row.tolist()) for row in episodes.returns)


def _nanmean(values: Sequence[float]) -> float:
    valid = [value for value in values if not math.isnan(value)]
    return float(np.mean(valid)) if valid else math.nan
