"""Checkpoints: safetensors for the numbers, JSON for the rest, sha256 over both; no pickle.

A checkpoint is ``<stem>.safetensors`` and ``<stem>.json``; the JSON carries the digest of the
tensors and of itself, the cell and the whole configuration, so that a checkpoint can be scored
alone. Both are written beside their place and renamed: a crash leaves the one before intact.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from policies.base import Params

FORMAT = 1


class CheckpointError(ValueError):
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
    """Write ``checkpoint`` to ``path`` (``*.safetensors``) and its JSON beside it."""
    tensors = {name: value.detach().contiguous() for name, value in checkpoint.tensors.items()}
    payload = safetensors.torch.save(tensors)
    body = {
        "format": FORMAT,
        "tensors_sha256": hashlib.sha256(payload).hexdigest(),
        "learner": checkpoint.learner,
        "run": checkpoint.run,
    }
    body["sha256"] = _digest(body)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, payload)
    _replace(path.with_suffix(".json"), json.dumps(body, indent=1).encode())
    return path


def read(path: Path) -> Checkpoint:
    """Return the checkpoint at ``path``.

    Raises:
        CheckpointError: a file is missing, truncated, altered or of another kind.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is no checkpoint: give the .safetensors file of one")
    side = path.with_suffix(".json")
    try:
        payload, body = path.read_bytes(), json.loads(side.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}: {error.filename} is missing") from error
    except ValueError as error:
        raise CheckpointError(f"{side} is not JSON: {error}") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(f"{side} is not a checkpoint of format {FORMAT}")
    claimed = body.pop("sha256", None)
    if claimed != _digest(body):
        raise CheckpointError(f"{side} was altered or damaged: its sha256 does not match")
    if hashlib.sha256(payload).hexdigest() != body["tensors_sha256"]:
        raise CheckpointError(f"{path} was altered or damaged: its sha256 does not match")
    tensors: Params = safetensors.torch.load(payload)
    return Checkpoint(tensors, body["learner"], body["run"])


def path_of(folder: Path, iteration: int) -> Path:
    """Return where the checkpoint after ``iteration`` lies."""
    return folder / f"iteration-{iteration:06d}.safetensors"


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


def _replace(path: Path, payload: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
