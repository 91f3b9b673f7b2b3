"""Checkpoints as npz: the same checkpoint in one file that numpy opens, and nothing executable."""

import os
import zipfile

import numpy as np
import pytest
import torch

from harness.cli import run
from harness.execution import checkpoint as checkpoints
from harness.execution import npz
from harness.execution.checkpoint import Checkpoint, CheckpointError

EXAMPLE = Checkpoint(
    {
        "params/core.w": torch.tensor([[1.0, -0.0], [torch.inf, 1e-45]]),
        "adam/step/core.w": torch.tensor(7.0),
        "obs/total": torch.tensor([0.1 + 0.2], dtype=torch.float64),
        "count": torch.tensor([2**62], dtype=torch.int64),
    },
    {"iteration": 7, "mean": 0.1 + 0.2},
    {"cell": {"seed": 0}},
)


class Pwned:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def same(left: Checkpoint, right: Checkpoint) -> bool:
    assert left.tensors.keys() == right.tensors.keys()
    return (left.learner, left.run) == (right.learner, right.run) and all(
        value.dtype == right.tensors[name].dtype
        and value.shape == right.tensors[name].shape
        and value.numpy().tobytes() == right.tensors[name].numpy().tobytes()
        for name, value in left.tensors.items()
    )


def test_both_kinds_hold_the_same_to_the_last_bit(tmp_path):
    first = checkpoints.write(tmp_path / "a.safetensors", EXAMPLE)
    second = checkpoints.write(tmp_path / "b.npz", checkpoints.read(first))
    third = checkpoints.write(tmp_path / "c.safetensors", checkpoints.read(second))
    assert same(checkpoints.read(second), EXAMPLE)
    assert third.read_bytes() == first.read_bytes()
    assert third.with_suffix(".json").read_bytes() == first.with_suffix(".json").read_bytes()


def test_export_names_the_iteration_and_the_latest(tmp_path):
    source = checkpoints.write(tmp_path / "a.safetensors", EXAMPLE)
    checkpoints.export(source, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["latest.npz", "step_7.npz"]
    assert same(checkpoints.read(tmp_path / "out" / "latest.npz"), EXAMPLE)


def test_a_pickle_inside_is_refused_with_exit_code_5_and_never_run(tmp_path, capsys):
    marker, path = tmp_path / "marker", tmp_path / "x.npz"
    arrays = npz.unpack(npz.pack({"params/w": np.ones(2)}, "{}"))[0]
    hostile = np.array([Pwned(marker)], dtype=object)
    np.savez(path, **arrays, evil=hostile, **{npz.TEXT: np.frombuffer(b"{}", np.uint8)})
    assert run.main(["eval", "--checkpoint", str(path), "--backend", "local"]) == 5
    assert "allow_pickle=False" in capsys.readouterr().err
    assert not marker.exists()
    np.load(path, allow_pickle=True)["evil"]  # the trap works: this is what must not happen
    assert marker.exists()


def test_damage_is_noticed(tmp_path):
    path = checkpoints.write(tmp_path / "x.npz", EXAMPLE)
    whole = path.read_bytes()
    arrays, text = npz.unpack(whole)
    arrays["params/core.w"] = arrays["params/core.w"] * 2
    for content in (whole[:100], b"", b"PK\5\6" + bytes(18), npz.pack(arrays, text)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            checkpoints.read(path)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAX_BYTES", 10_000)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(20_000))
    with pytest.raises(CheckpointError, match="unpacks to 20000 bytes"):
        checkpoints.read(path)
