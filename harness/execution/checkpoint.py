"""Checkpoints: safetensors for the numbers, JSON for the rest, sha256 over both; no pickle.

A checkpoint is ``<stem>.safetensors`` and ``<stem>.json``; the JSON carries the digest of the
tensors and of itself, the cell and the whole configuration, so that a checkpoint can be scored
alone. Both are written beside their place and renamed: a crash leaves the one before intact.
The same in one file that numpy alone can open is ``<stem>.npz``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from harness.errors import ArtefactError
from harness.execution import npz
from harness.reporting.store.files import write_atomically
from policies.base import Params

FORMAT = 2
OTHERS = "networks and action scales were others before; take the revision that wrote it"


class CheckpointError(ArtefactError):
    """The file is not a checkpoint of ours, or not whole."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file holds."""

    tensors: Params
    learner: dict[str, Any]
    """The learner's own JSON values."""
    run: dict[str, Any]
    """Cell, configuration and whatever else the driver wants back."""


def write(path: Path, checkpoint: Checkpoint) -> Path:
    """Write ``checkpoint`` to ``path``: ``*.npz``, or ``*.safetensors`` and its JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        arrays = {name: value.detach().numpy() for name, value in checkpoint.tensors.items()}
        text = json.dumps(_body(checkpoint, npz.digest(arrays)))
        write_atomically(path, npz.pack(arrays, text))
        return path
    tensors = {name: value.detach().contiguous() for name, value in checkpoint.tensors.items()}
    payload = safetensors.torch.save(tensors)
    body = _body(checkpoint, hashlib.sha256(payload).hexdigest())
    write_atomically(path, payload)
    write_atomically(path.with_suffix(".json"), json.dumps(body, indent=1).encode())
    return path


def _body(checkpoint: Checkpoint, tensors_sha256: str) -> dict[str, Any]:
    body = {
        "format": FORMAT,
        "tensors_sha256": tensors_sha256,
        "learner": checkpoint.learner,
        "run": checkpoint.run,
    }
    return body | {"sha256": _digest(body)}


def read(path: Path) -> Checkpoint:
    """Return the checkpoint at ``path``, of either kind.

    Raises:
        CheckpointError: a file is missing, truncated, altered or of another kind.
    """
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is no checkpoint: give the .safetensors or .npz file of one")
    payload, side = _bytes(path), path.with_suffix(".json")
    body = _checked(path, _parsed(side, _bytes(side)), hashlib.sha256(payload).hexdigest())
    try:
        tensors: Params = safetensors.torch.load(payload)
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} holds no tensors: {error}") from error
    return Checkpoint(tensors, body["learner"], body["run"])


def _read_npz(path: Path) -> Checkpoint:
    try:
        arrays, text = npz.unpack(_bytes(path))
        body = _checked(path, _parsed(path, text), npz.digest(arrays))
        tensors: Params = {name: torch.from_numpy(value) for name, value in arrays.items()}
    except (ValueError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is refused: {error}") from error
    return Checkpoint(tensors, body["learner"], body["run"])


def _checked(path: Path, body: dict[str, Any], tensors_sha256: str) -> dict[str, Any]:
    """Return ``body`` if it is whole and says what the tensors are of."""
    if body.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of format {FORMAT}: {OTHERS}")
    claimed = body.pop("sha256", None)
    if claimed != _digest(body):
        raise CheckpointError(f"{path} was altered or damaged: the sha256 of its JSON differs")
    if body.get("tensors_sha256") != tensors_sha256:
        raise CheckpointError(f"{path} was altered or damaged: its sha256 differs")
    if not isinstance(body.get("learner"), dict) or not isinstance(body.get("run"), dict):
        raise CheckpointError(f"{path} does not say what it is of")
    return body


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"no checkpoint {path}: {error.strerror}") from error


def _parsed(side: Path, text: str | bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{side} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise CheckpointError(f"{side} is no checkpoint of format {FORMAT}: {OTHERS}")
    return body


def path_of(folder: Path, iteration: int) -> Path:
    """Return where the checkpoint after ``iteration`` lies."""
    return folder / f"iteration-{iteration:06d}.safetensors"


def export(source: Path, folder: Path) -> None:
    """Write the checkpoint at ``source`` as ``step_<iteration>.npz`` and as ``latest.npz``."""
    found = read(source)
    write(folder / f"step_{int(found.learner['iteration'])}.npz", found)
    write(folder / "latest.npz", found)


def latest(folder: Path, on_damaged: Callable[[Path, str], None]) -> tuple[Path, Checkpoint] | None:
    """Return the newest readable checkpoint; damaged ones are reported and set aside."""
    for path in sorted(folder.glob("iteration-*.safetensors"), reverse=True):
        try:
            return path, read(path)
        except CheckpointError as error:
            on_damaged(path, str(error))
            path.rename(path.with_suffix(".damaged"))
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints."""
    for path in sorted(folder.glob("iteration-*.safetensors"))[:-keep]:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
