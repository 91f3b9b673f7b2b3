"""From a run's configuration to each learner's own settings and budget."""

import dataclasses
import subprocess
import sys

import pytest

from harness.config.schema import AdaptConfig, EnvConfig, PPOConfig, RunConfig, TrainConfig
from harness.execution.cell import CellRunner
from harness.execution.cell_setup import build_setup
from harness.execution.local import LocalBackend
from harness.meta import learners
from harness.meta.cell_setup import Budget
from harness.types import Cell


def setup_of(learner, steps=1, **ppo):
    config = RunConfig(
        task_dist="point_goal",
        train=TrainConfig(epochs=6, meta_batch_size=4, episodes_per_task=3, max_skipped=7),
        ppo=PPOConfig(**{"ppo_episodes": 24, "ppo_tasks": 4, **ppo}),
        adapt=AdaptConfig(adaptation_steps=steps),
    )
    return build_setup(Cell("point_goal", "mlp", learner, 0), config)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", learners.names())
def test_every_learner_plans_as_many_episodes(name, steps):
    """PPO in more and smaller iterations; what does not train none."""
    setup = setup_of(name, steps)
    per_iteration = learners.build(setup).episodes_per_iteration
    planned = setup.budget.meta_iterations * per_iteration
    assert planned == (6 * 4 * 3 * (1 + steps) if learners.spec(name).trains else 0)


@pytest.mark.parametrize("name", learners.names())
def test_settings_are_of_the_learners_own_class_and_not_just_defaults(name):
    setup = setup_of(name)
    assert type(setup.settings) is learners.spec(name).settings
    assert setup.settings.max_skipped == 7
    assert setup.adapter == learners.spec(name).adapter
    assert dataclasses.replace(setup.settings) == setup.settings


def test_training_ends_with_the_iteration_that_reaches_its_steps():
    config = RunConfig(
        env=EnvConfig(horizon=5), train=TrainConfig(meta_batch_size=2, episodes_per_task=2)
    )
    cell = Cell("point_goal", "mlp", "maml", 0)
    setup, backend = build_setup(cell, config), LocalBackend(config)
    per_iteration = 2 * 2 * 2 * 5
    setup = dataclasses.replace(setup, budget=Budget(env_steps=2 * per_iteration + 1))
    runner, learner = CellRunner(setup, config, backend), backend.start_learner(cell, None)
    first = next(iter(runner.train(learner, 0, 0.0)))
    rest = list(runner.train(learner, 1, first.wall_seconds, first.env_steps))
    steps = [metrics.env_steps for metrics in (first, *rest)]
    assert steps == [per_iteration, 2 * per_iteration, 3 * per_iteration]


def test_names_are_listed_without_torch():
    code = (
        "import sys; from harness.meta import adapters, learners;"
        "assert adapters.names() and learners.names(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
