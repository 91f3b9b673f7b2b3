"""Trajectories of a run, made by playing it again: they are those behind its records."""

import shutil
from pathlib import Path

import minari
import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import harness
from harness.errors import ExitCode
from harness.experiments import rescore
from harness.experiments.publishing import publish
from harness.export.__main__ import main
from harness.reporting.store import provenance
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_records
from tests.harness.published_run import SETTINGS, publish_run

pytestmark = pytest.mark.usefixtures("no_figures")
KEY = ["cell", "split", "task", "shots", "episode"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return publish_run(tmp_path_factory.mktemp("export"), seed=(4,))


@pytest.fixture(scope="module")
def frame(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("frame") / "all.parquet"
    assert main([str(run), "--parquet", str(path)]) == 0
    return pd.read_parquet(path)


def own_records(run):
    records = read_records(run).rename(columns={"query_episode": "episode"})
    return records[records["learner"] != "reference"].set_index(KEY)["return_"].sort_index()


def test_every_recorded_episode_is_there_with_its_return(run, frame):
    query = frame[frame["phase"] == "query"].set_index(KEY)["return"].sort_index()
    assert query.to_dict() == own_records(run).to_dict()
    sums = [rewards.sum() for rewards in frame["rewards"]]
    assert np.allclose(sums, frame["return"], rtol=1e-5)
    assert {len(values) for values in frame["rewards"]} == {SETTINGS["horizon"]}
    assert {len(values) for values in frame["observations"]} == {SETTINGS["horizon"] + 1}


def test_support_episodes_are_tagged_by_the_shot_they_belong_to(frame):
    support = frame[frame["phase"] == "support"]
    counts = support.groupby(["learner", "shots", "task_index"]).size()
    # Memory needs a support episode for each query episode.
    assert counts["maml"].to_dict() == {(s, t): 3 for s in (0, 1) for t in (0, 2, 3)}
    assert counts["rl2"].to_dict() == {(s, t): 2 for s in (0, 1) for t in (0, 2, 3)}
    assert set(frame["seed"]) == {4}


def test_actions_and_seeds_lead_through_the_same_observations(frame):
    for row in frame.groupby(["learner", "phase"]).last().reset_index().to_dict("records"):
        env = harness.make("point_goal", split=row["split"], task=row["task_index"])
        obs, _ = env.reset(seed=row["reset_seed"])
        for action, reward, before, after in zip(
            row["actions"],
            row["rewards"],
            row["observations"],
            row["observations"][1:],
            strict=False,
        ):
            assert obs == pytest.approx(before, abs=1e-6)
            obs, found, *_ = env.step(np.asarray(action, np.float32))
            assert (found, obs) == (pytest.approx(reward, abs=1e-6), pytest.approx(after, abs=1e-6))


def test_a_minari_data_set_holds_the_same_with_tags(run, frame, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    key = "point_goal.gru.maml.s4"
    words = [str(run), "--minari", "metarl/tiny-v0", "--cells", key]
    assert main(words) == 0
    own = frame[frame["cell"] == key].reset_index(drop=True)
    data = minari.load_dataset("metarl/tiny-v0")
    assert data.total_episodes == len(own)
    tags = list(data.storage.get_episode_metadata(range(len(own))))
    names = {name: name for name in ("phase", "shots", "task", "return", "success")}
    for name, column in (names | {"seed": "reset_seed", "cell_seed": "seed"}).items():
        assert [tag[name] for tag in tags] == own[column].tolist()
    for episode, row in zip(data.iterate_episodes(), own.to_dict("records"), strict=True):
        assert np.array_equal(episode.observations, np.stack(row["observations"]))
        assert np.array_equal(episode.actions, np.stack(row["actions"]))
        assert np.array_equal(episode.rewards, row["rewards"])
        assert (episode.terminations.any(), episode.truncations.sum()) == (False, 1)
    env = data.recover_environment()
    assert env.spec.max_episode_steps == SETTINGS["horizon"]
    assert main(words) == ExitCode.BAD_INPUT
    assert main([str(run), "--minari", "not a name"]) == ExitCode.BAD_INPUT
    assert minari.list_local_datasets().keys() == {"metarl/tiny-v0"}


@pytest.fixture
def altered(run, tmp_path):
    """The run with other returns in the records of one cell."""
    copy = shutil.copytree(run, tmp_path / "altered")
    path = copy / "cells/point_goal.gru.rl2.s4/records.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("return_")
    field = table.schema.field(column)
    pq.write_table(table.set_column(column, field, pc.add(table["return_"], 1e-6)), path)
    return copy


def test_returns_that_differ_from_the_records_are_an_error(altered, tmp_path, capsys):
    target = tmp_path / "out" / "all.parquet"
    assert main([str(altered), "--parquet", str(target)]) == ExitCode.BAD_INPUT
    assert list(target.parent.iterdir()) == []
    assert "do not match" in capsys.readouterr().err


def test_what_was_played_on_another_processor_may_differ(altered, tmp_path, monkeypatch, capsys):
    here = provenance.machine()
    monkeypatch.setattr(provenance, "machine", lambda: here | {"cpu": "another"})
    assert main([str(altered), "--parquet", str(tmp_path / "all.parquet")]) == 0
    assert "18 returns differ" in capsys.readouterr().err


def test_a_missing_record_is_found(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    path = copy / "cells/point_goal.gru.maml.s4/records.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    assert main([str(copy), "--parquet", str(tmp_path / "x.parquet")]) == ExitCode.BAD_INPUT
    assert not (tmp_path / "x.parquet").exists()


def key_of(path):
    """The cell in an export of one cell."""
    (key,) = set(pd.read_parquet(path)["cell"])
    return key


def test_cells_without_a_policy_are_left_out(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "cells/point_goal.gru.maml.s4/policy.safetensors").unlink()
    path = tmp_path / "rl2.parquet"
    assert main([str(copy), "--parquet", str(path)]) == 0
    assert "left out point_goal.gru.maml.s4" in capsys.readouterr().err
    assert set(pd.read_parquet(path)["learner"]) == {"rl2"}
    twice = ["--cells", *[key_of(path)] * 2]
    assert main([str(copy), "--parquet", str(tmp_path / "twice.parquet"), *twice]) == 0
    assert len(pd.read_parquet(tmp_path / "twice.parquet")) == len(pd.read_parquet(path))
    for words in (["--cells", "point_goal.gru.maml.s4"], ["--cells", "x"], []):
        assert main([str(copy), "--parquet", str(path), *words]) == ExitCode.BAD_INPUT


def test_the_copy_of_a_pretrained_policy_is_played(run, tmp_path):
    """Whatever has become of the file that was scored."""
    own = run / "cells/point_goal.gru.rl2.s4/policy.safetensors"
    given = Path(shutil.copy(own, tmp_path / "given.safetensors"))
    few = {"backend": "local", "tensorboard": False, "test_tasks": (1,), "query_episodes": 2}
    scored = harness.evaluate(given, name="scored", storage=tmp_path, few_shot=1, **few)
    folder = publish(scored.path, "again", tmp_path).path
    shutil.copy(run / "cells/point_goal.gru.maml.s4/policy.safetensors", given)
    assert main([str(folder), "--parquet", str(tmp_path / "a.parquet")]) == 0
    (copy,) = folder.glob("cells/*/policy.safetensors")
    copy.write_bytes(copy.read_bytes() + b"\0")
    assert main([str(folder), "--parquet", str(tmp_path / "b.parquet")]) == ExitCode.REFUSED


def test_agents_are_exported_too(tmp_path):
    few = SETTINGS | {"test_tasks": (1,), "few_shot": 1}
    harness.score("random", "point_goal", storage=tmp_path, name="agents", seed=2, **few)
    run = tmp_path / "agents"
    assert main([str(run), "--parquet", str(tmp_path / "agents.parquet")]) == 0
    found = pd.read_parquet(tmp_path / "agents.parquet").set_index(KEY)["return"].sort_index()
    assert found.to_dict() == own_records(run).to_dict()
    assert Manifest.load(run).cells.keys() == set(found.index.get_level_values("cell"))


def test_discrete_actions_are_indices(tmp_path):
    few = SETTINGS | {"test_tasks": (1,), "few_shot": 1}
    harness.score("random", "cartpole", storage=tmp_path, name="cart", seed=2, **few)
    (key,) = Manifest.load(tmp_path / "cart").cells
    cell = rescore.CellReplay.open(tmp_path / "cart", key)
    assert cell.dist.spec.discrete
    assert main([str(tmp_path / "cart"), "--parquet", str(tmp_path / "cart.parquet")]) == 0
    rows = pd.read_parquet(tmp_path / "cart.parquet")
    assert {value for actions in rows["actions"] for (value,) in actions} == {0.0, 1.0}
