"""The examples that train on vector environments with other people's code, at tiny budgets."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import PPO

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _run(folder: Path, *argv: object) -> str:
    command = [sys.executable, *map(str, argv)]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", ["ppo.py", "torchrl_ppo.py"])
def test_ppo_approaches_one_goal(tmp_path, script):
    goal = ("--env", "task_distributions:MetaRL/point_goal-v1", "--task", 0)
    budget = ("--steps", 20_000, "--length", 50, "--epochs", 5)
    shown = _run(tmp_path, ROOT / "examples" / script, *goal, *budget)
    returns = [float(value) for value in re.findall(r"return (-?[\d.]+)", shown)]
    assert len(returns) == 8
    assert returns[-1] > returns[0] + 5


def test_ppo_takes_the_history(tmp_path):
    goal = ("--env", "task_distributions:MetaRL/point_goal-v1", "--history")
    shown = _run(tmp_path, ROOT / "examples/ppo.py", *goal, "--steps", 2500, "--length", 50)
    assert len(re.findall("return", shown)) == 1


def test_a_model_of_sb3_is_trained_on_ant_vel_and_scored(tmp_path):
    model = tmp_path / "ppo_ant_vel.zip"
    budget = ("--steps", 1000, "--num-envs", 5, "--n-steps", 100)
    _run(tmp_path, ROOT / "examples/sb3_ppo.py", *budget, "--out", model)
    trained = PPO.load(model, device="cpu")
    assert (trained.num_timesteps, trained.observation_space.shape) == (1000, (27,))
    protocol = ("--few-shot", 1, "--episodes-per-shot", 1, "--query-episodes", 1)
    where = ("--test-tasks", 0, 1, "--backend", "local", "--storage", tmp_path, "--name", "scored")
    _run(tmp_path, "-m", "harness.score", model, "--task-dist", "ant-vel", *protocol, *where)
    assert "ppo_ant_vel" in (tmp_path / "scored/table.md").read_text()
