"""The harness as a library: settings in, data frames, figures and policies out."""

import io
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.console import notebook
from harness.console.display import ProgressListener
from harness.console.progress_state import CellProgress, RunProgress
from harness.errors import CellsFailedError, ExitCode, UsageError
from policies.modules import PolicyModule

SMALL = {
    "horizon": 6,
    "test_tasks": range(0, 4, 3),
    "few_shot": 1,
    "episodes_per_shot": 3,
    "query_episodes": 2,
    "backend": "local",
    "tensorboard": False,
}
TRAINING = {
    "meta_iterations": 2,
    "learner": {
        "maml": {"meta_batch_size": 2, "episodes_per_task": 2, "outer_updates": 1},
        "rl2": {"episodes_per_iteration": 8},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, no_figures):
    """A run whose every task is a job of its own, as an agent would play it."""
    storage = tmp_path_factory.mktemp("results")
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        found = harness.train(
            "point_goal",
            policy=("gru", "wide=mlp"),
            seed=3,
            envs_per_job=1,
            storage=storage,
            name="mine",
            **TRAINING,
            **SMALL,
        )
        printed = sys.stdout.getvalue() + sys.stderr.getvalue()
    finally:
        sys.stdout, sys.stderr = out, err
    assert printed == ""
    return found


def test_importing_it_imports_neither_torch_nor_ray():
    code = "import sys, harness; print(sorted({'torch', 'ray', 'pandas'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert set(harness.__all__) <= set(dir(harness))
    with pytest.raises(AttributeError):
        harness.nothing  # noqa: B018


def test_the_functions_are_not_hidden_by_the_commands_of_the_same_name():
    from harness.cli import main

    main.importlib.import_module(main.COMMANDS["score"])
    assert isinstance(harness.score, types.FunctionType)
    assert isinstance(harness.compare, types.FunctionType)


def test_a_run_is_data_frames(run):
    assert len(run.cells) == 4
    assert set(run.cells.status) == {"ok"}
    assert set(run.records.policy) == {"gru", "wide", "random-action", "zero-action"}
    curves = run.curves
    assert sorted(set(curves.policy + curves.learner)) == [
        "grumaml",
        "grurl2",
        "widemaml",
        "widerl2",
    ]
    assert (curves.groupby("cell").size() == 2).all()
    table = run.table()
    assert {"return_0", "return_1", "gain_1"} <= set(table.columns)
    assert harness.load_run(run.path).table().equals(table)
    assert "gru" in run._repr_html_()
    with pytest.raises(UsageError, match="test"):
        run.table("train")
    with pytest.raises(UsageError, match="point_goal"):
        run.table(name="ant-dir")


def test_a_run_is_figures(run):
    figure = run.figure("learning_curves")
    assert figure.axes
    assert run.figure().axes
    with pytest.raises(UsageError, match="adaptation_curve"):
        run.figure("nothing")


def test_a_loaded_policys_returns_are_the_records(run):
    records = run.records
    for learner in ("maml", "rl2"):
        policy = run.policy(f"point_goal.gru.{learner}.s3")
        assert policy.adaptation == {"maml": "adapt", "rl2": "memory"}[learner]
        for index in (0, 3):
            task = policy.dist.tasks("test")[index]
            played = policy.play(task, policy.query_seeds(task, 2))
            mine = records[(records.policy == "gru") & (records.learner == learner)]
            mine = mine[(mine.shots == 0) & (mine.task_index == index)]
            returns = np.float32(mine.sort_values("query_episode").return_)
            np.testing.assert_array_equal(played.returns, returns)


def test_a_loaded_policy_plays_in_an_ordinary_environment(run):
    policy = run.policy("point_goal.gru.rl2.s3")
    env = harness.make("point_goal", split="test", task=3, max_episode_steps=6)
    task = policy.dist.tasks("test")[3]
    (seed,) = policy.query_seeds(task, 1)
    obs, _ = env.reset(seed=seed)
    policy.reset()
    total, over = 0.0, False
    while not over:
        action = policy.act(obs)
        after, reward, terminated, truncated, _ = env.step(action)
        policy.observe(obs, action, reward, terminated, truncated)
        obs, over, total = after, terminated or truncated, total + float(reward)
    assert total == pytest.approx(policy.play(task, [seed]).returns[0], rel=1e-5)


def test_a_shot_adapts_and_reset_forgets(run):
    policy = run.policy("point_goal.wide.maml.s3")
    task = policy.dist.tasks("test")[0]
    before = policy.play(task, [1, 2])
    for seeds in ([3, 4, 5], [6, 7, 8]):
        policy.adapt(policy.play(task, seeds, query=False))
    after = policy.play(task, [1, 2])
    assert not np.array_equal(before.actions, after.actions)
    policy.reset()
    np.testing.assert_array_equal(policy.play(task, [1, 2]).actions, before.actions)
    with pytest.raises(Exception, match="query=False"):
        policy.adapt(before)


def test_a_module_refers_to_what_loads_a_checkpoint(run):
    path = run.checkpoints["point_goal.gru.maml.s3"]
    assert harness.load_policy(path).cell == run.policy("point_goal.gru.maml.s3").cell
    with pytest.raises(ValueError, match="load_policy"):
        PolicyModule.load(path)


def test_a_checkpoint_is_scored_again(run, tmp_path):
    policy = run.policy("point_goal.gru.maml.s3")
    again = harness.evaluate(policy, storage=tmp_path, name="again", backend="local")
    keys = ["task", "shots", "query_episode"]
    mine = run.records[run.records.cell == "point_goal.gru.maml.s3"]
    left, right = (
        frame[frame.learner == "maml"].set_index(keys).return_.sort_index()
        for frame in (mine, again.records)
    )
    pd.testing.assert_series_equal(left, right, check_exact=True)


class Still:
    """An agent of the test."""

    def act(self, obs):
        return np.zeros((len(obs), 2))


def test_agents_are_classes_objects_names_and_policies(run, tmp_path):
    class Local(Still):
        pass

    agents = {
        "class": Still,
        "local": Local,
        "object": Still(),
        "name": "constant",
        "set": {"kind": "constant", "value": 0.5},
        "ours": run.policy("point_goal.gru.rl2.s3"),
    }
    found = harness.score(agents, "point_goal", seed=3, storage=tmp_path, name="x", **SMALL)
    frame = found.records[lambda f: f.learner == "agent"]
    returns = frame.groupby("policy").return_.apply(tuple)
    assert returns["class"] == returns["local"] == returns["object"] == returns["name"]
    assert returns["set"] != returns["name"]
    assert set(frame[frame.policy == "ours"].adapter) == {"memory"}
    zero = run.records[lambda f: (f.policy == "gru") & (f.learner == "rl2") & (f.shots == 0)]
    mine = frame[(frame.policy == "ours") & (frame.shots == 0)]
    assert tuple(mine.return_) == tuple(zero.return_)
    assert found.manifest.cells["point_goal.local.agent.s3"].config["agent"]["local"]["of"]


def test_what_fails_is_an_exception_with_a_code_and_the_rest(tmp_path):
    class Broken(Still):
        def act(self, obs):
            raise RuntimeError("broken")

    agents = {"broken": Broken, "still": Still}
    with pytest.raises(CellsFailedError, match="broken") as raised:
        harness.score(agents, "point_goal", storage=tmp_path, name="x", **SMALL)
    assert raised.value.code == ExitCode.CELLS_FAILED
    found = raised.value.run
    assert set(found.failures) == {"point_goal.broken.agent.s0"}
    assert "still" in set(found.records.policy)


def test_bad_input_names_the_setting():
    for settings, name in (
        ({"policy": "gur"}, "policy"),
        ({"polizy": "gru"}, "polizy"),
        ({"env_steps": -1}, "env_steps"),
        ({"horizon": 0}, "horizon"),
        ({"backend": "cloud"}, "backend"),
    ):
        with pytest.raises(UsageError, match=f"^{name}: ") as raised:
            harness.train("point_goal", **settings)
        assert raised.value.code == ExitCode.BAD_INPUT
    with pytest.raises(UsageError, match="point_gaol"):
        harness.train("point_gaol")
    with pytest.raises(UsageError):
        harness.load_run("nowhere")


def test_environments_are_made_by_name():
    assert harness.make("point_goal", task=2).unwrapped.task.index == 2
    env = harness.make_vec("cartpole", 3, split="train", tasks=[0, 1])
    assert env.num_envs == 3
    assert [task.index for task in env.tasks] == [0, 1, 0]


def test_names_are_registered(tmp_path, monkeypatch):
    from harness import agents

    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import numpy as np\n\nclass Mine:\n    def act(self, obs):\n"
        "        return np.ones((len(obs), 2))\n"
    )
    before = dict(agents.REGISTRY)
    try:
        harness.register("agent", "mine", "mine.py:Mine")
        found = harness.score("mine", "point_goal", storage=tmp_path, name="x", **SMALL)
        assert "mine" in set(found.records.policy)
        for family, name, target in (
            ("agent", "random", "mine.py:Mine"),
            ("agents", "mine", "mine.py:Mine"),
            ("agent", "other", lambda: None),
        ):
            with pytest.raises(UsageError):
                harness.register(family, name, target)
        with pytest.raises(Exception, match="Yours"):
            harness.register("agent", "yours", "mine.py:Yours")
        assert "yours" not in agents.REGISTRY
    finally:
        agents.REGISTRY.clear()
        agents.REGISTRY.update(before)


