"""The queue of published sweeps: it begins, goes on after a stop, and plays what a file adds."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.config import sweep_file
from harness.experiments import planning
from harness.reporting.store.manifest import CellState, Manifest
from harness.reporting.store.records import CellFolder
from harness.zoo.index import Index
from tune_configs.published import play

SWEEP = """
base:
  task_dist: point_goal
  env: {{horizon: 5}}
  test_tasks: [0]
  policy: [mlp]
  learner: {{multitask: {{episodes_per_iteration: 8}}}}
  train: {{meta_iterations: 1}}
  evaluation: {{few_shot: [1], query_episodes: 1, episodes_per_shot: 1}}
sweep:
- seed: {seeds}
tune: {{workers_per_cell: 0}}
"""


def write_complete(manifest: Manifest, folder: Path) -> None:
    """Write a run whose cells are complete, without their results."""
    folder.mkdir(parents=True)
    manifest.save(folder)
    for key in manifest.cells:
        cell = CellFolder(folder / "cells" / key)
        cell.create()
        cell.write_state(CellState(status="ok"))


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_is_played_published_committed_and_continued_in_a_fresh_clone(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(play, "POLL_SECONDS", 0.2)
    subprocess.run(["git", "init", "-q"], check=True)
    for name, value in (("user.name", "me"), ("user.email", "me@example.org")):
        subprocess.run(["git", "config", name, value], check=True)
    play.ZOO_INDEX.parent.mkdir(parents=True)
    file = Path("tiny.yaml")
    file.write_text(SWEEP.format(seeds=[0]))
    assert play.play(file, commit=True) == 0
    cells = Manifest.load(Path("results/published/tiny")).ids("ok")
    assert cells == ("point_goal.mlp.multitask.s0",)
    log = subprocess.run(["git", "log", "--format=%s%n%b"], capture_output=True, text=True)
    assert cells[0] in log.stdout
    assert play.next_command(file) is None, "it would be played twice"

    subprocess.run(["rm", "-r", "results/tiny"], check=True)  # as in a fresh clone
    file.write_text(SWEEP.format(seeds=[0, 1]))
    before = Path("results/published/tiny/cells/point_goal.mlp.multitask.s0/records.parquet")
    first = before.read_bytes()
    assert play.play(file, commit=True, only=["*.s0"]) == 0
    assert len(Manifest.load(Path("results/published/tiny")).ids("ok")) == 1
    command = play.next_command(file)
    assert command is not None
    assert "--extend" in command
    assert play.play(file, commit=True) == 0
    assert len(Manifest.load(Path("results/published/tiny")).ids("ok")) == 2
    assert before.read_bytes() == first, "a finished cell was played again"
    (entry,) = Index.read(play.ZOO_INDEX).entries.values()
    assert [weights.seed for weights in entry.weights] == [0, 1]
    changed = subprocess.run(["git", "status", "--porcelain", "harness"], capture_output=True)
    assert changed.stdout == b"", "the index is committed with the cells"
    assert "2 of   2" in next(iter(play.status([file])))


def test_published_cells_of_other_settings_are_dropped_and_the_others_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, run, published = Path("tiny.yaml"), play.RUNS / "tiny", play.PUBLISHED / "tiny"

    def planned(episodes):
        learners = f"{{multitask: {{episodes_per_iteration: {episodes}}}, scratch: {{}}}}"
        text = SWEEP.format(seeds=[0])
        file.write_text(text.replace("{multitask: {episodes_per_iteration: 8}}", learners))
        sweep = sweep_file.load(file)
        return planning.plan(sweep.cells, (), sweep.values, {})

    before = planned(8)
    write_complete(before, published)
    after = planned(10)
    play.begin(file, [])
    assert play.finished_cells(run) == {"point_goal.mlp.scratch.s0"}
    assert play.finished_cells(published) == before.cells.keys()
    planning.completed(Manifest.load(run)).check_resume(after)
    CellFolder(run / "cells" / "point_goal.mlp.multitask.s0").create()
    play.begin(file, [])  # the sweep was begun: it goes on
    assert (run / "cells" / "point_goal.mlp.multitask.s0").exists()


def test_published_cells_are_dropped_by_name_and_all_are_kept_if_none_is_asked_for(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file, run, published = Path("tiny.yaml"), play.RUNS / "tiny", play.PUBLISHED / "tiny"
    file.write_text(SWEEP.format(seeds=[0, 1]))
    sweep = sweep_file.load(file)
    manifest = planning.plan(sweep.cells, (), sweep.values, {})
    write_complete(manifest, published)
    play.begin(file)
    assert play.finished_cells(run) == manifest.cells.keys()
    shutil.rmtree(run)
    play.begin(file, ["*.s1"])
    assert play.finished_cells(run) == {key for key in manifest.cells if key.endswith(".s0")}


def test_only_what_is_not_published_yet_is_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []
    monkeypatch.setattr(play, "publish", lambda *given, **_: calls.append(given))
    file = Path("tiny.yaml")
    file.write_text(SWEEP.format(seeds=[0, 1]))
    sweep = sweep_file.load(file)
    manifest = planning.plan(sweep.cells, (), sweep.values, {})
    write_complete(manifest, play.PUBLISHED / "tiny")
    play.begin(file)
    assert play.play(file, commit=False) == 0
    assert not calls
    key = next(iter(manifest.cells))
    state = CellState(status="ok", wall_seconds=2.0)  # played again, and killed before the end
    CellFolder(play.RUNS / "tiny/cells" / key).write_state(state)
    assert play.play(file, commit=False) == 0
    assert len(calls) == 1


@pytest.mark.parametrize(
    "folder",
    sorted(play.HERE.parents[1].glob("results/published/*/")),
    ids=lambda folder: folder.name,
)
def test_a_published_sweep_can_go_on_with_the_code_as_it_is(folder):
    sweep = sweep_file.load(play.HERE / f"{folder.name}.yaml")
    planned = planning.plan(sweep.cells, (), sweep.values, {})
    planning.completed(Manifest.load(folder)).check_resume(planned)


def test_the_queue_plays_every_file_beside_it():
    assert sorted(play.ORDER) == sorted(path.stem for path in play.HERE.glob("*.yaml"))
