"""Does it learn: maml adapts to goals it never saw, and its control does not."""

import numpy as np
import pytest

import task_distributions
from harness.config import precedence
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.types import Cell

EPISODES, HORIZON = 200, 25
"""Of one iteration of maml: 10 tasks, 10 episodes before and 10 after adaptation."""


def returns_by_shots(learner: str, iterations: int, policy: str = "mlp") -> dict[int, float]:
    """Train on point_goal, score on ten test goals; mean return by number of shots."""
    maml = {
        "meta_batch_size": 10,
        "episodes_per_task": 10,
        "action_scale": 1.0,
        "learning_rate": 3e-3,
        "init_std": 0.5,
        "inner_lr": 0.3,
    }
    config = precedence.resolve(
        {
            "task_dist": "point_goal",
            "policy": [policy],
            "learner": {learner: maml if learner == "maml" else {}},
            "envs_per_job": 1000,
            "min_jobs": 1,
            "test_tasks": list(range(10)),
            "train": {"env_steps": iterations * EPISODES * HORIZON}
            if iterations
            else {"meta_iterations": 0},
            "evaluation": {"few_shot": [1], "episodes_per_shot": 10, "query_episodes": 2},
        }
    )
    setup = build_setup(Cell("point_goal", policy, learner, 0), config)
    backend = LocalBackend(config)
    runner, host = CellRunner(setup, config, backend), backend.start_learner(setup.cell, None)
    steps = [metrics.env_steps for metrics in runner.train(host, 0, 0.0)]
    assert steps[-1:] == [iterations * EPISODES * HORIZON][: len(steps)]
    records = runner.evaluate(host, lambda done, count: None)
    assert len(records) == 2 * 10 * 2
    return {
        shots: float(np.mean([row.return_ for row in records if row.shots == shots]))
        for shots in (0, 1)
    }


@pytest.mark.slow
def test_maml_learns_to_adapt_in_one_shot():
    """One shot gains about 16 after training, and 5 to 6 before: a gradient is worth something."""
    untrained, trained = returns_by_shots("maml", 0), returns_by_shots("maml", 15)
    assert trained[1] - trained[0] > 10
    assert trained[1] - trained[0] > untrained[1] - untrained[0] + 5
    assert trained[1] > untrained[1] + 5


@pytest.mark.slow
def test_memory_adapts_and_its_controls_bound_it():
    """On as many steps: what cannot adapt, below what remembers, below what is told."""
    dist = task_distributions.load("point_goal")
    non_adaptive = dist.non_adaptive_return(dist.tasks("test")[:10])
    scores = {name: returns_by_shots(name, 20, "gru") for name in ("multitask", "rl2", "oracle")}
    assert scores["multitask"][1] == scores["multitask"][0] < non_adaptive + 2
    assert scores["rl2"][1] > scores["rl2"][0] + 1.5
    assert scores["rl2"][1] > non_adaptive + 8
    assert scores["oracle"][0] > scores["rl2"][1] + 1
