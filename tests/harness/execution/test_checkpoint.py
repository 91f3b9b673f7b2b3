"""Checkpoints: what was written comes back bit for bit, and anything else is refused."""

import contextlib
import dataclasses
import itertools
import os
import pickle
import re
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import policies
from harness.cli import parser, run
from harness.config.schema import config_as_dict
from harness.execution import checkpoint as checkpoints
from harness.execution import npz
from harness.execution.cell_setup import build_setup
from harness.execution.checkpoint import Checkpoint, CheckpointError
from harness.execution.learner_host import LearnerHost
from harness.meta import learners

pytestmark = pytest.mark.faults
SUFFIXES = (".safetensors", ".npz")


def example(value=1.0):
    tensors = {
        "params/w": torch.full((3, 2), value),
        "params/extremes": torch.tensor([[1.0, -0.0], [torch.inf, 1e-45]]),
        "adam/step/w": torch.tensor(7.0),
        "obs/total": torch.tensor([0.1 + 0.2], dtype=torch.float64),
        "count": torch.tensor([2**62], dtype=torch.int64),
    }
    return Checkpoint(tensors, {"iteration": 7, "mean": 0.1 + 0.2}, {"cell": {"seed": 0}})


def assert_same(left, right):
    assert (left.learner, left.run) == (right.learner, right.run)
    assert left.tensors.keys() == right.tensors.keys()
    for name, value in left.tensors.items():
        assert value.dtype == right.tensors[name].dtype
        assert value.shape == right.tensors[name].shape
        assert value.numpy().tobytes() == right.tensors[name].numpy().tobytes()


@pytest.fixture
def path(tmp_path):
    return checkpoints.write(tmp_path / "cell" / "iteration-000007.safetensors", example())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_comes_back_from_one_file(tmp_path, suffix):
    path = checkpoints.write(tmp_path / f"x{suffix}", example())
    assert_same(checkpoints.read(path), example())
    assert list(tmp_path.iterdir()) == [path]


def test_converting_to_npz_and_back_gives_the_same_file(path, tmp_path):
    there = checkpoints.write(tmp_path / "x.npz", checkpoints.read(path))
    back = checkpoints.write(tmp_path / "x.safetensors", checkpoints.read(there))
    assert back.read_bytes() == path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
def test_no_flipped_bit_changes_a_value_unnoticed(data, suffix, tmp_path_factory):
    path = checkpoints.write(tmp_path_factory.mktemp("c") / f"x{suffix}", example())
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        back = checkpoints.read(path)
    except CheckpointError:
        return
    # Only a digit beyond a float's precision, or zip's own bookkeeping, may change.
    assert_same(back, example())


def test_every_flipped_bit_of_an_npz_is_survived():
    content = npz.pack({"w": np.arange(3.0)}, "{}")
    for at, bit in itertools.product(range(len(content)), range(8)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        with contextlib.suppress(ValueError):
            npz.unpack(bytes(flipped))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 4, 10, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, suffix, keep):
    path = checkpoints.write(tmp_path / f"x{suffix}", example())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError):
        checkpoints.read(path)


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.npz", "folder.safetensors"])
def test_what_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=name):
        checkpoints.read(tmp_path / name)


@pytest.mark.parametrize("body", ["[]", "null", "{}", '{"format": 99}', "[" * 100_000])
def test_json_that_is_no_checkpoint_is_refused(path, body):
    path.write_bytes(safetensors.torch.save({}, {checkpoints.METADATA_KEY: body}))
    with pytest.raises(CheckpointError):
        checkpoints.read(path)


def test_safetensors_of_another_program_are_refused(path):
    path.write_bytes(safetensors.torch.save(example().tensors))
    with pytest.raises(CheckpointError):
        checkpoints.read(path)


@pytest.mark.parametrize("part", ["learner", "tensors"])
def test_the_digest_covers_every_part(path, part):
    other = example(2.0) if part == "tensors" else dataclasses.replace(example(), learner={})
    donor = checkpoints.write(path.with_name("other.safetensors"), other)
    ours, theirs = (
        re.search(rb'sha256\\": \\"(\w{64})', file.read_bytes())[1] for file in (path, donor)
    )
    donor.write_bytes(donor.read_bytes().replace(theirs, ours))
    with pytest.raises(CheckpointError):
        checkpoints.read(donor)


def test_another_format_with_a_right_digest_is_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    checkpoints.write(path, example())
    monkeypatch.undo()
    with pytest.raises(CheckpointError):
        checkpoints.read(path)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.npz"])
@pytest.mark.parametrize("kind", ["pickle", "torch", "zip", "npz"])
def test_no_pickle_is_ever_opened(tmp_path, name, kind):
    marker, path = tmp_path / "executed", tmp_path / name
    bomb = Bomb(marker)
    if kind == "torch":
        torch.save({"params": bomb}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(bomb))
    else:
        with path.open("wb") as file:
            np.savez(file, evil=np.array([bomb], object), **{npz.TEXT: np.zeros(2, np.uint8)})
    with pytest.raises(CheckpointError):
        checkpoints.read(path)
    if name == "x.npz":
        assert run.main(["eval", "--checkpoint", str(path), "--backend", "local"]) == 5
    assert not marker.exists()
    pickle.loads(pickle.dumps(bomb))
    assert marker.exists(), "the bomb is a dud"


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAX_BYTES", 10_000)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(20_000))
    with pytest.raises(CheckpointError, match="20000 bytes"):
        checkpoints.read(path)


