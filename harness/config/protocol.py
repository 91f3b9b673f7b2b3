"""Which tasks are scored: an evaluation protocol is a number of goals of every class.

A class is what stands before the ``/`` in a task's name (Meta-World: ``drawer-open/17``), a goal
what stands behind it. A protocol picks tasks before anything runs and scores a fixed number of
episodes on each, all of them: nothing depends on which episode finishes first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import task_distributions
from harness.config.distributions import open_distribution
from harness.config.schema import OFFICIAL_EPISODES, EvalConfig, RunConfig
from metarl_plugins import PluginError
from task_distributions import Split, Task, TaskDistribution

EVERY_TASK = "all"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How much of a distribution is scored, and on how many episodes."""

    goals: dict[Split, int]
    """Goals of every class, the first ones in the order of their numbers."""
    fixed: dict[str, int] = field(default_factory=dict)
    """Settings of ``EvalConfig`` that belong to the protocol."""


PROTOCOLS: dict[str, Protocol] = {
    # metaworld 3.1.1, evaluation.metalearning_evaluation: 40 goals of every test class, 10
    # episodes to adapt on, 3 to score. It says nothing of training classes; 4 goals are ours.
    "official": Protocol({"test": 40, "ood": 40, "train": 4, "validation": 4}, OFFICIAL_EPISODES),
    "quick": Protocol({"test": 4, "ood": 4, "train": 1, "validation": 1}),
}
"""Name -> protocol; ``all`` is none of them: every task of the run is scored."""


def has_classes(dist: TaskDistribution) -> bool:
    """Return whether protocols apply: tasks report success and are named ``class/number``."""
    return dist.spec.has_success and all(
        task.class_name and task.name.rpartition("/")[2].isdecimal()
        for split in task_distributions.SPLITS
        for task in dist.tasks(split)
    )


def with_classes() -> tuple[str, ...]:
    """Return the names of the distributions that protocols apply to."""
    found = []
    for name in task_distributions.names():
        # The package that it needs, or that brings it, is not installed or broken.
        with contextlib.suppress(ImportError, PluginError):
            if has_classes(task_distributions.load(name)):
                found.append(name)
    return tuple(found)


def scored_splits(evaluation: EvalConfig) -> tuple[Split, ...]:
    """Return the splits to score, ``test`` first."""
    order: tuple[Split, ...] = ("test", "ood", "train", "validation")
    return tuple(split for split in order if split in evaluation.splits)


def used_tasks(dist: TaskDistribution, config: RunConfig, split: Split) -> tuple[int, ...]:
    """Return the indices of the tasks of ``split`` that the run is restricted to."""
    chosen = {"train": config.train_tasks, "test": config.test_tasks}.get(split)
    return chosen if chosen is not None else tuple(range(len(dist.tasks(split))))


def scored_tasks(dist: TaskDistribution, config: RunConfig, split: Split) -> tuple[int, ...]:
    """Return the indices of the tasks of ``split`` that the run scores, ascending by class."""
    used = used_tasks(dist, config, split)
    if config.evaluation.protocol == EVERY_TASK:
        return used
    count = PROTOCOLS[config.evaluation.protocol].goals[split]
    return first_goals(dist.tasks(split), used, count)


def first_goals(tasks: Sequence[Task], indices: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the ``indices`` of the first ``count`` goals of every class, class by class."""
    classes: dict[str, list[tuple[int, int]]] = {}
    for index in indices:
        goal = int(tasks[index].name.rpartition("/")[2])
        classes.setdefault(tasks[index].class_name, []).append((goal, index))
    return tuple(index for goals in classes.values() for _, index in sorted(goals)[:count])


def scored(config: RunConfig) -> dict[Split, tuple[Task, ...]]:
    """Return the tasks a run scores, by split, ``test`` first."""
    dist = open_distribution(config.task_dist, config.env)
    return {
        split: tuple(dist.tasks(split)[index] for index in scored_tasks(dist, config, split))
        for split in scored_splits(config.evaluation)
    }