def test_a_notebook_shows_a_bar(monkeypatch):
    shown = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.SimpleNamespace(
        HTML=str, display=lambda text, display_id: shown.append(text) or handle
    )
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert type(notebook.make_listener()) is ProgressListener
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    bar = notebook.make_listener()
    bar.started(RunProgress("a <run>", {"one": CellProgress(), "two": CellProgress()}))
    bar.cell_started("one", 0)
    bar.evaluating("one", 1, 2)
    bar.cell_finished("one", "ok")
    bar.closed()
    assert "value='0.000'" in shown[0]
    assert "a &lt;run&gt;" in shown[0]
    assert "value='1.000'" in shown[-1]
    assert "max='2'" in shown[-1]


USER = """
import harness
import numpy as np
import pandas as pd
from harness import Run
from harness.agents import Agent, TaskEpisodes
from numpy.typing import NDArray


class Mine:
    def act(self, obs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros((len(obs), 2))

    def adapt(self, episodes: TaskEpisodes) -> None:
        print(episodes.rewards.sum())


def agent() -> Agent:
    return Mine()


def compare() -> pd.DataFrame:
    run: Run = harness.train("point_goal", policy="gru", learner=["maml"], env_steps=1000)
    score: Run = harness.score(agent, "point_goal", label="mine", few_shot=(1, 5))
    policy = run.policy()
    action: object = policy.act(np.zeros(2))
    run.figure("learning_curves").savefig("a.png")
    harness.register("policy", "mine", "mine.py:build")
    print(harness.load_policy("a.safetensors").adaptation, score.curves, action)
    return harness.compare([run, score]).frame
"""


@pytest.mark.slow
def test_a_users_file_passes_mypy_strict(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "user.py"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    (tmp_path / "wrong.py").write_text("import harness\nharness.train(3)\nharness.nothing()\n")
    found = subprocess.run(
        [*command[:-1], "wrong.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.stdout.count("error:") == 2
