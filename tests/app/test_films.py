"""Replayed episodes are the recorded ones, and films of them can be drawn."""

import json
import signal
import sys
from ctypes.util import find_library

import pytest

from harness.cli import run as program

Image = pytest.importorskip("PIL.Image")

from harness.app import clips, forms
from harness.app.run_process import RunProcess
from harness.experiments.rescore import RescoreError, rescore
from harness.reporting.store.records import read_records

TINY = [
    "--preset", "smoke", "--epochs", "1", "--meta-batch-size", "2", "--episodes-per-task", "2",
    "--horizon", "12", "--few-shot", "1", "--test-tasks", "0", "1", "2", "--backend", "local",
]  # fmt: skip


def scored(folder, task_dist, *, learner="maml", shots="2"):
    """Train a little, score the checkpoint after ``shots``, return the folder of the scoring."""
    where = ["--storage", str(folder)]
    words = ["--task-dist", task_dist, "--policy", "gru", "--learner", learner, *TINY]
    assert program.main([*words, "--name", "trained", *where]) == 0
    (checkpoint,) = (folder / "trained").glob("cells/*/checkpoints/*.safetensors")
    words = ["evaluate", "--checkpoint", str(checkpoint), "--few-shot", "1", shots]
    assert program.main([*words, "--name", "scored", "--backend", "local", *where]) == 0
    return folder / "scored"


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return scored(tmp_path_factory.mktemp("results"), "point_goal")


def test_an_episode_played_again_is_the_one_on_record(points):
    episodes = rescore(points, 1)
    assert [episode.shots for episode in episodes] == [0, 1, 2]
    frame = read_records(points)
    frame = frame[(frame["task_index"] == 1) & (frame["query_episode"] == 0)]
    recorded = frame[frame["learner"] == "maml"].set_index("shots")["return_"]
    assert {e.shots: e.return_ for e in episodes} == recorded.to_dict()
    assert all(e.rewards.sum() == pytest.approx(e.return_, rel=1e-5) for e in episodes)


def test_an_episode_that_is_not_on_record_is_refused(points, monkeypatch):
    with pytest.raises(RescoreError, match="did not score test task 7"):
        rescore(points, 7)

    def altered(run):
        frame = read_records(run)
        return frame.assign(return_=frame["return_"] + 1e-6)

    monkeypatch.setattr("harness.experiments.rescore.read_records", altered)
    with pytest.raises(RescoreError, match="recorded are"):
        rescore(points, 1)


def test_films_are_of_the_whole_episode(points, capsys):
    assert clips.main([str(points), "--task", "2"]) == 0
    folder = clips.folder_of(points, 2)
    told = json.loads((folder / "clips.json").read_text())
    assert [clip["shots"] for clip in told["clips"]] == [0, 2]
    for clip in told["clips"]:
        with Image.open(folder / clip["file"]) as film:
            assert film.n_frames == clip["steps"] + 1
            film.seek(film.n_frames - 1)
            assert len(set(film.convert("RGB").tobytes())) > 3  # something is drawn
    assert clips.main([str(points), "--task", "9"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("task_dist", ["cartpole", "halfcheetah-vel", "metaworld-ml10"])
def test_the_other_kinds_can_be_filmed(tmp_path, task_dist, monkeypatch):
    if task_dist != "cartpole" and not any(map(find_library, clips.RENDERERS.values())):
        pytest.skip("no library here to draw MuJoCo with")
    run = scored(tmp_path, task_dist)
    child = RunProcess(run, [["harness.app.clips", str(run), "--task", "1"]], tmp_path / "log")
    child.wait(240)
    assert child.code == 0, child.last_words()
    with Image.open(clips.folder_of(run, 1) / "shots-2.gif") as film:
        assert film.n_frames > 3


def test_without_a_renderer_a_sentence_says_what_to_install(points, monkeypatch):
    from harness.app import drawing

    for name in ("DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(drawing.CannotDrawError, match="install libegl1"):
        drawing._renderer(None)


def test_an_interrupted_child_goes_no_further(tmp_path, monkeypatch):
    code = "import time; print('error: cut short', flush=True); time.sleep(60)"
    (tmp_path / "first_part.py").write_text(code)
    (tmp_path / "second_part.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = RunProcess(tmp_path, [["first_part"], ["second_part"]], tmp_path / "log")
    while child.running and child.last_words() != "cut short":
        child.wait(0.05)
    child.stop()
    child.wait(30)
    assert not child.running
    assert child.code == -signal.SIGTERM
    assert not (tmp_path / "mark").exists()
    again = RunProcess(tmp_path, [["second_part"]], tmp_path / "log")
    again.wait(30)
    assert again.code == 0
    assert (tmp_path / "mark").exists()


def test_the_newest_checkpoint_of_a_cell_is_offered(points):
    (found,) = forms.checkpoints(points.parent)
    loaded = forms.load(str(found))
    assert loaded.summary.startswith("gru trained by maml on point_goal, seed 0, 1 iterations")
    assert [index for _, index in loaded.tasks] == [0, 1, 2]
