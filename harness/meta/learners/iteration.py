"""What learners with a ``LearnerState`` do alike: keep it, open and close an iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import IterationInfo, JobContext, PolicyState, Report
from harness.meta.learners.reports import nanmean
from harness.meta.learners.state import LearnerState
from harness.meta.meta_episode import MetaEpisodePlan
from harness.meta.rollouts.actor import Actor
from policies.base import Params


class Keeper:
    """The state's part of ``Learner``; its subclasses say how the state begins."""

    __slots__ = ()

    def init(self) -> LearnerState:
        """Return the untrained state."""
        raise NotImplementedError

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


def fresh_state(problem: CellSetup, params: Params) -> LearnerState:
    """Return the state of a learner that begins at ``params``."""
    train = problem.config.train
    return LearnerState.fresh(
        params, train.outer_lr, problem.dist.spec.obs_dim, train.normalize_obs
    )


def acting(problem: CellSetup, state: PolicyState) -> Actor:
    """Return the policy of ``state`` before its first episode on any task."""
    train = problem.config.train
    return Actor(
        problem.policy,
        state.params,
        state.normalizer,
        1.0 if problem.dist.spec.discrete else train.action_scale,
        problem.inputs,
        state.reward_unit(train.gamma),
    )


def training_plan(
    problem: CellSetup, where: JobContext, shots: int, episodes: int
) -> MetaEpisodePlan:
    """Return the meta-episodes to learn from: ``shots``, then a query, all of sampled actions."""
    return MetaEpisodePlan(
        query_after=(shots,),
        support_episodes=episodes,
        query_episodes=episodes,
        deterministic_query=False,
        seed=problem.cell.seed,
        phase="train",
        seed_keys=where.seed_keys,
        iteration=where.iteration,
    )


def concluded(
    state: LearnerState, reports: Sequence[Report], info: dict[str, float]
) -> IterationInfo:
    """Count what was learned from, and tell of it."""
    state.absorb(reports)
    pre = [value for report in reports for value in report.pre_returns]
    post = [value for report in reports for value in report.post_returns]
    invalid = float(sum(report.invalid for report in reports))
    info |= {"invalid_episodes": invalid, "skipped_in_a_row": float(state.skipped)}
    return IterationInfo(nanmean(pre), nanmean(post), info)