def fill(folder, *iterations):
    for iteration in iterations:
        checkpoints.write(checkpoints.path_of(folder, iteration), example(iteration))


def test_the_newest_is_found_by_number_not_by_name(tmp_path):
    fill(tmp_path, 9, 10, 100_000)
    path, saved = checkpoints.latest(tmp_path, lambda *_: pytest.fail("none is damaged"))
    assert path == checkpoints.path_of(tmp_path, 100_000)
    assert saved.tensors["params/w"][0, 0] == 100_000


def test_damaged_ones_are_set_aside_and_the_previous_one_is_used(tmp_path):
    fill(tmp_path, 1, 2, 3)
    checkpoints.path_of(tmp_path, 3).write_bytes(b"half")
    flipped = bytearray(checkpoints.path_of(tmp_path, 2).read_bytes())
    flipped[-1] ^= 1
    checkpoints.path_of(tmp_path, 2).write_bytes(flipped)
    reported = []
    path, _ = checkpoints.latest(tmp_path, lambda path, reason: reported.append(path.stem))
    assert path == checkpoints.path_of(tmp_path, 1)
    assert reported == ["iteration-000003", "iteration-000002"]
    assert (tmp_path / "iteration-000003.damaged").read_bytes() == b"half"
    checkpoints.latest(tmp_path, lambda *_: pytest.fail("reported twice"))


def test_what_the_disk_does_not_give_is_not_set_aside(tmp_path, monkeypatch):
    fill(tmp_path, 1, 2)
    before = sorted(tmp_path.iterdir())

    def stale(path):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(checkpoints, "_load", stale)
    with pytest.raises(OSError, match="Stale"):
        checkpoints.latest(tmp_path, lambda *_: pytest.fail("none is damaged"))
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_found_where_there_is_nothing(tmp_path):
    assert checkpoints.latest(tmp_path / "absent", lambda *_: None) is None


def test_saving_keeps_the_newest_two(tmp_path):
    state = SimpleNamespace(save=lambda: (example().tensors, example().learner))
    for iteration in (1, 2, 3, 10):
        checkpoints.save(checkpoints.path_of(tmp_path, iteration), state, {})
    assert sorted(tmp_path.iterdir()) == [checkpoints.path_of(tmp_path, n) for n in (3, 10)]
    for iteration in (999_980, 999_990, 1_000_000):
        checkpoints.save(checkpoints.path_of(tmp_path, iteration), state, {})
    kept = {checkpoints.path_of(tmp_path, n) for n in (999_990, 1_000_000)}
    assert set(tmp_path.iterdir()) == kept
    assert checkpoints.latest(tmp_path, lambda *_: None)[0].stem == "iteration-1000000"


def test_a_crash_while_writing_leaves_the_previous_one_readable(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.write(checkpoints.path_of(path.parent, 8), example())
    assert checkpoints.latest(path.parent, lambda *_: pytest.fail("half a file"))[0] == path
    assert list(path.parent.iterdir()) == [path]


def test_npz_export_names_the_iteration_and_the_latest(path, tmp_path):
    checkpoints.export_npz(path, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "latest.npz",
        "step_7.npz",
    ]
    assert_same(checkpoints.read(tmp_path / "out" / "latest.npz"), example())


def trained(folder, policy):
    """A checkpoint of an untrained learner whose optimiser and normaliser have been used."""
    config = parser.load_config(["--task-dist", "halfcheetah-vel", "--policy", policy])
    (cell,) = config.cells
    learner = learners.build(build_setup(cell, config))
    state = learner.init()
    state.adam_step({name: torch.ones_like(value) for name, value in state.params.items()})
    state.moments = dataclasses.replace(state.moments, count=3.0, total=state.moments.total + 1)
    values = {"cell": dataclasses.asdict(cell), "config": config_as_dict(config)}
    path = checkpoints.path_of(folder, 0)
    checkpoints.write(path, Checkpoint(*state.save(), values))
    return path, learner, state.snapshot(), config


def assert_same_policy(left, right):
    assert left.params.keys() == right.params.keys()
    assert all(torch.equal(value, right.params[name]) for name, value in left.params.items())
    assert torch.equal(left.normalizer.mean, right.normalizer.mean)
    assert torch.equal(left.normalizer.std, right.normalizer.std)
    assert left.return_scale == right.return_scale


@pytest.mark.parametrize("policy", list(policies.names()))
def test_an_inference_checkpoint_is_small_and_holds_the_same_policy(tmp_path, policy):
    path, learner, before, config = trained(tmp_path, policy)
    small = checkpoints.export_policy(path, tmp_path)
    assert small.stat().st_size < min(200_000, path.stat().st_size / 2)
    setup, after = checkpoints.load_snapshot(small)
    assert setup.cell == config.cells[0]
    assert_same_policy(after, before)
    assert_same_policy(checkpoints.restore(path, learner).snapshot(), before)
    host = LearnerHost(config)
    host.open(setup.cell, small)
    assert_same_policy(host.snapshot(), before)
    path.unlink()
    assert checkpoints.latest(tmp_path, lambda *_: pytest.fail("none is damaged")) is None


def test_a_checkpoint_that_does_not_fit_its_cell_is_refused(tmp_path):
    path, learner, *_ = trained(tmp_path, "mlp")
    saved = checkpoints.read(path)
    saved.tensors.pop("obs/total")
    checkpoints.write(path, saved)
    for load in (checkpoints.load_snapshot, lambda path: checkpoints.restore(path, learner)):
        with pytest.raises(CheckpointError):
            load(path)
