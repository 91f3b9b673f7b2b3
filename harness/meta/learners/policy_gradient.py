"""The family maml and multitask belong to: policy-gradient meta-learning, zero or more inner steps.

With one inner step and the clipped outer step this is ProMP (arXiv 1810.06784); with the trpo
outer step it is MAML as published for reinforcement learning (arXiv 1703.03400); with no inner
step it is PPO or TRPO on all training tasks at once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.meta import adaptation
from harness.meta.acting import Actor
from harness.meta.adaptation.gradient import GradientAdapter, with_step_sizes
from harness.meta.batch import Batch, prepare
from harness.meta.learners import outer
from harness.meta.learners.base import IterationInfo, Place, PolicyState, Report, Request
from harness.meta.learners.reports import nanmean, report_on
from harness.meta.learners.state import LearnerState
from harness.meta.learners.surrogate import Collected, MetaObjective
from harness.meta.meta_episode import MetaEpisodeRunner, Outcome, Plan
from harness.meta.problem import Problem
from harness.meta.rollout import Clock
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
    def episodes_per_iteration(self) -> int:
        """Episodes of one outer iteration, over all tasks and batches."""
        batches = 1 + self.adaptation_steps
        return self.problem.config.train.meta_batch_size * self.episodes_per_task * batches

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
        if self.problem.config.adapt.learned_inner_lr and self.adaptation_steps:
            params = with_step_sizes(params, self.problem.config.adapt.inner_lr)
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
        return IterationInfo(nanmean(pre), nanmean(post), info)

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
        blocks = (*outcome.episodes.support, episodes)
        return data, report_on(blocks, train.gamma)

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
