"""Meta-World's task lists, stored as numbers because drawing them is slow.

Training and test tasks are those of metaworld's seed 42, which its benchmarks use. Seed 43 gives
other goals of the same classes: those of the training classes are the ``validation`` tasks, those
of the test classes the ``ood`` tasks.

Metaworld builds every environment to draw its goals. ``python -m
task_distributions.metaworld.goals`` draws them with the installed version (90 s) and rewrites
``data/metaworld_goals.npz``; a test compares the file with metaworld.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from task_distributions.base import SPLITS, FloatArray, Split, Task
from task_distributions.task_lists import TaskLists

__all__ = ["SEED", "SUPPORTED", "draw_goals", "installed_version", "read_task_lists"]

SEED = 42
"""Seed from which metaworld draws the goals of its benchmarks."""
SOURCES: dict[Split, tuple[int, str]] = {
    "train": (SEED, "train_tasks"),
    "test": (SEED, "test_tasks"),
    "validation": (SEED + 1, "train_tasks"),
    "ood": (SEED + 1, "test_tasks"),
}
"""Split -> metaworld's seed, and its name of the list."""
SUPPORTED = "3.1."
"""Prefix of the metaworld versions with these lists and environments."""
_FILE = Path(__file__).parents[1] / "data" / "metaworld_goals.npz"


def installed_version() -> str:
    """Return metaworld's version.

    Raises:
        ImportError: metaworld is not installed, or in a version that is not supported.
    """
    try:
        installed = metadata.version("metaworld")
    except metadata.PackageNotFoundError as error:
        raise ImportError(
            "metaworld is not installed: pip install -c constraints.txt -e '.[metaworld]'"
        ) from error
    if not installed.startswith(SUPPORTED):
        raise ImportError(
            f"metaworld {installed} is installed, but the task lists and the engine are made for "
            f"metaworld {SUPPORTED}x; install 'metaworld>=3.1.1,<3.2'"
        )
    return installed


@functools.cache
def _vectors(benchmark: str) -> dict[str, FloatArray]:
    """Return ``<split>/<class>`` -> random vectors [50, R] of one benchmark, in its order."""
    with np.load(_FILE, allow_pickle=False) as file:
        prefix = f"{benchmark}/"
        return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}


def read_task_lists(dist: str, version: int, benchmark: str) -> TaskLists:
    """Return the tasks of ``benchmark`` (``ml10``, ``ml45``) as tasks of ``dist@version``."""
    lists: dict[Split, list[Task]] = {split: [] for split in SPLITS}
    for key, vectors in _vectors(benchmark).items():
        prefix, _, name = key.partition("/")
        split = next(split for split in SPLITS if split == prefix)
        first = len(vectors) * (SOURCES[split][0] - SEED)  # seed 43 goes on where 42 ends
        for goal, vector in enumerate(vectors.tolist(), first):
            params = tuple((f"rand_{i}", value) for i, value in enumerate(vector))
            index = len(lists[split])
            lists[split].append(Task(dist, version, split, index, f"{name}/{goal}", params))
    return {split: tuple(tasks) for split, tasks in lists.items()}


def draw_goals(benchmarks: Sequence[str] = ("ML10", "ML45")) -> dict[str, FloatArray]:
    """Return ``<benchmark>/<split>/<class>`` -> random vectors [50, R], from metaworld itself."""
    import metaworld

    drawn: dict[str, list[FloatArray]] = {}
    for benchmark in benchmarks:
        seeds = {seed for seed, _ in SOURCES.values()}
        lists = {seed: getattr(metaworld, benchmark)(seed=seed) for seed in seeds}
        for split, (seed, attribute) in SOURCES.items():
            for task in getattr(lists[seed], attribute):
                content = pickle.loads(task.data)  # created by metaworld just now
                key = f"{benchmark.lower()}/{split}/{task.env_name}"
                drawn.setdefault(key, []).append(content["rand_vec"])
    return {key: np.array(vectors, np.float64) for key, vectors in drawn.items()}


if __name__ == "__main__":
    installed_version()
    np.savez_compressed(_FILE, **draw_goals())  # type: ignore[arg-type]
