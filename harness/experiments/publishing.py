"""Copying a run, or its finished cells, to where it is tracked by git."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.config import plugins
from harness.errors import UsageError
from harness.execution import checkpoint
from harness.reporting.rebuild import CELL_CONFIG, exit_code, load_tables, rebuild
from harness.reporting.store.checksums import SUBMISSION_FILE, sha256_of, write_checksums
from harness.reporting.store.files import remove_temporaries, run_path, sync_folder
from harness.reporting.store.manifest import (
    CELLS_DIR,
    MODELS_DIR,
    PLUGINS_DIR,
    RUN_FILE,
    STATE_FILE,
    CellInfo,
    Manifest,
)
from harness.reporting.store.records import CellFolder

MAX_POLICY_BYTES = 1_000_000
"""Largest trained policy of a cell that is put under version control."""
MAX_MODEL_BYTES = 10_000_000
"""Largest model from elsewhere that is put under version control."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was written, and what was left out."""

    path: Path
    files: tuple[Path, ...]
    """Relative to ``path``."""
    left_out: tuple[str, ...]
    """Keys of the cells whose trained policy or model is missing, changed or too large."""


def publish(run: Path, name: str, published_dir: Path, *, partial: bool = False) -> Published:
    """Copy the run in the folder ``run`` to ``published_dir/name``, whole or not at all.

    Tables and figures are rebuilt there from the copied records.

    Args:
        run: folder of the run.
        name: name of the published folder.
        published_dir: where it is written.
        partial: copy the cells that have ended, and replace an earlier copy of the same run. The
            tables name the cells that are missing.

    Raises:
        UsageError: there is no such run, a cell is not complete (with ``partial``: none is), or the
            name is taken or leaves the folder.
        ArtefactError: a file of the run is malformed.
    """
    published_dir.mkdir(parents=True, exist_ok=True)
    target = run_path(published_dir, name)
    if partial:
        _check_begun(run, target)
    elif target.exists():
        raise UsageError(f"{target} exists and is never overwritten. Publish under another name")
    else:
        _check_complete(run)
    staging = published_dir / f".{name}.{os.getpid()}.tmp"
    replaced = staging.with_suffix(".old")
    try:
        left_out = _copy(run, staging)
        rebuild(staging)
        remove_temporaries(staging)
        if (target / SUBMISSION_FILE).exists():  # written by hand
            shutil.copy2(target / SUBMISSION_FILE, staging)
        write_checksums(staging)
        if target.exists():
            target.rename(replaced)
        staging.rename(target)
    finally:
        if replaced.exists() and not target.exists():  # stopped between the two
            replaced.rename(target)
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    sync_folder(published_dir)
    files = sorted(path.relative_to(target) for path in target.rglob("*") if path.is_file())
    return Published(target, tuple(files), left_out)


def _check_complete(run: Path) -> None:
    tables, manifest = load_tables(run), Manifest.load(run)
    if not exit_code(tables):
        return
    unfinished = sorted({key for table in tables for key in (*table.failed, *table.missing)})
    remedy = (
        "Continue it with --resume, then publish"
        if manifest.resumable
        else "It cannot be resumed: start a new one, and publish that"
    )
    raise UsageError(
        f"{run} is not complete: {len(unfinished)} of {len(manifest.cells)} cells are not ok "
        f"({', '.join(unfinished)}). {remedy}"
    )


def _check_begun(run: Path, target: Path) -> None:
    manifest = Manifest.load(run)
    if not manifest.ids("ok"):
        raise UsageError(f"{run}: no cell is complete yet. Publish it later")
    if target.exists() and Manifest.load(target).created != manifest.created:
        raise UsageError(f"{target} holds another run. Publish under another name")


def _copy(run: Path, target: Path) -> tuple[str, ...]:
    """Copy what is published of the cells that have ended; return those without a policy."""
    (target / CELLS_DIR).mkdir(parents=True)
    for name in (RUN_FILE, "events.jsonl"):
        _copy_file(run / name, target / name)
    for source in sorted((run / PLUGINS_DIR).glob("*.py")):
        (target / PLUGINS_DIR).mkdir(exist_ok=True)
        _copy_file(source, target / PLUGINS_DIR / source.name)
    left_out = []
    manifest = Manifest.load(run)
    for key, entry in manifest.entries.items():
        cell, copy = CellFolder(run / CELLS_DIR / key), CellFolder(target / CELLS_DIR / key)
        if entry.status == "running" or not cell.path.is_dir():
            continue
        copy.path.mkdir()
        for name in (STATE_FILE, CELL_CONFIG, cell.records.name, cell.curve.name):
            _copy_file(cell.path / name, copy.path / name)
        policy = Path(entry.checkpoint) if entry.checkpoint else _policy_of(cell)
        trained = key in manifest.cells and (entry.iterations or entry.checkpoint)
        exported = not trained or _export_policy(policy, copy)
        exported = _copy_models(entry, target) and exported
        if not exported and key in manifest.cells:
            left_out.append(key)
    return tuple(left_out)


def model_copy(folder: Path, path: str, digest: str) -> Path:
    """Return where the published run in ``folder`` has its copy of the model at ``path``."""
    return folder / MODELS_DIR / f"{digest[:12]}-{Path(path).name}"


def models_of(entry: CellInfo) -> dict[str, str]:
    """Return the path of every saved agent that a cell scored -> its sha256."""
    files = plugins.only_files(entry.config.get("plugins", {}))
    return {path: origin.sha256 for path, origin in files.items()}


def _copy_models(entry: CellInfo, target: Path) -> bool:
    """Copy the saved agents that a cell scored; return whether they are as they were, and small."""
    for path, digest in models_of(entry).items():
        source, copy = Path(path), model_copy(target, path, digest)
        if not source.is_file() or source.stat().st_size > MAX_MODEL_BYTES:
            return False
        if sha256_of(source) != digest:
            return False
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, copy)
    return True


def _policy_of(cell: CellFolder) -> Path | None:
    newest = checkpoint.latest(cell.checkpoints, lambda path, reason: None)
    return newest[0] if newest else cell.policy  # of a run continued from a published folder


def _export_policy(source: Path | None, copy: CellFolder) -> bool:
    """Write a trained policy without its optimiser; return whether it was small enough."""
    if source is None or not source.is_file():
        return False
    policy = checkpoint.export_policy(source, copy.path)
    if policy.stat().st_size > MAX_POLICY_BYTES:
        policy.unlink()
        return False
    return True


def _copy_file(source: Path, target: Path) -> None:
    """Copy a regular file if it is there; a link could lead out of the run."""
    if source.is_file() and not source.is_symlink():
        shutil.copyfile(source, target)
