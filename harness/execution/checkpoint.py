"""Checkpoints: named tensors and JSON in one safetensors file, with one sha256 over both.

The JSON, kept in the file's metadata, holds the learner's values, the cell and the whole
configuration, so a checkpoint can be scored on its own. Files are written beside their destination
and renamed: a crash leaves the previous checkpoint intact. Nothing is ever unpickled. The same
content can be exported to ``.npz``, which numpy alone can read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from harness.config import plugins
from harness.config.schema import RunConfig
from harness.config.validation import config_from_dict
from harness.errors import ArtefactError, UsageError
from harness.execution import npz
from harness.execution.cell_setup import build_setup
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import REPLAY, Learner, PolicySnapshot, State
from harness.reporting.store.files import write_atomically
from harness.reporting.store.records import POLICY_FILE, checkpoints_in
from harness.types import Cell
from policies.base import Params

FORMAT = 3
METADATA_KEY = "checkpoint"
KEPT = 2
"""Checkpoints that stay in a cell's folder."""
POLICY_TENSORS = ("params/", "obs/")
"""Prefixes of the tensors that acting needs: the policy's and the observation normaliser's."""


class CheckpointError(ArtefactError):
    """The file is not a checkpoint, is damaged, or does not fit the cell it names."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Content of a checkpoint file."""

    tensors: Params
    learner: dict[str, Any]
    """The learner's own JSON values, ``iteration`` among them."""
    run: dict[str, Any]
    """The driver's values: ``cell``, ``config``, ``wall_seconds``."""


def write(path: Path, checkpoint: Checkpoint) -> Path:
    """Write ``checkpoint`` to ``path``, as ``.npz`` or ``.safetensors`` by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous() for name, value in checkpoint.tensors.items()}
    body = {"format": FORMAT, "learner": checkpoint.learner, "run": checkpoint.run}
    text = json.dumps(body | {"sha256": _digest(body, tensors)})
    if path.suffix == ".npz":
        payload = npz.pack({name: value.numpy() for name, value in tensors.items()}, text)
    else:
        payload = safetensors.torch.save(tensors, {METADATA_KEY: text})
    write_atomically(path, payload)
    return path


def read(path: Path) -> Checkpoint:
    """Return the checkpoint at ``path``.

    Raises:
        CheckpointError: the file is missing, truncated, altered or of another kind.
    """
    try:
        tensors, text = _load(path)
        body = json.loads(text)
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT}")
        if body.pop("sha256", None) != _digest(body, tensors):
            raise CheckpointError(f"{path} was altered or damaged: its sha256 does not match")
        return Checkpoint(tensors, dict(body["learner"]), dict(body["run"]))
    except CheckpointError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"cannot read checkpoint {path}: {reason}") from error
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a valid checkpoint: {error}") from error


def _load(path: Path) -> tuple[Params, str]:
    """Return the tensors and the JSON text of a file, unchecked."""
    if path.suffix == ".npz":
        arrays, text = npz.unpack(path.read_bytes())
        return {name: torch.from_numpy(value) for name, value in arrays.items()}, text
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is not a checkpoint: expected .safetensors or .npz")
    payload = path.read_bytes()
    header = payload[8 : 8 + int.from_bytes(payload[:8], "little")]
    tensors: Params = safetensors.torch.load(payload)
    return tensors, json.loads(header)["__metadata__"][METADATA_KEY]


def _digest(body: Mapping[str, Any], tensors: Params) -> str:
    """Return the sha256 of the JSON and of the tensors' names, types, shapes and values."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def restore(path: Path, learner: Learner[Any]) -> State:
    """Return the learner state saved at ``path``.

    Raises:
        CheckpointError: the file is not a whole checkpoint, or it does not fit ``learner``.
    """
    return _restore(path, read(path), learner)


def stored_cell(path: Path, saved: Checkpoint) -> tuple[Cell, RunConfig]:
    """Return the cell and the configuration in a checkpoint.

    Raises:
        KeyError, TypeError, ValueError: they are missing, or not valid.
        UsageError: a component from outside is not here. Copies beside the file are named, but not
            used: whoever made the file could have any code run.
    """
    values = saved.run["config"]
    try:
        return Cell(**saved.run["cell"]), config_from_dict(values)
    except UsageError as error:
        outside = values.get("plugins", {})
        found = [f for p in path.resolve().parents[:4] for f in plugins.copies(outside, p).items()]
        hint = "".join(f" If you trust {copy}, copy it to {place}." for place, copy in found)
        raise UsageError(f"{error}{hint}") from error


def load_snapshot(path: Path) -> tuple[CellSetup, PolicySnapshot]:
    """Return the cell that ``path`` was trained on and the trained policy, ready to act.

    Raises:
        CheckpointError: the file is not a whole checkpoint, or it does not fit its own cell.
    """
    saved = read(path)
    try:
        cell, config = stored_cell(path, saved)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not name its cell: {error}") from error
    setup = build_setup(cell, config)
    return setup, _restore(path, saved, learners.build(setup)).snapshot()


def _restore(path: Path, saved: Checkpoint, learner: Learner[Any]) -> State:
    state: State = learner.init()
    try:
        state.load(saved.tensors, saved.learner)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # torch: shapes differ
        raise CheckpointError(f"{path} does not fit the cell it names: {error}") from error
    return state


def export_npz(source: Path, folder: Path) -> None:
    """Write the checkpoint at ``source`` as ``step_<iteration>.npz`` and as ``latest.npz``.

    A learner's replay is left out, so these can be scored but not trained on.
    """
    saved = read(source)
    tensors = {name: x for name, x in saved.tensors.items() if not name.startswith(REPLAY)}
    saved = replace(saved, tensors=tensors)
    write(folder / f"step_{int(saved.learner['iteration'])}.npz", saved)
    write(folder / "latest.npz", saved)


def export_policy(source: Path, folder: Path) -> Path:
    """Write the checkpoint at ``source`` without its optimiser to ``folder / POLICY_FILE``.

    The file is read like any other checkpoint and scores exactly like the original.
    """
    saved = read(source)
    tensors = {
        name: value for name, value in saved.tensors.items() if name.startswith(POLICY_TENSORS)
    }
    return write(folder / POLICY_FILE, Checkpoint(tensors, saved.learner, saved.run))


def path_of(folder: Path, iteration: int) -> Path:
    """Return the path of the checkpoint written after ``iteration``."""
    return folder / f"iteration-{iteration:06d}.safetensors"


def latest(folder: Path, on_damaged: Callable[[Path, str], None]) -> tuple[Path, Checkpoint] | None:
    """Return the newest undamaged checkpoint in ``folder``.

    Damaged ones are reported to ``on_damaged`` and renamed to ``.damaged``.

    Raises:
        OSError: the disk does not give it, which says nothing about the checkpoint.
    """
    for path in reversed(checkpoints_in(folder)):
        try:
            return path, read(path)
        except CheckpointError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from error
            on_damaged(path, str(error))
            path.rename(path.with_suffix(".damaged"))
    return None


def save(path: Path, state: State, run: dict[str, Any]) -> None:
    """Write a learner's state as a checkpoint and delete all but the newest ``KEPT`` beside it."""
    tensors, meta = state.save()
    write(path, Checkpoint(tensors, meta, run))
    for old in checkpoints_in(path.parent)[:-KEPT]:
        old.unlink()
