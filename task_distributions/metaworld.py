"""Meta-World's ML10 and ML45 (arXiv 1910.10897) on metaworld 3.1: its tasks, its rewards.

The goal is hidden, an episode has 500 steps and never terminates, and it is a success if the goal
was reached at any of them. Where the engine differs from metaworld's own ``step`` is said in
``metaworld_engine.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mujoco

from task_distributions.base import EnvSpec, Split, Task
from task_distributions.metaworld_goals import SEED, installed_version, task_lists
from task_distributions.task_lists import check_horizon, check_own, check_split

if TYPE_CHECKING:
    from task_distributions.metaworld_engine import MetaworldBatch
    from task_distributions.metaworld_env import MetaworldEnv

__all__ = ["HORIZON", "REWARD_VERSIONS", "Metaworld", "metaworld_ml10", "metaworld_ml45"]

HORIZON = 500
"""Control steps per episode, unless the caller overrides it."""
REWARD_VERSIONS = {"v1": 1, "v2": 2}
"""Reward version -> version of the distribution. A change of definition takes two new numbers."""


@dataclass(frozen=True)
class Metaworld:
    """One of Meta-World's meta-learning benchmarks."""

    name: str
    version: int
    reward_version: str
    """``v2``: 0 to 10 a step; ``v1``: the older, unbounded rewards of the same classes."""
    metaworld_version: str
    spec: EnvSpec
    _lists: dict[Split, tuple[Task, ...]] = field(repr=False)

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: metaworld {self.metaworld_version} (seed {SEED}), MuJoCo "
            f"{mujoco.__version__}, reward {self.reward_version}, goal hidden, success at any step "
            f"of an episode, {self.spec.horizon} steps"
        )

    def tasks(self, split: Split) -> tuple[Task, ...]:
        """Return the fixed list of tasks of one split, 50 goals a class, in metaworld's order."""
        check_split(split)
        return self._lists[split]

    def make_env(self, task: Task, *, render_mode: str | None = None) -> MetaworldEnv:
        """Return the ordinary Gymnasium environment of one task."""
        from task_distributions.metaworld_env import MetaworldEnv

        check_own(self.name, self.version, [task])
        return MetaworldEnv(self.spec, task, self.reward_version, render_mode)

    def make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> MetaworldBatch:
        """Return the batched engine of the same MDPs."""
        from task_distributions.metaworld_engine import MetaworldBatch

        check_own(self.name, self.version, tasks)
        return MetaworldBatch(self.spec, tasks, episodes_per_task, self.reward_version)

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float | None:
        """Return None: no fixed behaviour has an analytic return here."""
        return None


def _build(benchmark: str, horizon: int | None, reward_version: str) -> Metaworld:
    if reward_version not in REWARD_VERSIONS:
        raise ValueError(
            f"unknown reward_version {reward_version!r}; have: {', '.join(REWARD_VERSIONS)}"
        )
    name, number = f"metaworld-{benchmark}", REWARD_VERSIONS[reward_version]
    return Metaworld(
        name=name,
        version=number,
        reward_version=reward_version,
        metaworld_version=installed_version(),
        spec=EnvSpec(39, 4, check_horizon(horizon, HORIZON), has_success=True),
        _lists=task_lists(name, number, benchmark),
    )


def metaworld_ml10(horizon: int | None = None, reward_version: str = "v2") -> Metaworld:
    """Train on 10 classes of manipulation, test on 5 others: 500 and 250 tasks."""
    return _build("ml10", horizon, reward_version)


def metaworld_ml45(horizon: int | None = None, reward_version: str = "v2") -> Metaworld:
    """Train on 45 classes of manipulation, test on 5 others: 2250 and 250 tasks."""
    return _build("ml45", horizon, reward_version)
