"""From a run's configuration to each learner's own settings and budget."""

import subprocess
import sys

import pytest

from harness.config import precedence
from harness.config.components import fields
from harness.execution.cell_setup import build_setup, planned_iterations
from harness.meta import learners

SETTINGS = {
    "meta_batch_size": 4,
    "episodes_per_task": 3,
    "episodes_per_iteration": 24,
    "tasks_per_iteration": 4,
    "max_skipped": 7,
}
"""Given to every learner that has them."""


def config_of(learner, train, **settings):
    known = fields(learners.spec(learner).settings)
    given = {key: value for key, value in (SETTINGS | settings).items() if key in known}
    return precedence.resolve(
        {
            "task_dist": "point_goal",
            "policy": {"mlp": {}},
            "learner": {learner: given},
            "train": train,
        }
    )


def setup_of(learner, train, **settings):
    config = config_of(learner, train, **settings)
    (cell,) = config.cells
    return build_setup(cell, config), planned_iterations(cell, config)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", learners.names())
def test_a_budget_in_environment_steps_is_the_same_for_every_learner(name, steps):
    """PPO takes more and smaller iterations; learners that do not train take none."""
    budget = 10_000
    setup, planned = setup_of(name, {"env_steps": budget}, adaptation_steps=steps)
    per_iteration = learners.build(setup).episodes_per_iteration * setup.dist.spec.horizon
    assert setup.budget.exhausted(planned, planned * per_iteration)
    if learners.spec(name).trains:
        assert budget <= planned * per_iteration < budget + per_iteration
        assert not setup.budget.exhausted(planned - 1, (planned - 1) * per_iteration)
    else:
        assert planned == 0


@pytest.mark.parametrize("name", learners.names())
def test_a_budget_in_iterations_is_in_those_of_each_learner(name):
    setup, planned = setup_of(name, {"meta_iterations": 6})
    assert planned == setup.budget.meta_iterations == (6 if setup.learner.trains else 0)


@pytest.mark.parametrize("name", learners.names())
def test_settings_are_of_the_learners_own_class_and_not_just_defaults(name):
    setup, _ = setup_of(name, {"meta_iterations": 6})
    assert type(setup.settings) is learners.spec(name).settings
    assert setup.settings.max_skipped == 7
    assert setup.adapter == learners.spec(name).adapter


def test_names_are_listed_without_torch():
    code = (
        "import sys; from harness.meta import adapters, learners;"
        "assert adapters.names() and learners.names(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
