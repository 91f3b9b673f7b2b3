"""The zoo: published policies by name, their index, where they come from, and where they go."""

import functools
import hashlib
import json
import shutil
import subprocess
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import harness
from harness.cli import run as run_command
from harness.errors import ArtefactError, ExitCode, SurroundingsError, UsageError
from harness.experiments.rescore import CellReplay
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import POLICY_FILE
from harness.verify.opening import open_cells
from harness.zoo import weights
from harness.zoo.__main__ import main
from harness.zoo.building import build
from harness.zoo.card import card
from harness.zoo.index import INDEX_FILE, Index
from harness.zoo.weights import CLONE, PACKAGED, Zoo
from tests.harness.published_run import SETTINGS, publish_run
from tests.harness.zoo.hub_stand_in import TOKEN, serve

pytestmark = pytest.mark.usefixtures("no_figures")
MAML, RL2 = "point_goal/gru/maml", "point_goal/gru/rl2"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A published run of two learners with the seeds 4 and 2; its folder is a zoo."""
    published = publish_run(tmp_path_factory.mktemp("zoo"))
    index = published.parent / INDEX_FILE
    assert main(["index", str(published.parent), "--to", str(index)]) == 0
    return published


@pytest.fixture
def zoo(run, monkeypatch, tmp_path):
    """The zoo of ``run``, as the one that is used where none is given."""
    monkeypatch.setenv(weights.VARIABLE, str(run.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return run.parent


def file_of(zoo, name):
    return zoo / Zoo.open(zoo).index.find(name)[2].file


def test_the_index_has_the_numbers_of_the_table(run, zoo):
    entries = Index.read(zoo / INDEX_FILE).entries
    assert list(entries) == [MAML, RL2]
    table = harness.load_run(run).table().set_index("learner")
    for entry in entries.values():
        row = table.loc[entry.learner]
        assert [score.shots for score in entry.returns] == [0, 1, 2]
        for score in entry.returns:
            for value, column in ((score.mean, ""), (score.low, "_low"), (score.high, "_high")):
                assert value == pytest.approx(row[f"return_{score.shots}{column}"], rel=1e-9)
        assert (entry.num_params, entry.num_seeds) == (row["num_params"], 2)
        assert entry.train_env_steps == row["train_env_steps"]
        means = [sum(w.returns["1"] for w in entry.weights) / 2, entry.returns[1].mean]
        assert means[0] == pytest.approx(means[1])
    assert [w.seed for w in entries[MAML].weights] == [4, 2]
    assert entries[RL2].adapter == "memory"


def test_a_policy_comes_by_name_and_scores_as_published(run, zoo, tmp_path):
    assert harness.load_pretrained(MAML).cell.seed == 4, "the first seed, not the best"
    for name in (MAML, f"{RL2}/s2"):
        policy = harness.load_pretrained(name)
        assert policy.path == file_of(zoo, name)
        again = harness.evaluate(policy, name=policy.cell.id, storage=tmp_path, backend="local")
        records = harness.load_run(run).records
        own = records[records["cell"] == policy.cell.id].reset_index(drop=True)
        played = again.records.query("learner != 'reference'").reset_index(drop=True)
        columns = ["task", "shots", "query_episode", "return_", "length_steps", "rewards"]
        assert len(own) == 18
        assert played[columns].equals(own[columns])


def test_names_that_are_not_in_the_zoo_end_with_exit_2(zoo, capsys):
    for name, near in (("point_goal/gru/mamI", MAML), (f"{MAML}/s3", "s4, s2"), ("x", "")):
        assert main(["fetch", name]) == ExitCode.BAD_INPUT
        assert near in capsys.readouterr().err
        with pytest.raises(UsageError):
            harness.load_pretrained(name)
    assert main(["fetch", f"{MAML}/s2"]) == 0
    assert capsys.readouterr().out == f"{file_of(zoo, f'{MAML}/s2')}\n"


def test_a_changed_file_is_refused(zoo, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(zoo, tmp_path / "zoo")
    file_of(copy, MAML).write_bytes(file_of(copy, f"{MAML}/s2").read_bytes())
    with pytest.raises(ArtefactError, match="sha256"):
        harness.load_pretrained(MAML, zoo=copy)
    assert main(["fetch", MAML, "--zoo", str(copy)]) == ExitCode.REFUSED
    monkeypatch.setenv(weights.VARIABLE, str(copy))
    assert run_command.main(["evaluate", "--checkpoint", MAML]) == ExitCode.REFUSED
    file_of(copy, MAML).unlink()
    assert main(["fetch", MAML, "--zoo", str(copy)]) == ExitCode.BAD_INPUT
    index = json.loads((copy / INDEX_FILE).read_text())
    index["entries"][MAML]["weights"][0]["file"] = "../secret.safetensors"
    (copy / INDEX_FILE).write_text(json.dumps(index))
    assert main(["fetch", MAML, "--zoo", str(copy)]) == ExitCode.REFUSED
    assert main(["list", "--zoo", str(tmp_path)]) == ExitCode.BAD_INPUT


def test_of_two_runs_with_the_same_row_the_newer_has_the_plain_name(run, tmp_path):
    for name, created in (("older", "2001"), ("newer", "2101")):
        copy = shutil.copytree(run, tmp_path / "published" / name)
        Manifest.load(copy).model_copy(update={"created": created}).save(copy)
    shutil.copytree(run, tmp_path / "published" / "tiny")
    found = {name: entry.run for name, entry in build(tmp_path / "published").entries.items()}
    assert {name: of for name, of in found.items() if name.startswith(MAML)} == {
        MAML: "newer",
        f"{MAML}@tiny": "tiny",
        f"{MAML}@older": "older",
    }


def test_a_run_that_scores_a_checkpoint_is_no_entry_of_its_policy(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "published" / "scored")
    manifest = Manifest.load(copy)
    cells = {
        key: cell.model_copy(
            update={"checkpoint": "x.safetensors"} if cell.learner == "maml" else {}
        )
        for key, cell in manifest.cells.items()
    }
    manifest.model_copy(update={"cells": cells}).save(copy)
    assert set(build(tmp_path / "published").entries) == {RL2}


def test_a_run_scores_a_policy_of_the_zoo_beside_its_own(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = SETTINGS | {"test_tasks": (3,), "meta_iterations": 1, "few_shot": 1}
    learner = {"multitask": {"episodes_per_iteration": 4}}
    beside = {"learner": learner, "policy": "mlp", "storage": tmp_path}
    mixed = harness.train("point_goal", pretrained=[RL2], name="mixed", **beside, **settings)
    assert list(mixed.cells["policy"]) == ["mlp", "pretrained-gru"]
    # A path that exists wins over a name.
    path = Path(MAML)
    path.parent.mkdir(parents=True)
    shutil.copyfile(file_of(zoo, f"{RL2}/s2"), path)
    assert weights.checkpoint_path(MAML) == path
    words = ["--task-dist", "point_goal", "--pretrained", "point_goal/gru/rl3"]
    assert run_command.main(words) == ExitCode.BAD_INPUT


def test_weights_are_downloaded_once_and_checked(zoo, capsys):
    asked = []

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    with serve(functools.partial(Files, directory=zoo)) as server:
        path = Zoo.open(server.address).fetch(MAML)
        assert path.read_bytes() == file_of(zoo, MAML).read_bytes()
        assert Zoo.open(server.address).fetch(MAML) == path
        assert len(asked) == 3, "the index twice, the weights once"
        path.write_bytes(b"damaged")
        assert harness.load_pretrained(MAML, zoo=server.address).path == path
        assert len(asked) == 5
        address = f"{server.address}/elsewhere"
        assert main(["list", "--zoo", address]) == ExitCode.BAD_INPUT
    with pytest.raises(SurroundingsError):
        Zoo.open(server.address)


def test_an_installed_package_downloads_by_content(zoo, tmp_path, monkeypatch):
    """So that a path that is published again gets the older package no other bytes."""
    monkeypatch.delenv(weights.VARIABLE)
    monkeypatch.setattr(weights, "PACKAGED", zoo / INDEX_FILE)
    monkeypatch.setattr(weights, "CLONE", tmp_path / "absent")
    listed = [each for e in Index.read(zoo / INDEX_FILE).entries.values() for each in e.weights]
    paths = [str(zoo / each.file) for each in listed]
    names = subprocess.run(["git", "hash-object", *paths], capture_output=True, text=True).stdout

    class Blobs(SimpleHTTPRequestHandler):
        def send_head(self):
            if self.headers["Accept"] != "application/vnd.github.raw":
                return self.send_error(415)
            self.path = dict(zip(names.split(), [each.file for each in listed], strict=True))[
                self.path.removeprefix("/")
            ]
            return super().send_head()

    with serve(functools.partial(Blobs, directory=zoo)) as server:
        monkeypatch.setattr(weights, "BLOBS", server.address)
        for name in (MAML, f"{MAML}/s2"):
            path = harness.load_pretrained(name).path
            assert path.is_relative_to(tmp_path / "cache")
            assert path.read_bytes() == file_of(zoo, name).read_bytes()


def test_a_card_is_what_hugging_face_reads(zoo):
    entries = Index.read(zoo / INDEX_FILE).entries
    parsed = huggingface_hub.ModelCard(card({MAML: entries[MAML]}))
    assert parsed.data.library_name == "metarl-harness"
    first, last = parsed.data.eval_results[0], parsed.data.eval_results[-1]
    assert (first.dataset_name, first.metric_type) == ("point_goal@1", "mean_reward")
    score = entries[MAML].returns[-1]
    assert last.metric_value == f"{score.mean:.1f} [{score.low:.1f}, {score.high:.1f}]"
    assert f"harness.run evaluate --checkpoint {MAML}" in parsed.text
    assert all(w.sha256 in parsed.text for w in entries[MAML].weights)


def test_policies_are_shared_at_hugging_face_and_come_back(zoo, tmp_path, monkeypatch, capsys):
    with serve() as hub:
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", "wrong")
        assert main(["push", MAML, "--repo", "me/mine"]) == ExitCode.BAD_INPUT
        assert hub.repositories == {}
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        seeds = [f"{RL2}/s{weights.seed}" for weights in Zoo.open(zoo).index.find(RL2)[1].weights]
        assert len(seeds) == 2
        for name in (*seeds, f"{MAML}/s2"):
            assert main(["push", name, "--repo", "me/mine"]) == 0
        files = hub.repositories["me/mine"]
        assert {name.rpartition("/")[2] for name in files} == {
            *("README.md", INDEX_FILE, POLICY_FILE)
        }
        assert len(files) == 5
        assert 'zoo="hf://me/mine"' in files["README.md"].decode()
        shared = Zoo.open("hf://me/mine")
        assert {name: len(e.weights) for name, e in shared.index.entries.items()} == {
            RL2: 2,
            MAML: 1,
        }
        assert shared.fetch(MAML).read_bytes() == file_of(zoo, f"{MAML}/s2").read_bytes()
        assert main(["list", "--zoo", "hf://me/nothing"]) == ExitCode.BAD_INPUT


def test_a_copied_part_of_a_zoo_is_a_zoo(zoo, tmp_path, capsys):
    assert main(["fetch", MAML, f"{RL2}/s2", "--to", str(tmp_path / "part")]) == 0
    copy = Zoo.open(tmp_path / "part")
    assert [len(entry.weights) for entry in copy.index.entries.values()] == [2, 1]
    seeds = [f"{MAML}/s{seed}" for seed in (4, 2)]
    assert main(["fetch", *seeds, "--to", str(tmp_path / "seeds")]) == 0
    (entry,) = Zoo.open(tmp_path / "seeds").index.entries.values()
    assert {each.seed for each in entry.weights} == {2, 4}
    assert copy.fetch(RL2) == tmp_path / "part" / Zoo.open(zoo).index.find(f"{RL2}/s2")[2].file
    assert main(["fetch", MAML, "--to", str(tmp_path / "part")]) == ExitCode.BAD_INPUT
    capsys.readouterr()
    assert main(["list", "--zoo", str(tmp_path / "part")]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["name", MAML, RL2]


# --- what this repository publishes --------------------------------------------------------------

REMEDY = "make the index again: python -m harness.zoo index"


def test_the_index_lists_the_published_policies():
    published = {
        path.relative_to(CLONE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for run in CLONE.glob("*/run.json")
        for key in Manifest.load(run.parent).ids("ok")
        for path in (run.parent / "cells" / key).glob(POLICY_FILE)
    }
    entries = Index.read(PACKAGED).entries.values()
    assert {w.file: w.sha256 for entry in entries for w in entry.weights} == published, REMEDY


@pytest.mark.slow
def test_the_index_has_the_published_scores():
    assert build(CLONE) == Index.read(PACKAGED), REMEDY


FIRST = {entry.task_dist: name for name, entry in reversed(Index.read(PACKAGED).entries.items())}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST.values())
def test_a_published_policy_scores_as_published(name, tmp_path):
    """On the tasks of one job, whose size decides last bits, after at most one shot.

    All of ML10's tasks and shots take a quarter of an hour.
    """
    entry, policy = Index.read(PACKAGED).entries[name], harness.load_pretrained(name)
    published = harness.load_run(CLONE / entry.run)
    manifest = published.manifest
    if differs := manifest.elsewhere(policy.path.parent.name):
        pytest.skip(f"published elsewhere: {differs}")
    key = policy.path.parent.name
    (cell,) = (c for c in open_cells(CLONE / entry.run, manifest, run_code=True) if c.key == key)
    replay = CellReplay.of(cell.folder, cell.info, cell.config, cell.model)
    jobs = [job.task_indices for job in replay.jobs if job.split == "test"]
    tasks = list(min(jobs, key=len))
    own = published.records.query("split == 'test' and cell == @key and shots <= 1")
    again = harness.evaluate(
        policy, test_tasks=tasks, few_shot=1, name="again", storage=tmp_path, backend="local"
    ).records
    place = ["task", "shots", "query_episode"]
    pair = [
        frame.set_index(place)["return_"].sort_index()
        for frame in (
            own.query("task_index in @tasks"),
            again.query("learner != 'reference'"),
        )
    ]
    assert len(pair[0])
    assert pair[1].equals(pair[0])
