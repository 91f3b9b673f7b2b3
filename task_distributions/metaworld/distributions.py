"""Meta-World's ML10 and ML45 (arXiv 1910.10897): tasks and rewards of metaworld 3.1.

The goal is hidden, an episode has 500 steps and never terminates, and it is a success if the goal
was reached at any step. ``batched_env.py`` lists the differences from metaworld's own ``step``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import mujoco

from task_distributions.base import EnvSpec, Positive, Task
from task_distributions.metaworld.goals import SEED, installed_version, read_task_lists
from task_distributions.recipes import for_ppo
from task_distributions.task_lists import ListedTasks, resolve_horizon

if TYPE_CHECKING:  # metaworld takes a second to import
    from task_distributions.metaworld.batched_env import BatchedMetaWorldEnv
    from task_distributions.metaworld.single_env import MetaWorldEnv

__all__ = ["RECIPES", "MetaWorld", "MetaWorldSettings", "metaworld_ml10", "metaworld_ml45"]

HORIZON = 500
"""Control steps per episode, unless the settings override it."""
VERSIONS = {"v1": 1, "v2": 2}
"""Reward version -> version of the distribution. A change of definition takes two new numbers."""


@dataclass(frozen=True)
class MetaWorldSettings:
    """Settings of a Meta-World benchmark."""

    horizon: Positive | None = None
    """Control steps per episode; 500 if not given."""
    reward_version: Literal["v1", "v2"] = "v2"
    """v2: 0 to 10 per step; v1: the older, unbounded rewards of the same classes."""


@dataclass(frozen=True)
class MetaWorld(ListedTasks):
    """One of Meta-World's meta-learning benchmarks."""

    reward_version: str
    metaworld_version: str

    @property
    def protocol(self) -> str:
        """One line for table captions."""
        return (
            f"{self.name}@{self.version}: metaworld {self.metaworld_version} (seed {SEED}), MuJoCo "
            f"{mujoco.__version__}, reward {self.reward_version}, goal hidden, success at any step "
            f"of an episode, {self.spec.horizon} steps"
        )

    def _make_env(self, task: Task, render_mode: str | None = None) -> MetaWorldEnv:
        from task_distributions.metaworld.single_env import MetaWorldEnv

        return MetaWorldEnv(self.spec, task, self.reward_version, render_mode)

    def _make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedMetaWorldEnv:
        from task_distributions.metaworld.batched_env import BatchedMetaWorldEnv

        return BatchedMetaWorldEnv(self.spec, tasks, episodes_per_task, self.reward_version)


def _build(benchmark: str, settings: MetaWorldSettings) -> MetaWorld:
    if settings.reward_version not in VERSIONS:
        raise ValueError(
            f"unknown reward_version {settings.reward_version!r}; "
            f"choose from: {', '.join(VERSIONS)}"
        )
    name, version = f"metaworld-{benchmark}", VERSIONS[settings.reward_version]
    horizon = resolve_horizon(settings.horizon, HORIZON)
    return MetaWorld(
        name=name,
        version=version,
        spec=EnvSpec(39, 4, horizon, has_success=True, fixed_start=True),
        task_lists=read_task_lists(name, version, benchmark),
        reward_version=settings.reward_version,
        metaworld_version=installed_version(),
    )


def metaworld_ml10(settings: MetaWorldSettings = MetaWorldSettings()) -> MetaWorld:
    """Manipulate with a robot arm: train on 10 classes of tasks, test on 5 others.

    Tasks are named ``CLASS/GOAL``. Goals 0 to 49 are those of metaworld for its seed 42, goals 50
    to 99 those for seed 43: ``validation`` has other goals of the training classes, ``ood`` of the
    test classes. Episodes never terminate. Success means reaching the goal at any step. Rewards are
    metaworld's own code, on a batched engine that equals metaworld's ``step`` up to rounding. It
    needs the extra ``metaworld``.
    """
    return _build("ml10", settings)


def metaworld_ml45(settings: MetaWorldSettings = MetaWorldSettings()) -> MetaWorld:
    """Manipulate with a robot arm: train on 45 classes of tasks, test on 5 others.

    Goals, episodes, success and rewards are as in ``metaworld-ml10``.
    """
    return _build("ml45", settings)


def _budget(
    env_steps: int, maml: tuple[int, int], protocol: str, episodes: tuple[int, int], *splits: str
) -> dict[str, Any]:
    """Return a budget: maml's (tasks, episodes each), evaluation's (support, query) episodes."""
    return {
        "train": {"env_steps": env_steps},
        "components": {"maml": {"meta_batch_size": maml[0], "episodes_per_task": maml[1]}},
        "evaluation": {
            "protocol": protocol,
            "splits": list(splits),
            "episodes_per_shot": episodes[0],
            "query_episodes": episodes[1],
        },
    }


def _components(tasks: int) -> dict[str, Any]:
    """Return the learners' settings; PPO plays ``tasks`` tasks an iteration, twice each."""
    size = {"episodes_per_iteration": 2 * tasks, "tasks_per_iteration": tasks}
    explore = {"init_std": 0.6, "entropy_coef": 0.002, "learning_rate": 3e-4, "baseline": "linear"}
    # Rewards of solved classes are a hundred times those of others, whose advantages would vanish.
    share = {"normalize_advantages": "task"}
    # Actions are offsets of the hand, so maml's usual action scale would be too small.
    return {
        "components": for_ppo(**size, minibatches=tasks // 6, gamma=0.99, **explore, **share)
        | {"maml": {"action_scale": 1.0, "init_std": 1.0}}
    }


_BOTH = ("test", "train")

RECIPES: dict[str, dict[str, Any]] = {
    "metaworld-ml10": {
        **_components(20),
        "presets": {
            "smoke": _budget(80_000, (10, 2), "quick", (2, 1), *_BOTH),
            "quick": _budget(2_000_000, (20, 4), "quick", (5, 3), *_BOTH),
            "standard": _budget(10_000_000, (20, 10), "official", (10, 3), *_BOTH),
            # The published budgets (Meta-World+): 20 M and 90 M steps.
            "paper": _budget(20_000_000, (20, 10), "official", (10, 3), *_BOTH),
        },
    },
    "metaworld-ml45": {
        **_components(45),
        "presets": {
            # Scoring 45 training classes takes most of the time; --splits test train adds them.
            "smoke": _budget(80_000, (10, 2), "quick", (2, 1), "test"),
            "quick": _budget(1_200_000, (20, 4), "quick", (4, 3), *_BOTH),
            "standard": _budget(20_000_000, (20, 10), "official", (10, 3), *_BOTH),
            "paper": _budget(90_000_000, (20, 10), "official", (10, 3), *_BOTH),
        },
    },
}
"""Settings that suit these distributions; see ``task_distributions.recipe``."""
