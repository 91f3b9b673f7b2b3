"""Does it learn: maml adapts to goals it never saw, and its control does not."""

import numpy as np
import pytest

from harness.config import AdaptConfig, EnvConfig, EvalConfig, RunConfig, TrainConfig
from harness.execution.cell import CellRunner
from harness.execution.local import LocalBackend
from harness.meta.problem import Problem
from harness.types import Cell


def returns_by_shots(learner: str, epochs: int) -> dict[int, float]:
    """Train on point_goal, score on ten test goals; mean return by number of shots."""
    config = RunConfig(
        task_dist="point_goal",
        policy=("mlp",),
        learner=(learner,),
        envs_per_job=1000,
        env=EnvConfig(test_tasks=tuple(range(10))),
        train=TrainConfig(
            epochs=epochs,
            meta_batch_size=10,
            episodes_per_task=10,
            action_scale=1.0,
            outer_lr=3e-3,
            init_std=0.5,
        ),
        adapt=AdaptConfig(inner_lr=0.3),
        evaluation=EvalConfig(few_shot=(1,), episodes_per_shot=10, query_episodes=2),
    )
    problem = Problem.build(Cell("point_goal", "mlp", learner, 0), config)
    backend = LocalBackend(config)
    runner, host = CellRunner(problem, backend), backend.start_learner(problem.cell, None)
    iterations = [metrics.iteration for metrics in runner.train(host, 0, 0.0)]
    assert iterations == list(range(1, epochs + 1))
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
def test_multitask_gains_nothing_from_shots():
    trained = returns_by_shots("multitask", 3)
    assert trained[1] == trained[0]
