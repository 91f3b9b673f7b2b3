"""Fixed task lists: the same in every process, on every machine, for ever within one version."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from task_distributions.base import SPLITS, Split, Task

__all__ = ["NUM_TASKS", "check_horizon", "check_own", "check_split", "draw_many", "draw_tasks"]

NUM_TASKS: dict[Split, int] = {"train": 100, "test": 30}
"""Tasks per split of the distributions with a continuous parameter (PEARL's split)."""


def draw_tasks(
    dist: str, version: int, parameter: str, low: float, high: float
) -> dict[Split, tuple[Task, ...]]:
    """Return both lists, the parameter drawn from U[low, high) by ``dist`` and ``version`` alone.

    Stratified: each of n tasks has 1/n of the range to itself, in shuffled order. Thirty
    independent draws can leave a fifth of the range untested, and the non-adaptive return of one
    such test list was a third above its expectation.
    """
    return draw_many(dist, version, {parameter: (low, high)})


def draw_many(
    dist: str, version: int, ranges: Mapping[str, tuple[float, float]]
) -> dict[Split, tuple[Task, ...]]:
    """Return both lists with several parameters, each as ``draw_tasks`` draws one.

    Every parameter is stratified and shuffled on its own (a Latin hypercube).
    """
    lists: dict[Split, tuple[Task, ...]] = {}
    for number, split in enumerate(SPLITS):
        # crc32, not hash(): Python salts hash() per process.
        sequence = np.random.SeedSequence([zlib.crc32(dist.encode()), version, number])
        rng, count = np.random.Generator(np.random.PCG64(sequence)), NUM_TASKS[split]
        columns = [
            low + (high - low) * (rng.permutation(count) + rng.random(count)) / count
            for low, high in ranges.values()
        ]
        lists[split] = tuple(
            Task(
                dist,
                version,
                split,
                index,
                f"{split}/{index}",
                tuple((key, float(value)) for key, value in zip(ranges, values, strict=True)),
            )
            for index, values in enumerate(zip(*columns, strict=True))
        )
    return lists


def check_own(dist: str, version: int, tasks: Sequence[Task]) -> None:
    """Refuse tasks that another distribution, or another version of this one, made.

    Raises:
        ValueError: one of ``tasks`` is not of ``dist`` at ``version``, or there are none.
    """
    if not tasks:
        raise ValueError(f"no tasks given to {dist}; pass at least one of .tasks(split)")
    for task in tasks:
        if (task.dist, task.version) != (dist, version):
            raise ValueError(
                f"task {task.name!r} is of {task.dist}@{task.version}, not of {dist}@{version}; "
                f"take tasks from load({dist!r}).tasks(split)"
            )


def check_split(split: str) -> None:
    """Raise a ``ValueError`` unless ``split`` is one of ``SPLITS``."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; have: {', '.join(SPLITS)}")


def check_horizon(horizon: int | None, default: int) -> int:
    """Return ``horizon``, or ``default`` if None; raise a ``ValueError`` below 1."""
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon must be at least 1 control step, got {horizon}")
    return default if horizon is None else horizon
