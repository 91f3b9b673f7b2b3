"""The smallest sweeps that do everything."""

from pathlib import Path

from harness.cli import sweep

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
