"""Files that are either whole or absent, and names that stay inside their folder."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from harness.errors import ArtefactError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def safe_name(name: str, what: str) -> str:
    """Return ``name`` if it is one plain path component.

    Raises:
        ValueError: it is empty, too long, hidden, or holds a separator or another odd character.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"bad {what} {name!r}: allowed are letters, digits, '.', '_' and '-', starting with a "
            "letter or digit, at most 128 of them. Choose another name"
        )
    return name


def run_path(results_dir: Path, name: str) -> Path:
    """Return the folder of run ``name`` directly below ``results_dir``.

    Raises:
        ValueError: the name would leave ``results_dir``.
    """
    path = results_dir / safe_name(name, "run name")
    if path.resolve().parent != results_dir.resolve():
        raise ValueError(f"run {name!r} is a link that leaves {results_dir}. Choose another --name")
    return path


def check_links(folder: Path) -> None:
    """Raise ArtefactError if a link below ``folder`` leads out of it: writing would follow.

    Hidden folders are not looked into, for they are made anew, nor are those of W&B, directly in
    the folder of a run or of a sweep's cell, which links to its own logs.
    """
    home = folder.resolve()
    left = [home]
    while left:
        # Whoever plays the sweep may take a folder away in between.
        with contextlib.suppress(FileNotFoundError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_symlink() and not _inside(home, Path(entry.path)):
                    raise ArtefactError(f"{entry.path} is a link that leaves {folder}")
                inner = Path(entry.path)
                logs = entry.name == "wandb" and len(inner.relative_to(home).parts) in (1, 3)
                hidden = entry.name.startswith(".") or logs
                if entry.is_dir(follow_symlinks=False) and not hidden:
                    left.append(inner)


def _inside(home: Path, link: Path) -> bool:
    try:
        return link.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # it leads to itself
        return False


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a crash at any moment leaves the old file or the new."""
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
