"""Checkpoints: what was written comes back, and nothing else is taken for one."""

import json
import os
import pickle
import shutil
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.execution import checkpoint as checkpoints
from harness.execution.checkpoint import Checkpoint, CheckpointError

pytestmark = pytest.mark.faults


def example(value=1.0):
    tensors = {"params/w": torch.full((3, 2), value), "adam/step/w": torch.tensor(7.0)}
    return Checkpoint(tensors, {"iteration": 7, "mean": 0.1 + 0.2}, {"cell": {"seed": 0}})


@pytest.fixture
def path(tmp_path):
    return checkpoints.write(tmp_path / "cell" / "iteration-000007.safetensors", example())


def test_what_was_written_comes_back(path):
    back, want = checkpoints.read(path), example()
    assert (back.learner, back.run) == (want.learner, want.run)
    assert back.tensors.keys() == want.tensors.keys()
    assert all(torch.equal(back.tensors[key], want.tensors[key]) for key in want.tensors)
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "iteration-000007.json",
        "iteration-000007.safetensors",
    ]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_changes_a_value_unnoticed(data, tmp_path_factory):
    path = checkpoints.write(tmp_path_factory.mktemp("c") / "x.safetensors", example())
    victim = data.draw(st.sampled_from([path, path.with_suffix(".json")]))
    content = bytearray(victim.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    victim.write_bytes(content)
    try:
        back = checkpoints.read(path)
    except CheckpointError:
        return
    # A digit beyond a float's precision is the one thing that may change.
    assert victim.suffix == ".json"
    assert (back.learner, back.run) == (example().learner, example().run)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_truncated_half_is_refused(path, suffix, keep):
    victim = path.with_suffix(suffix)
    victim.write_bytes(victim.read_bytes()[:keep])
    with pytest.raises(CheckpointError):
        checkpoints.read(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_half_is_named(path, suffix):
    path.with_suffix(suffix).unlink()
    with pytest.raises(CheckpointError, match=f"iteration-000007{suffix}"):
        checkpoints.read(path)


@pytest.mark.parametrize("body", ["[]", "null", "{}", '{"format": 99}', "[" * 100_000])
def test_json_that_is_no_checkpoint_is_refused(path, body):
    path.with_suffix(".json").write_text(body)
    with pytest.raises(CheckpointError):
        checkpoints.read(path)


def test_a_half_of_another_checkpoint_is_refused(path, tmp_path):
    other = checkpoints.write(tmp_path / "other.safetensors", example(2.0))
    shutil.copy(other, path)
    with pytest.raises(CheckpointError, match="altered or damaged"):
        checkpoints.read(path)


def test_another_format_with_right_digests_is_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    checkpoints.write(path, example())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2"):
        checkpoints.read(path)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize("kind", ["pickle", "torch", "zip"])
def test_no_pickle_is_ever_opened(tmp_path, name, kind):
    marker, path = tmp_path / "executed", tmp_path / name
    bomb = Bomb(marker)
    if kind == "torch":
        torch.save({"params": bomb}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(bomb))
    if kind != "zip":  # both halves hostile
        shutil.copy(path, path.with_suffix(".json"))
    with pytest.raises(CheckpointError):
        checkpoints.read(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(bomb))
    assert marker.exists(), "the bomb is a dud"


def fill(folder, *iterations):
    for iteration in iterations:
        checkpoints.write(checkpoints.path_of(folder, iteration), example(iteration))


def test_the_newest_is_found_by_number_not_by_name(tmp_path):
    fill(tmp_path, 9, 10, 100_000)
    path, found = checkpoints.latest(tmp_path, lambda *_: pytest.fail("none is damaged"))
    assert path == checkpoints.path_of(tmp_path, 100_000)
    assert found.tensors["params/w"][0, 0] == 100_000


def test_damaged_ones_are_set_aside_and_the_one_before_is_found(tmp_path):
    fill(tmp_path, 1, 2, 3)
    checkpoints.path_of(tmp_path, 3).write_bytes(b"half")
    checkpoints.path_of(tmp_path, 2).with_suffix(".json").unlink()
    told = []
    path, _ = checkpoints.latest(tmp_path, lambda path, reason: told.append(path.stem))
    assert path == checkpoints.path_of(tmp_path, 1)
    assert told == ["iteration-000003", "iteration-000002"]
    assert (tmp_path / "iteration-000003.damaged").read_bytes() == b"half"
    checkpoints.latest(tmp_path, lambda *_: pytest.fail("told twice"))


def test_nothing_is_found_where_there_is_nothing(tmp_path):
    assert checkpoints.latest(tmp_path / "absent", lambda *_: None) is None


def test_pruning_keeps_the_newest_two_whole(tmp_path):
    fill(tmp_path, 1, 2, 3, 10)
    checkpoints.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"iteration-{number:06d}.{suffix}"
        for number in (3, 10)
        for suffix in ("json", "safetensors")
    ]


def test_a_crash_while_writing_leaves_the_one_before_readable(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    newer = checkpoints.path_of(path.parent, 8)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.write(newer, example())
    assert checkpoints.latest(path.parent, lambda *_: pytest.fail("a half was left"))[0] == path
    assert not [file for file in path.parent.iterdir() if file.name.startswith(".")]


def test_the_digest_is_over_every_value(path):
    side = path.with_suffix(".json")
    body = json.loads(side.read_text())
    body["learner"]["iteration"] = 8
    side.write_text(json.dumps(body))
    with pytest.raises(CheckpointError, match="altered"):
        checkpoints.read(path)
