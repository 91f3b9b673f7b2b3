"""The smallest published run with trained policies: one adapts by gradient, one by memory."""

from pathlib import Path

import harness
from harness.experiments.publishing import publish

SETTINGS = {
    "horizon": 6,
    "test_tasks": (0, 2, 3),
    "envs_per_job": 4,
    "few_shot": (1, 2),
    "episodes_per_shot": 3,
    "query_episodes": 2,
    "backend": "local",
    "tensorboard": False,
}


def publish_run(folder: Path, name: str = "tiny", seed: tuple[int, ...] = (4, 2)) -> Path:
    """Train below ``folder`` and publish to ``folder/published``; return the published folder."""
    learner = {
        "maml": {"meta_batch_size": 2, "episodes_per_task": 2, "outer_updates": 1},
        "rl2": {"episodes_per_iteration": 4},
    }
    where = {"storage": folder / "runs", "name": name}
    run = harness.train(
        "point_goal",
        policy="gru",
        learner=learner,
        seed=seed,
        meta_iterations=1,
        **where,
        **SETTINGS,
    )
    return publish(run.path, name, folder / "published").path
