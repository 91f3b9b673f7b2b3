"""Replayed episodes match the records, and clips of them can be rendered."""

import json
import shutil
import signal
import sys
from ctypes.util import find_library

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harness.cli import run as cli

pytest.importorskip("PIL.Image")
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

from harness.app import clips, forms
from harness.app.run_process import RunProcess
from harness.experiments.rescore import RescoreError, rescore
from harness.reporting.store.records import read_records

TINY = [
    "--preset", "smoke", "--epochs", "1", "--meta-batch-size", "2", "--episodes-per-task", "2",
    "--horizon", "12", "--few-shot", "1", "--test-tasks", "0", "1", "2", "--backend", "local",
]  # fmt: skip


def scored(folder, task_dist, *, learner="maml", shots="2"):
    """Train for one iteration and score the checkpoint after ``shots``; return its run folder."""
    where = ["--storage", str(folder)]
    words = ["--task-dist", task_dist, "--policy", "gru", "--learner", learner, *TINY]
    assert cli.main([*words, "--name", "trained", *where]) == 0
    (checkpoint,) = (folder / "trained").glob("cells/*/checkpoints/*.safetensors")
    words = ["evaluate", "--checkpoint", str(checkpoint), "--few-shot", "1", shots]
    assert cli.main([*words, "--name", "scored", "--backend", "local", *where]) == 0
    return folder / "scored"


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return scored(tmp_path_factory.mktemp("results"), "point_goal")


def test_a_replayed_episode_matches_its_record(points):
    episodes = rescore(points, 1)
    assert [episode.shots for episode in episodes] == [0, 1, 2]
    frame = read_records(points)
    frame = frame[(frame["task_index"] == 1) & (frame["query_episode"] == 0)]
    recorded = frame[frame["learner"] == "maml"].set_index("shots")["return_"]
    assert {e.shots: e.return_ for e in episodes} == recorded.to_dict()
    assert all(e.rewards.sum() == pytest.approx(e.return_, rel=1e-5) for e in episodes)


def test_a_replay_that_does_not_match_the_records_is_refused(points, tmp_path):
    with pytest.raises(RescoreError, match="7"):
        rescore(points, 7)
    altered = shutil.copytree(points, tmp_path / "altered")
    (path,) = altered.glob("cells/*.maml.*/records.parquet")
    table = pq.read_table(path)
    column = table.schema.get_field_index("return_")
    higher = pc.add(table["return_"], 1e-6)
    pq.write_table(table.set_column(column, table.schema.field(column), higher), path)
    with pytest.raises(RescoreError):
        rescore(altered, 1)


def frames_of(film):
    """The frames of an MP4 as bytes, and how many of them hold the last one."""
    description, *images = imageio_ffmpeg.read_frames(str(film))
    assert description["codec"] == "h264"
    return images, round(clips.LAST_FRAME_SECONDS * description["fps"])


def test_films_show_the_whole_episode(points, capsys):
    assert clips.main([str(points), "--task", "2"]) == 0
    folder = clips.clips_folder(points, 2)
    rendered = json.loads((folder / "clips.json").read_text())["clips"]
    assert [clip["shots"] for clip in rendered] == [0, 2]
    for clip in rendered:
        images, held = frames_of(folder / clip["file"])
        assert len(images) == clip["steps"] + 1 + held
        assert len(set(images[-1])) > 30  # something is drawn
    assert clips.main([str(points), "--task", "9"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("task_dist", ["cartpole", "halfcheetah-vel", "metaworld-ml10"])
def test_every_kind_of_renderer_works(tmp_path, task_dist, monkeypatch):
    if task_dist != "cartpole" and not any(map(find_library, clips.RENDERERS.values())):
        pytest.skip("neither EGL nor OSMesa is installed")
    run = scored(tmp_path, task_dist)
    process = RunProcess(run, [["harness.app.clips", str(run), "--task", "1"]], tmp_path / "log")
    process.wait(240)
    assert process.exit_code == 0, process.last_message()
    images, held = frames_of(clips.clips_folder(run, 1) / "shots-2.mp4")
    assert len(images) > 3 + held


def test_without_a_renderer_the_error_names_the_packages_to_install(monkeypatch):
    from harness.app import drawing

    for name in ("DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(drawing.CannotDrawError, match="libegl1"):
        drawing._renderer(None)


def test_a_stopped_process_does_not_start_its_next_command(tmp_path, monkeypatch):
    code = "import time; print('error: cut short', flush=True); time.sleep(60)"
    (tmp_path / "first_part.py").write_text(code)
    (tmp_path / "second_part.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    stopped = RunProcess(tmp_path, [["first_part"], ["second_part"]], tmp_path / "log")
    while stopped.running and stopped.last_message() != "cut short":
        stopped.wait(0.05)
    stopped.stop()
    stopped.wait(30)
    assert not stopped.running
    assert stopped.exit_code == -signal.SIGTERM
    assert not (tmp_path / "mark").exists()
    again = RunProcess(tmp_path, [["second_part"]], tmp_path / "log")
    again.wait(30)
    assert again.exit_code == 0
    assert (tmp_path / "mark").exists()


def test_the_newest_checkpoint_of_a_cell_is_offered(points):
    (found,) = forms.checkpoints(points.parent)
    loaded = forms.load(str(found))
    assert loaded.summary.startswith("gru trained with maml on point_goal, seed 0, 1 iterations")
    assert [index for _, index in loaded.tasks] == [0, 1, 2]
