"""The smallest sweeps that do everything, and what stands in their folders."""

from pathlib import Path

import pandas as pd

from harness.cli import sweep
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records
from tests.harness.execution.execution_cases import VARIABLE

SETTINGS = """
base:
  task_dist: point_goal
  env: {horizon: 8, test_tasks: [0, 1, 2, 3, 4]}
  train: {meta_batch_size: 4, episodes_per_task: 2, outer_steps: 2, epochs: %d}
  evaluation: {few_shot: [1], episodes_per_shot: 2, query_episodes: 2}
  execution: {checkpoint_every: 1}
"""


def play_on_ray(text, *argv, workers=0, name="x"):
    """Play a sweep as the command line does, on the Ray that is there."""
    Path("x.yaml").write_text(f"{text}\ntune: {{workers_per_cell: {workers}}}\n")
    return sweep.main(["x.yaml", "--name", name, *argv])


def swept(name="x"):
    """The records of all cells of a sweep, as the records of a run."""
    frames = [read_records(path) for path in sorted(Path(f"results/{name}/cells").iterdir())]
    keys = ["cell", "split", "task", "shots", "query_episode"]
    return pd.concat(frames).drop(columns=VARIABLE).sort_values(keys, ignore_index=True)


def states(name="x"):
    """What the manifest of every cell says became of it, by key."""
    found = {}
    for path in Path(f"results/{name}/cells").iterdir():
        (state,) = Manifest.load(path / "manifest.json").cells.values()
        found[path.name] = state
    return found
