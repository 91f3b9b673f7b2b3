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

from harness.meta import adapters
from harness.meta.adapters.gradient import GradientAdapter, with_step_sizes
from harness.meta.cell_setup import CellSetup
from harness.meta.learners import outer
from harness.meta.learners.base import IterationInfo, JobContext, PolicyState, Report, Request
from harness.meta.learners.iteration import Keeper, acting, concluded, fresh_state, training_plan
from harness.meta.learners.reports import report_on
from harness.meta.learners.state import LearnerState
from harness.meta.learners.surrogate import Collected, MetaObjective
from harness.meta.meta_episode import MetaEpisodeRunner, Outcome
from harness.meta.rollouts.batch import Batch, prepare
from harness.meta.rollouts.episode_loop import Clock
from policies.base import Params
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class PolicyGradientLearner(Keeper):
    """One outer loop over ``adaptation_steps`` inner steps. Satisfies ``Learner``."""

    problem: CellSetup
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
        params = self.problem.policy.init_params(self.problem.cell.seed)
        if self.problem.config.adapt.learned_inner_lr and self.adaptation_steps:
            params = with_step_sizes(params, self.problem.config.adapt.inner_lr)
        return fresh_state(self.problem, params)

    def iterate(self, state: LearnerState) -> Generator[Request, list[Any], IterationInfo]:
        """Collect, then take the outer step the configuration names."""
        train = self.problem.config.train
        reports: list[Report] = yield Request("collect", state.policy_state())
        info = yield from outer.STEPS[train.outer](state, train)
        return concluded(state, reports, info)

    def collect(
        self, tasks: Sequence[Task], where: JobContext, payload: PolicyState, clock: Clock
    ) -> tuple[Collected, Report]:
        """Play support -> adapt -> query with sampled actions and keep the batches."""
        problem = self.problem
        train = problem.config.train
        actor = acting(problem, payload)
        adapter = adapters.build(self.adapter, problem.config.adapt)
        runner = MetaEpisodeRunner(problem.dist, adapter, train, payload.return_scale)
        plan = training_plan(problem, where, self.adaptation_steps, self.episodes_per_task)
        outcome = runner.run(tasks, actor, plan, clock)
        episodes = outcome.episodes.query[self.adaptation_steps]
        query = prepare(episodes, outcome.adapted, tuple(tasks), train, payload.return_scale)
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
