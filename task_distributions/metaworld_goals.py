"""Meta-World's task lists for its seed 42, as numbers: drawing them builds every environment.

``python -m task_distributions.metaworld_goals`` draws them anew with the installed metaworld (45 s)
and rewrites ``data/metaworld_goals.npz``; a test compares the file with metaworld.
"""

from __future__ import annotations

import functools
import pickle
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from task_distributions.base import SPLITS, Split, Task

__all__ = ["GOALS_PER_CLASS", "SEED", "SUPPORTED", "draw", "installed_version", "task_lists"]

SEED = 42
"""The seed that metaworld draws its goals from."""
GOALS_PER_CLASS = 50
SUPPORTED = "3.1."
"""Versions of metaworld whose lists and environments these are."""
_FILE = Path(__file__).parent / "data" / "metaworld_goals.npz"


def installed_version() -> str:
    """Return metaworld's version.

    Raises:
        RuntimeError: it is not one whose tasks and environments are known here.
    """
    installed = version("metaworld")
    if not installed.startswith(SUPPORTED):
        raise RuntimeError(
            f"metaworld {installed} is installed, but the task lists and the engine are those of "
            f"metaworld {SUPPORTED}x; install 'metaworld>=3.1.1,<3.2'"
        )
    return installed


@functools.cache
def _vectors(benchmark: str) -> dict[str, NDArray[np.float64]]:
    """Return ``<split>/<class>`` -> random vectors [50, R] of one benchmark, in its order."""
    with np.load(_FILE, allow_pickle=False) as file:
        prefix = f"{benchmark}/"
        return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}


def task_lists(dist: str, number: int, benchmark: str) -> dict[Split, tuple[Task, ...]]:
    """Return the tasks of ``benchmark`` (``ml10``, ``ml45``) under the name and version given.

    Args:
        dist: registry name the tasks carry.
        number: version the tasks carry.
        benchmark: which of metaworld's lists.
    """
    lists: dict[Split, list[Task]] = {split: [] for split in SPLITS}
    for key, vectors in _vectors(benchmark).items():
        split: Split = "train" if key.startswith("train/") else "test"
        name = key.partition("/")[2]
        for goal, vector in enumerate(vectors.tolist()):
            params = tuple((f"rand_{i}", value) for i, value in enumerate(vector))
            index = len(lists[split])
            lists[split].append(Task(dist, number, split, index, f"{name}/{goal}", params))
    return {split: tuple(tasks) for split, tasks in lists.items()}


def draw() -> dict[str, NDArray[np.float64]]:
    """Return ``<benchmark>/<split>/<class>`` -> random vectors [50, R], from metaworld itself."""
    import metaworld

    drawn: dict[str, list[NDArray[np.float64]]] = {}
    for benchmark in ("ML10", "ML45"):
        lists = getattr(metaworld, benchmark)(seed=SEED)
        for split in SPLITS:
            for task in getattr(lists, f"{split}_tasks"):
                content = pickle.loads(task.data)  # metaworld's own, made a moment ago
                key = f"{benchmark.lower()}/{split}/{task.env_name}"
                drawn.setdefault(key, []).append(content["rand_vec"])
    return {key: np.array(vectors, np.float64) for key, vectors in drawn.items()}


if __name__ == "__main__":
    installed_version()
    np.savez_compressed(_FILE, **draw())  # type: ignore[arg-type]
