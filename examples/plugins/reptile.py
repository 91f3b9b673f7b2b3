"""Reptile (arXiv 1803.02999): theta <- theta + step_size * mean_i(theta_i' - theta).

theta_i' is theta after ``adaptation_steps`` policy-gradient steps on task i.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Le

from harness.meta.adapters.gradient import GradientAdapter
from harness.meta.cell_setup import CellSetup, LearnerSpec
from harness.meta.learners.base import (
    CollectReport,
    GradientRequest,
    IterationInfo,
    JobContext,
    PolicySnapshot,
    Positive,
    PositiveInt,
    Request,
    RequestKind,
    Unit,
)
from harness.meta.learners.state import LearnerState, norm
from harness.meta.learners.sums import Losses, PartialGradient, sum_over_jobs
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner
from harness.meta.rollouts.episode_loop import Clock
from policies.base import Params
from policies.params import clone
from task_distributions import Task


@dataclass(frozen=True)
class ReptileSettings:
    """Settings of ``reptile``; the last five are required of every learner."""

    step_size: Annotated[float, Gt(0), Le(1)] = 0.2
    """Part of the way from the meta-parameters to the mean of the adapted ones."""
    meta_batch_size: PositiveInt = 20
    """Tasks per meta-iteration."""
    episodes_per_task: PositiveInt = 20
    """Episodes per task and inner step."""
    adaptation_steps: PositiveInt = 3
    """Inner gradient steps."""
    inner_lr: Positive = 0.1
    """Step size of the inner gradient steps."""
    gamma: Unit = 0.99
    """Discount factor per step."""
    gae_lambda: Unit = 1.0
    """Lambda of generalised advantage estimation."""
    baseline: Literal["linear", "value"] = "linear"
    """Advantage baseline."""
    action_scale: Positive = 0.1
    """The environment receives the policy's action times this."""
    init_std: Positive = 1.0
    """Initial standard deviation of the policy."""


@dataclass(frozen=True, slots=True)
class ReptileLearner:
    """Satisfies ``Learner``."""

    setup: CellSetup

    @property
    def settings(self) -> ReptileSettings:
        """The cell's settings."""
        settings: ReptileSettings = self.setup.settings
        return settings

    @property
    def tasks_per_iteration(self) -> int:
        """Tasks of one meta-iteration."""
        return self.settings.meta_batch_size

    @property
    def envs_per_task(self) -> int:
        """Environments that one task runs at once; jobs are sized by it."""
        return self.settings.episodes_per_task

    @property
    def episodes_per_iteration(self) -> int:
        """Episodes of one meta-iteration, the final batch included."""
        return self.tasks_per_iteration * self.envs_per_task * (1 + self.settings.adaptation_steps)

    def init(self) -> LearnerState:
        """Return the state before training. Its Adam is not used."""
        setup = self.setup
        params, obs_dim = setup.policy.init_params(setup.cell.seed), setup.dist.spec.obs_dim
        return LearnerState.fresh(params, 1.0, obs_dim, setup.normalize_obs)

    def iterate(self, state: LearnerState) -> Generator[Request, list[Any], IterationInfo]:
        """Ask the workers to collect and adapt, then for the sum of theta - theta_i'."""
        reports = yield Request(RequestKind.COLLECT, state.snapshot())
        answer = yield from sum_over_jobs(GradientRequest(clone(state.params)))
        size = norm(answer.gradient)
        if state.accepts(size):
            with torch.no_grad():
                for name, theta in state.params.items():
                    theta -= self.settings.step_size * answer.gradient[name]
        return state.finish_iteration(reports, {"grad_norm": size})

    def collect(
        self, tasks: Sequence[Task], context: JobContext, policy: PolicySnapshot, clock: Clock
    ) -> tuple[Params, CollectReport]:
        """On a worker: play and adapt; keep the adapted parameters of each task."""
        setup, steps = self.setup, self.settings.adaptation_steps
        plan = MetaEpisodePlan.for_training(
            seed=setup.cell.seed,
            iteration=context.iteration,
            seed_keys=context.seed_keys,
            shots=steps,
            episodes=self.envs_per_task,
        )
        adapter, estimator = GradientAdapter(self.settings.inner_lr), setup.estimator(policy)
        runner = MetaEpisodeRunner(setup.dist, adapter, estimator)
        outcome = runner.run(tasks, setup.actor(policy), plan, clock)
        blocks = (*outcome.episodes.support, outcome.episodes.query[steps])
        return outcome.adapted.params, CollectReport.on(blocks, policy, self.settings.gamma)

    def compute(
        self, data: Params, payload: GradientRequest, clock: Clock
    ) -> PartialGradient[Losses]:
        """On a worker: return this job's share of theta - mean_i(theta_i')."""
        share = {
            name: (theta - data[name]).sum(0, keepdim=True) / self.settings.meta_batch_size
            for name, theta in payload.params.items()
        }
        return PartialGradient(share, Losses())


REPTILE = LearnerSpec(settings=ReptileSettings, build=ReptileLearner, adapter="gradient")
