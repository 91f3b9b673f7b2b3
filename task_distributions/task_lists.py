"""Fixed task lists, identical in every process and on every machine within one version."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from task_distributions.base import SPLITS, EnvSpec, Split, Task
from task_distributions.task_env import BatchedTaskEnv, LoopedEnvs, TaskEnv

__all__ = ["NUM_TASKS", "ListedTasks", "TaskLists", "draw_tasks", "resolve_horizon"]

TaskLists = Mapping[Split, tuple[Task, ...]]
NUM_TASKS: dict[Split, int] = {"train": 100, "validation": 30, "test": 30, "ood": 30}
"""Tasks per split of the distributions with continuous parameters (PEARL: 100 and 30)."""
Ranges = Mapping[str, tuple[float, float]]
"""Parameter -> bounds of its U[low, high)."""
_BRANCHES: dict[Split, int] = {"train": 0, "test": 1, "validation": 2, "ood": 3}
"""Branch of the seed tree of each list; a changed number would change the tasks."""


@dataclass(frozen=True)
class ListedTasks(ABC):
    """A task distribution with enumerated tasks. Subclasses supply ``_make_env``.

    They supply ``_make_batch`` too, where many environments can be stepped faster than one by one.
    """

    name: str
    version: int
    spec: EnvSpec
    task_lists: TaskLists = field(repr=False)
    shared_tasks: ClassVar[bool] = False
    """Whether the splits have tasks in common, as where a distribution has a few in all."""

    @property
    @abstractmethod
    def protocol(self) -> str:
        """One line for table captions."""

    def tasks(self, split: Split) -> tuple[Task, ...]:
        """Return the fixed list of tasks of one split.

        Raises:
            ValueError: there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose from: {', '.join(SPLITS)}")
        return self.task_lists.get(split, ())

    def make_env(self, task: Task, **options: Any) -> TaskEnv:
        """Return the ordinary Gymnasium environment of one task.

        Args:
            task: one of ``tasks(split)``.
            options: ``render_mode``, where the environment can be rendered.

        Raises:
            ValueError: the task belongs to another distribution or version.
        """
        self._check([task])
        return self._make_env(task, **options)

    def make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedTaskEnv:
        """Return the batched engine for the same MDPs.

        Raises:
            ValueError: a task belongs to another distribution or version, or there are none.
        """
        self._check(tasks)
        return self._make_batch(tasks, episodes_per_task)

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float | None:
        """Return the best mean return of any fixed behaviour over ``tasks``; None if unknown."""
        return None

    def _check(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            raise ValueError(f"no tasks given to {self.name}; pass at least one of .tasks(split)")
        for task in tasks:
            if (task.dist, task.version) != (self.name, self.version):
                raise ValueError(
                    f"task {task.name!r} belongs to {task.dist}@{task.version}, not to "
                    f"{self.name}@{self.version}; take tasks from load({self.name!r}).tasks(split)"
                )

    @abstractmethod  # implementations name the options they take
    def _make_env(self, task: Task, *args: Any, **options: Any) -> TaskEnv: ...

    def _make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedTaskEnv:
        envs = [self._make_env(task) for task in tasks for _ in range(episodes_per_task)]
        return LoopedEnvs(self.spec, envs, episodes_per_task)


def draw_tasks(
    dist: str, version: int, ranges: Ranges, outside: Sequence[Ranges] = ()
) -> TaskLists:
    """Return every list, each parameter drawn from its U[low, high) in ``ranges``.

    The draws depend on ``dist`` and ``version`` alone. Every parameter is stratified and shuffled
    on its own (a Latin hypercube): each of n tasks has 1/n of the range to itself. Thirty
    independent draws can leave a fifth of the range untested, and the non-adaptive return of one
    such test list was a third above its expectation.

    Args:
        dist: name of the distribution.
        version: of its definition.
        ranges: of the tasks of ``train``, ``validation`` and ``test``.
        outside: ranges of the ``ood`` tasks, an equal share of them from each; none if empty.
    """
    inside: Sequence[Ranges] = (ranges,)
    return {
        split: _drawn(dist, version, split, outside if split == "ood" else inside)
        for split in SPLITS
    }


def _drawn(dist: str, version: int, split: Split, boxes: Sequence[Ranges]) -> tuple[Task, ...]:
    """Return the tasks of one list, an equal share from each of ``boxes``."""
    # crc32, not hash(): Python salts hash() per process.
    sequence = np.random.SeedSequence([zlib.crc32(dist.encode()), version, _BRANCHES[split]])
    rng = np.random.Generator(np.random.PCG64(sequence))
    params: list[tuple[tuple[str, float], ...]] = []
    for box in boxes:
        count = NUM_TASKS[split] // len(boxes)
        columns = [
            low + (high - low) * (rng.permutation(count) + rng.random(count)) / count
            for low, high in box.values()
        ]
        params += [
            tuple((key, float(value)) for key, value in zip(box, values, strict=True))
            for values in zip(*columns, strict=True)
        ]
    return tuple(
        Task(dist, version, split, index, f"{split}/{index}", values)
        for index, values in enumerate(params)
    )


def resolve_horizon(horizon: int | None, default: int) -> int:
    """Return ``horizon``, or ``default`` if it is None.

    Raises:
        ValueError: the horizon is below 1.
    """
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon must be at least 1 control step, got {horizon}")
    return default if horizon is None else horizon
