"""What the plan of a run says of its cells."""

from harness.cli.parser import load_config
from harness.config.sweep_file import planned_cells
from harness.experiments.planning import plan


def test_a_plan_says_which_policies_observe_the_task():
    argv = ["--task-dist", "point_goal", "--policy", "gru", "--learner", "told=oracle", "rl2"]
    cells = plan(planned_cells(load_config(argv), {}), ["harness.run"], {}, {}).cells
    assert {cell.learner: cell.observes_task for cell in cells.values()} == {
        "told": True,
        "rl2": False,
    }
