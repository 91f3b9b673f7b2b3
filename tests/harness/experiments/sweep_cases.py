"""The smallest sweeps that do everything."""

from pathlib import Path

from harness.cli import sweep
from harness.config.components import fields
from harness.meta import learners
from tests.harness.execution.execution_cases import LEARNER_SIZES

BASE = """
base:
  task_dist: point_goal
  env: {horizon: 8}
  test_tasks: [0, 1, 2, 3, 4]
  train: {meta_iterations: %d}
  evaluation: {few_shot: [1], episodes_per_shot: 2, query_episodes: 2}
  execution: {checkpoint_every: 1}
  policy: {mlp: {}}
  learner:
"""


def settings(iterations, *chosen):
    """The section ``base`` of the smallest sweep with these learners, sized as ``sizes`` does."""
    lines = []
    for learner in chosen or ("maml",):
        known = fields(learners.spec(learner).settings)
        own = ", ".join(f"{name}: {n}" for name, n in LEARNER_SIZES.items() if name in known)
        lines.append(f"    {learner}: {{{own}}}\n")
    return BASE % iterations + "".join(lines)


def play_on_ray(text, *argv, workers=0, name="x"):
    """Play a sweep as the command line does, on the Ray that is there."""
    Path("x.yaml").write_text(f"{text}\ntune: {{workers_per_cell: {workers}}}\n")
    return sweep.main(["x.yaml", "--name", name, *argv])
