"""Divisions, and the leaderboard that shows whatever verifies."""

import json
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt

from harness import train
from harness.cli import main
from harness.errors import ArtefactError
from harness.experiments.publishing import publish
from harness.reporting.store.manifest import Manifest
from harness.verify.leaderboard import leaderboard
from harness.verify.opening import open_cells
from harness.verify.submission import obstacles_to_closed, read_submission
from harness.verify.verification import verify
from tests.harness.verify.verify_cases import (
    ALL,
    MAML,
    PROTOCOL,
    RL2,
    cover_up,
    edit_manifest,
    found_in,
)

OPEN = "who: A & B\nlink: https://example.org/x\ndivision: open\ndeclared: six steps an episode\n"


@pytest.fixture
def place(trained, tmp_path):
    """A repository with the trained run as its only submission."""
    folder = shutil.copytree(trained, tmp_path / "submissions/mine")
    (folder / "submission.yaml").write_text(OPEN)
    return tmp_path


def obstacles(folder):
    manifest = Manifest.load(folder)
    cells = {c.key: c for c in open_cells(folder, manifest, run_code=False)}
    own = {key: cells[key] for key in manifest.cells}
    return "\n".join(obstacles_to_closed(manifest, own))


def test_the_closed_division_names_what_differs_from_its_rules(folder):
    told = obstacles(folder)
    for part in (
        "does not have its default settings",
        "episodes_per_shot is 3, not 10",
        "query_episodes is 2, not 5",
        "not all test tasks were scored",
        "not scored after 0, 1, 10 shots",
        "gru maml: 2 seeds; at least 5",
    ):
        assert part in told
    assert "environment steps" not in told


def test_a_run_by_the_rules_is_in_the_closed_division(folder):
    """Of settings alone: the records are left as they are."""

    def change(run):
        for key, cell in list(run["cells"].items()):
            config = cell["config"]
            config["env"], config["test_tasks"] = {"horizon": None}, None
            config["evaluation"] |= {"few_shot": [1, 10], "episodes_per_shot": 10}
            config["evaluation"]["query_episodes"] = 5
            if cell["seed"] == 1:
                continue
            for seed in (2, 3, 4):
                other = json.loads(json.dumps(cell | {"seed": seed}))
                other["config"]["seed"] = [seed]
                name = key.replace(".s0", f".s{seed}")
                run["cells"][name] = other
                shutil.copytree(folder / "cells" / key, folder / "cells" / name)

    edit_manifest(folder, change)
    assert obstacles(folder) == ""
    curve = folder / f"cells/{RL2}/curve.parquet"
    frame, schema = pd.read_parquet(curve), pq.read_schema(curve)
    for steps, told in (
        ([4_990_000, 5_010_000], ""),
        ([5_000_000, 5_010_000], "at most 5000000"),
        ([2_600_000, 5_510_000], "at most 5000000"),
    ):
        longer = pd.concat([frame.tail(1)] * 2).assign(iteration=[1, 2], env_steps=steps)
        pq.write_table(pa.Table.from_pandas(longer, schema, preserve_index=False), curve)
        assert told in obstacles(folder)
        assert bool(told) == bool(obstacles(folder))
    frame.to_parquet(curve)
    shutil.rmtree(folder / "cells/point_goal.gru.rl2.s3")
    told = obstacles(folder)
    assert "point_goal.gru.rl2.s3: it is pending" in told
    edit_manifest(folder, lambda run: run["cells"].pop("point_goal.gru.rl2.s3"))
    assert "gru rl2: 4 seeds; at least 5" in obstacles(folder)


def test_a_folder_that_calls_itself_closed_and_is_not_is_wrong(folder):
    (folder / "submission.yaml").write_text(OPEN.replace("open", "closed"))
    assert "it is declared closed, and is not" in found_in(folder)


@pytest.mark.parametrize(
    "text",
    [
        OPEN.replace("declared: six steps an episode\n", ""),
        OPEN.replace("https:", "file:"),
        OPEN.replace("https://example.org/x", "javascript:alert(1)"),
        OPEN.replace("division: open", "division: mine"),
        OPEN + "more: 1\n",
        None,
    ],
)
def test_a_bad_submission_file_is_bad_input(place, text, capsys):
    path = place / "submissions/mine/submission.yaml"
    path.unlink() if text is None else path.write_text(text)
    assert main.main(["verify", str(path.parent), "--replay", "0"]) == 2
    assert "submission.yaml" in capsys.readouterr().err


