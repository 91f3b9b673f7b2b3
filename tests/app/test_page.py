"""Updates of the page, tested without a browser."""

from types import SimpleNamespace

import pytest

gr = pytest.importorskip("gradio")

from harness.app import page
from harness.app.app_state import AppState


def checkpoint(storage, run):
    path = (
        storage / run / "cells" / "a.gru.maml.s0" / "checkpoints" / "iteration-000001.safetensors"
    )
    path.parent.mkdir(parents=True)
    path.touch()
    return str(path)


@pytest.mark.parametrize("chosen", ["", "/a/chosen/one", None])
def test_a_run_that_ends_selects_its_checkpoint_unless_one_is_chosen(tmp_path, chosen):
    own = checkpoint(tmp_path, "own")
    checkpoint(tmp_path, "written-later")
    now = {"training": (tmp_path / "own", False, ())}
    before = {"training": (tmp_path / "own", True, ())}
    update = page._refresh_checkpoints(AppState(tmp_path), before, now, chosen)
    update = getattr(update, "constructor_args", update)
    assert len(update["choices"]) == 2
    if chosen:
        assert "value" not in update
    else:
        assert update["value"] == own


def test_a_run_without_a_checkpoint_selects_none(tmp_path):
    checkpoint(tmp_path, "other")
    now, before = ({"training": (tmp_path / "own", on, ())} for on in (False, True))
    update = page._refresh_checkpoints(AppState(tmp_path), before, now, None)
    assert not getattr(update, "constructor_args", update).get("value")


def test_a_run_that_cannot_be_read_is_reported_beside_its_status(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("<half a manifest")
    state, now = AppState(tmp_path), {}
    ended = {"running": False, "stopping": False, "seconds": 3.0, "exit_code": 0}
    state.training = SimpleNamespace(folder=tmp_path / "run", **ended)
    status, cells, *_ = page._refresh_training(state, {}, now)
    assert status == "Complete after 0:03: run"
    assert cells.startswith("Error: ")
    assert "run.json" in cells
    again, unchanged, *_ = page._refresh_training(state, now, {})
    assert again == unchanged == gr.skip()


def test_checkpoints_are_labelled_by_run_and_cell(tmp_path):
    for run in ("a", "b"):
        checkpoint(tmp_path, run)
    labels = [label for label, _ in page._choices(AppState(tmp_path))]
    assert sorted(labels) == ["a / a.gru.maml.s0", "b / a.gru.maml.s0"]
