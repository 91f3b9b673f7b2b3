"""Atomic writes, and names that stay inside their folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.errors import ArtefactError, UsageError

RESULTS = Path("results")
"""Folder of the runs, in the working directory."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


def safe_name(name: str, what: str) -> str:
    """Return ``name`` if it is a single plain path component.

    Raises:
        ValueError: it is empty, too long, hidden, or contains a separator or an odd character.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"bad {what} {name!r}: allowed are letters, digits, '.', '_', '@', '+' and '-', "
            "starting with a letter or digit, at most 128 of them. Choose another name"
        )
    return name


def run_path(results_dir: Path, name: str) -> Path:
    """Return the folder of the run ``name`` directly below ``results_dir``.

    Raises:
        UsageError: the name would leave ``results_dir``.
    """
    try:
        path = results_dir / safe_name(name, "run name")
    except ValueError as error:
        raise UsageError(str(error)) from error
    if path.resolve().parent != results_dir.resolve():
        raise UsageError(f"run {name!r} is a link that leaves {results_dir}. Choose another --name")
    return path


def find_run(run: str | Path) -> Path:
    """Return the folder of a run that is given by its path, or by its name below ``results/``.

    A mere name that is nowhere yet is one below ``results/``.
    """
    folder, named = Path(run), RESULTS / run
    below = named.is_dir() or folder.parent == Path()
    return named if below and not folder.exists() else folder


def check_links(folder: Path) -> None:
    """Raise ArtefactError if a link below ``folder`` leads out of it, because writes would follow.

    Hidden folders are temporary, and Weights & Biases links to its own logs: neither is checked.
    """
    home = folder.resolve()
    for parent, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise ArtefactError(f"{path} is a link that leaves {folder}")
        logs = "wandb" if Path(parent).name != "cells" else ""
        folders[:] = [name for name in folders if name != logs and not name.startswith(".")]


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; a crash at any moment leaves either the old file or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the renames inside ``path`` survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Delete what a process killed in the middle of ``write_atomically`` left behind."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
