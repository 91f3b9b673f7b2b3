"""The multi-agent demo runs and prints a line per agent."""

import runpy
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples/multi_agent_demo.py"


def test_both_modes_give_the_same_returns(capsys):
    main = runpy.run_path(str(DEMO))["main"]
    threads = main(["--episodes", "3"])
    shown = capsys.readouterr().out
    assert list(threads) == ["ssm / maml", "gru / adapter", "lstm / maml", "transformer / adapter"]
    assert all(len(each) == 3 and max(each) < 0 for each in threads.values())
    assert all(agent_id in shown for agent_id in threads)
    assert main(["--episodes", "3", "--mode", "sequence"]) == threads


def test_it_runs_on_a_mujoco_task():
    main = runpy.run_path(str(DEMO))["main"]
    returns = main(
        ["--task-dist", "halfcheetah-vel", "--policies", "ssm", "gru", "--episodes", "2"]
    )
    assert all(-700 < value < 0 for each in returns.values() for value in each)