@pytest.mark.slow
def test_the_leaderboard_shows_rows_as_they_verify(place, capsys):
    shown = leaderboard(place)
    rows = [line for line in shown.splitlines() if line.startswith("| gru")]
    assert len(rows) == 2
    assert all("open" in row and "records\\, sha256" in row for row in rows)
    assert "replayed" not in shown
    assert "six steps an episode" in shown

    folder = place / "submissions/mine"
    assert main.main(["verify", str(folder), "--replay", "99", "--save"]) == 0
    assert "2 of 2 seeds replayed bit for bit" in leaderboard(place)
    (folder / "events.jsonl").open("a").write("{}\n")
    cover_up(folder)
    assert "replayed" not in leaderboard(place)

    (folder / "table.csv").write_text("")
    with pytest.raises(ArtefactError, match=r"table\.csv"):
        leaderboard(place)


def test_the_numbers_are_those_of_the_table(place):
    table = verify(place / "submissions/mine", 0, np.random.default_rng(0))
    assert table.division == "open"
    assert read_submission(place / "submissions/mine").who == "A & B"
    frame = (place / "submissions/mine/table.csv").read_text().splitlines()
    head, row = frame[0].split(","), next(r for r in frame if ",gru,maml" in r).split(",")
    value = float(row[head.index("return_1")])
    shown = next(r for r in leaderboard(place).splitlines() if "maml" in r)
    assert f"{value:.1f}".replace("-", "\\-").replace(".", "\\.") in shown


def test_nothing_in_a_submission_becomes_markup(place):
    folder = place / "submissions/mine"
    hostile = "<script>alert(1)</script> `x` | {ref}`y` [z](w) $q$"
    path = folder / "submission.yaml"
    path.write_text(
        OPEN.replace("A & B", json.dumps(hostile)).replace("six steps", json.dumps(hostile)[1:-1])
    )
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(leaderboard(place))
    assert page.count("&lt;script&gt;") == 2
    assert page.count("`x` | {ref}`y` [z](w) $q$") == 2
    assert "<script" not in page


@pytest.mark.slow
def test_a_pretrained_row_is_published_with_its_policy(trained, tmp_path):
    checkpoint = shutil.copy(trained / "cells" / MAML / "policy.safetensors", tmp_path)
    run = train(
        "point_goal",
        policy={"mlp": {}},
        learner="multitask",
        env_steps=1,
        pretrained=[checkpoint],
        storage=tmp_path,
        name="run",
        **PROTOCOL,
    )
    folder = publish(run.path, "published", tmp_path).path
    Path(checkpoint).unlink()
    found = verify(folder, ALL, np.random.default_rng(0))
    assert not found.wrong
    assert found.replays == dict.fromkeys(found.cells, "bits")
    assert any("it was not trained by this run" in reason for reason in found.reasons)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_of_stable_baselines_is_submitted(tmp_path):
    """From a saved model to a verified row, with the model gone from where it was scored."""
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    env = gymnasium.make("task_distributions:MetaRL/point_goal-v1", task=0)
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=64, device="cpu", seed=0).learn(64)
    model.save(tmp_path / "ppo.zip")
    words = ["--few-shot", "1", "10", "--episodes-per-shot", "10", "--query-episodes", "5"]
    words += ["--seed", "0", "1", "--test-tasks", "0", "1", "--backend", "local"]
    where = ["--storage", str(tmp_path), "--name", "scored", "--no-tensorboard"]
    task = ["--task-dist", "point_goal", "--horizon", "20"]
    assert main.main(["score", str(tmp_path / "ppo.zip"), *task, *words, *where]) == 0
    target = ["--to", str(tmp_path / "submissions")]
    assert main.main(["publish", str(tmp_path / "scored"), "ppo", *target]) == 0
    (tmp_path / "ppo.zip").unlink()
    folder = tmp_path / "submissions/ppo"
    (folder / "submission.yaml").write_text(OPEN)
    assert main.main(["verify", str(folder), "--replay", "9", "--save"]) == 0
    found = verify(folder, 9, np.random.default_rng(1))
    assert found.replays == dict.fromkeys(found.cells, "bits")
    assert "2 of 2 seeds replayed bit for bit" in leaderboard(tmp_path)

    (copy,) = (folder / "models").iterdir()
    other = stable_baselines3.PPO("MlpPolicy", env, n_steps=64, device="cpu", seed=1)
    other.save(copy)
    cover_up(folder)
    assert "is not the model that was scored" in found_in(folder)
