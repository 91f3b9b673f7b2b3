"""What learners from sequences share: how an iteration is divided, and how it is played.

A sequence is one episode, or several episodes of a task with memory across them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harness.meta.adapters.unchanged import MEMORY_ADAPTER, NO_ADAPTER
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import JobContext, PolicySnapshot
from harness.meta.meta_episode import MetaEpisodePlan, MetaEpisodeRunner
from harness.meta.rollouts.actor import Actor
from harness.meta.rollouts.episode_loop import Clock
from harness.types import Episodes
from task_distributions import Task


def check_fits(episodes_in_context: int, episodes_per_iteration: int) -> None:
    """Refuse sequences that do not fit into an iteration.

    Raises:
        ValueError: a sequence has more episodes than an iteration.
    """
    if episodes_in_context > episodes_per_iteration:
        raise ValueError(
            f"episodes_in_context is {episodes_in_context}, but an iteration has "
            f"{episodes_per_iteration} episodes. Choose at most that, or raise "
            "episodes_per_iteration"
        )


@runtime_checkable
class SequenceSettings(Protocol):
    """The settings that divide an iteration."""

    @property
    def episodes_per_iteration(self) -> int: ...  # noqa: D102

    @property
    def tasks_per_iteration(self) -> int: ...  # noqa: D102

    @property
    def episodes_in_context(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class SequenceLearner:
    """Divides an iteration by its settings, and plays a job's part of it."""

    setup: CellSetup

    @property
    def _settings(self) -> SequenceSettings:
        settings: SequenceSettings = self.setup.settings
        return settings

    @property
    def tasks_per_iteration(self) -> int:
        """Tasks of one iteration: at least one sequence each."""
        s = self._settings
        return max(1, min(s.tasks_per_iteration, s.episodes_per_iteration // s.episodes_in_context))

    @property
    def envs_per_task(self) -> int:
        """Parallel environments per task; each plays one sequence."""
        s = self._settings
        one_each = self.tasks_per_iteration * s.episodes_in_context
        return max(1, s.episodes_per_iteration // one_each)

    @property
    def episodes_per_iteration(self) -> int:
        """Episodes of one iteration, over all tasks."""
        return self.tasks_per_iteration * self.envs_per_task * self._settings.episodes_in_context

    def play(
        self, tasks: Sequence[Task], context: JobContext, policy: PolicySnapshot, clock: Clock
    ) -> tuple[Actor, tuple[Episodes, ...]]:
        """Play the sequences of one job with sampled actions.

        Returns what played them, in its state before the first step, and the episodes in the order
        in which they were played.
        """
        setup, last = self.setup, self._settings.episodes_in_context - 1
        actor = setup.actor(policy)
        plan = MetaEpisodePlan.for_training(
            seed=setup.cell.seed,
            iteration=context.iteration,
            seed_keys=context.seed_keys,
            shots=last,
            episodes=self.envs_per_task,
        )
        carrier = MEMORY_ADAPTER if last else NO_ADAPTER
        runner = MetaEpisodeRunner(setup.dist, carrier, setup.estimator(policy))
        episodes = runner.run(tasks, actor, plan, clock).episodes
        return actor, (*episodes.support, episodes.query[last])
