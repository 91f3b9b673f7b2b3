"""What the plan of a run says of its cells."""

import pytest

from harness.cli.parser import load_config
from harness.config.sweep_file import planned_cells
from harness.errors import UsageError
from harness.experiments.planning import extended, plan, trained_longer


def test_a_plan_says_which_policies_observe_the_task():
    argv = ["--task-dist", "point_goal", "--policy", "gru", "--learner", "told=oracle", "rl2"]
    cells = plan(planned_cells(load_config(argv), {}), ["harness.run"], {}, {}).cells
    assert {cell.learner: cell.observes_task for cell in cells.values()} == {
        "told": True,
        "rl2": False,
    }


def cells(learner, iterations=3, *words):
    chosen = ["--task-dist", "point_goal", "--policy", "mlp", "--learner", learner]
    config = load_config([*chosen, "--epochs", str(iterations), *words])
    return planned_cells(config, {})


@pytest.mark.parametrize(
    ("learner", "iterations", "problem"),
    [
        ("maml", 2, "already"),
        ("multitask", 4, "step size falls"),
        ("scratch", 4, "nothing in this run trains"),
    ],
)
def test_training_that_cannot_go_on_is_refused(learner, iterations, problem):
    stored = plan(cells(learner), (), {}, {})
    with pytest.raises(UsageError, match=problem):
        trained_longer(stored, extended(cells(learner), (), {"meta_iterations": iterations}))


def test_only_a_larger_budget_counts_as_longer_training():
    stored = plan(cells("maml"), (), {}, {})
    (key,) = stored.cells
    assert trained_longer(stored, cells("maml", 4)) == [key]
    assert trained_longer(stored, cells("maml", 3)) == []
    assert trained_longer(stored, cells("maml", 4, "--no-normalize-obs")) == []


def test_a_cell_gets_the_seeds_that_it_lacks():
    both = cells("maml", 3, "--seeds", "0", "2")
    assert [cell.cell.seed for cell in extended(both, (2, 5, 0, 5), {})] == [0, 2, 5]
    assert extended(both, (0,), {}) == both
