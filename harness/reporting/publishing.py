"""Copying a complete run or sweep to where it is tracked by git."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.reporting.rebuild import load_comparison, rebuild
from harness.reporting.store.files import remove_temporaries, run_path, sync_folder
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.sweep_manifest import (
    CELLS,
    FILE,
    SETTINGS,
    SweepManifest,
    replay_command,
)
from harness.reporting.sweeps import rebuild_sweep, sweep_tables

MAX_CHECKPOINT_BYTES = 5_000_000
"""Largest checkpoint, all files of one cell together, that goes into git; the cells of a sweep
share it."""
KINDS = {
    "records": {".parquet"},
    "curves": {".parquet"},
    "checkpoints": {".safetensors", ".json"},
}
"""What is copied from each folder; tables and figures are made anew from it."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was written, and what was left out."""

    path: Path
    files: tuple[Path, ...]
    """Relative to ``path``."""
    left_out: tuple[str, ...]
    """Ids of the cells whose checkpoint is too large."""


def publish(run_dir: Path, name: str, published_dir: Path) -> Published:
    """Copy the run or sweep in ``run_dir`` to ``published_dir/name``, whole or not at all.

    Tables and figures are rebuilt there from the copied records: they are what the records say.

    Raises:
        ValueError: there is no such run, a cell is not ok, or the name is taken or leaves the
            folder.
        ArtefactError: a file of the run is malformed.
    """
    published_dir.mkdir(parents=True, exist_ok=True)
    target = run_path(published_dir, name)
    if target.exists():
        raise ValueError(f"{target} exists and is never overwritten. Publish under another name")
    is_sweep = (run_dir / FILE).is_file()
    _refuse_unfinished(run_dir, *(_state_of_sweep(run_dir) if is_sweep else _state_of_run(run_dir)))
    staging = published_dir / f".{name}.{os.getpid()}.tmp"
    try:
        if is_sweep:
            left_out = _copy_sweep(run_dir, staging, target)
            rebuild_sweep(staging)
        else:
            left_out = _copy(run_dir, staging, MAX_CHECKPOINT_BYTES)
            rebuild(staging)
        remove_temporaries(staging)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync_folder(published_dir)
    files = sorted(path.relative_to(target) for path in target.rglob("*") if path.is_file())
    return Published(target, tuple(files), left_out)


def _state_of_run(run_dir: Path) -> tuple[list[str], int, str]:
    """Return the cells that are not complete, the number of all, and what completes them."""
    table, manifest = load_comparison(run_dir)
    again = "--resume" if manifest.resumable else ""
    return [*table.failed, *table.missing], len(manifest.cells), again


def _state_of_sweep(folder: Path) -> tuple[list[str], int, str]:
    tables = sweep_tables(folder).tables.values()
    left = [key for table in tables for key in (*table.failed, *table.missing)]
    again = "--resume --retry-failed" if any(table.failed for table in tables) else "--resume"
    return left, len(SweepManifest.load(folder).cells), again


def _refuse_unfinished(run_dir: Path, unfinished: Sequence[str], cells: int, again: str) -> None:
    if unfinished:
        remedy = (
            f"Continue it with {again}, then publish"
            if again
            else "It cannot be taken up again: start a new one, and publish that"
        )
        raise ValueError(
            f"{run_dir} is not complete: {len(unfinished)} of {cells} cells are not "
            f"ok ({', '.join(unfinished)}). {remedy}"
        )


def _copy_sweep(folder: Path, target: Path, published: Path) -> tuple[str, ...]:
    """Copy a sweep cell by cell, each a run of its own that the command in it plays again."""
    (target / CELLS).mkdir(parents=True)
    shutil.copyfile(folder / FILE, target / FILE)
    keys = SweepManifest.load(folder).cells
    left_out: list[str] = []
    for key in keys:
        cell, copy = folder / CELLS / key, target / CELLS / key
        left_out += _copy(cell, copy, MAX_CHECKPOINT_BYTES // len(keys))
        if (cell / SETTINGS).is_file() and not (cell / SETTINGS).is_symlink():
            shutil.copyfile(cell / SETTINGS, copy / SETTINGS)
            again = {"command": replay_command(published / CELLS / key)}
            manifest = Manifest.load(copy / "manifest.json")
            manifest.model_copy(update=again).save(copy / "manifest.json")
    return tuple(left_out)


def _copy(run_dir: Path, target: Path, most_checkpoint_bytes: int) -> tuple[str, ...]:
    manifest = Manifest.load(run_dir / "manifest.json")
    target.mkdir()
    for kind in KINDS:
        (target / kind).mkdir()
    sizes: dict[str, list[Path]] = {}
    for path in _files(run_dir):
        if path.relative_to(run_dir).parts[0] == "checkpoints":
            sizes.setdefault(_owner(path.relative_to(run_dir).parts[1], manifest), []).append(path)
        else:
            shutil.copyfile(path, target / path.relative_to(run_dir))
    left_out = []
    for cell, paths in sorted(sizes.items()):
        if sum(path.stat().st_size for path in paths) > most_checkpoint_bytes:
            left_out.append(cell)
            continue
        for path in paths:
            copy = target / path.relative_to(run_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return tuple(left_out)


def _files(run_dir: Path) -> Iterator[Path]:
    """Yield the regular files worth publishing; links could lead out of the run."""
    for path in (run_dir / "manifest.json", run_dir / "events.jsonl"):
        if path.is_file() and not path.is_symlink():
            yield path
    for kind, suffixes in KINDS.items():
        for path in sorted((run_dir / kind).rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(run_dir).parts)
            if path.suffix in suffixes and path.is_file() and not path.is_symlink() and not hidden:
                yield path


def _owner(name: str, manifest: Manifest) -> str:
    """Return the id of the cell a checkpoint's name begins with, else the name."""
    owners = [key for key in manifest.cells if name == key or name.startswith(f"{key}.")]
    return max(owners, key=len, default=name)
