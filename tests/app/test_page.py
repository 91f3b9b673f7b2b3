"""What the page offers, without a browser."""

from types import SimpleNamespace

import pytest

gr = pytest.importorskip("gradio")

from harness.app import page
from harness.app.app_state import AppState


def checkpoint(storage, run):
    path = storage / run / "cells" / "cell" / "checkpoints" / "iteration-000001.safetensors"
    path.parent.mkdir(parents=True)
    path.touch()
    return str(path)


@pytest.mark.parametrize("chosen", ["", "/a/chosen/one", None])
def test_a_run_that_ends_puts_its_own_forward_where_none_is_chosen(tmp_path, chosen):
    own = checkpoint(tmp_path, "own")
    checkpoint(tmp_path, "written-later")
    now = {"training": (tmp_path / "own", False, ())}
    seen = {"training": (tmp_path / "own", True, ())}
    offered = page._offered(AppState(tmp_path), seen, now, chosen)
    told = getattr(offered, "constructor_args", offered)
    assert len(told["choices"]) == 2
    if chosen:
        assert "value" not in told
    else:
        assert told["value"] == own


def test_a_run_without_a_checkpoint_puts_no_other_forward(tmp_path):
    checkpoint(tmp_path, "other")
    now, seen = ({"training": (tmp_path / "own", on, ())} for on in (False, True))
    offered = page._offered(AppState(tmp_path), seen, now, None)
    assert not getattr(offered, "constructor_args", offered).get("value")


def test_a_run_that_cannot_be_read_is_told_beside_how_it_ended(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("<half a manifest")
    desk, now = AppState(tmp_path), {}
    ended = {"running": False, "stopping": False, "seconds": 3.0, "code": 0}
    desk.training = SimpleNamespace(run=tmp_path / "run", **ended)
    status, cells, *_ = page._training(desk, {}, now)
    assert status == "Over after 0:03, complete: run"
    assert cells.startswith("Error: ")
    assert "run.json" in cells
    again, unchanged, *_ = page._training(desk, now, {})
    assert again == unchanged == gr.skip()


def test_checkpoints_are_offered_by_run_and_cell(tmp_path):
    for run in ("a", "b"):
        checkpoint(tmp_path, run)
    offered = [name for name, _ in page._choices(AppState(tmp_path))]
    assert sorted(offered) == ["a / cell", "b / cell"]
