"""What every agent keeps: it learns from support episodes alone, and repeats what it did."""

from __future__ import annotations

from typing import Any

import numpy as np

import task_distributions
from harness import agents
from harness.agents import AgentSource, TimeLimits
from harness.agents.playing import Outcome, Scoring, TaskPlayer
from harness.conformance.suite import Suite
from harness.meta.rollouts.episode_loop import Clock

HORIZON = 20


class AgentSuite(Suite):
    """The tests of an agent, on two tasks of the distribution that ``task_dist`` names."""

    def source(self) -> AgentSource:
        """Return how it is made."""
        settings = {key: value for key, value in self.settings.items() if key != "task_dist"}
        return AgentSource(self.name, agents.settings_class(self.name)(**settings))

    def play(self, *shots: int, tasks: tuple[int, ...] = (0,)) -> Outcome:
        """Play test tasks one after the other; return what was played on the last one."""
        dist = task_distributions.load(
            self.settings.get("task_dist", "point_goal"), horizon=HORIZON
        )
        source, plan = self.source(), Scoring(shots, episodes_per_shot=4, query_episodes=2, seed=0)
        for index in tasks:
            task = dist.tasks("test")[index]
            player = TaskPlayer(dist, task, source.make, plan, TimeLimits(), Clock())
            outcome = player.play()
        return outcome

    def test_it_plays_and_adapts(self) -> None:
        outcome = self.play(0, 1, 2)
        assert set(outcome.episodes.query) == {0, 1, 2}
        assert len(outcome.episodes.support) == (0 if outcome.adaptation == "none" else 2)

    def test_the_same_seed_gives_the_same_episodes(self) -> None:
        _same(self.play(1), self.play(1), 1)

    def test_query_episodes_teach_nothing(self) -> None:
        _same(self.play(0, 1, 2), self.play(2), 2)

    def test_a_task_teaches_nothing_about_the_next(self) -> None:
        _same(self.play(1, tasks=(1, 0)), self.play(1), 1)


def _same(one: Outcome, other: Outcome, shots: int) -> None:
    left, right = (outcome.episodes.query[shots] for outcome in (one, other))
    for name in ("obs", "actions", "rewards"):
        found: Any = getattr(left, name)
        assert np.array_equal(found, getattr(right, name)), f"{name} differ after {shots} shots"
