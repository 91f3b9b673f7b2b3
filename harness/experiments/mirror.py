"""A copy of a run's folder at another address: an object store, another disk (through fsspec).

Files are renamed, appended to and locked while a run is played, which object stores cannot do; so
the run is played in a local folder, and what changed is copied. A run can be continued from its
copy on another machine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import fsspec

from harness.errors import UsageError
from harness.reporting.store.files import safe_name
from harness.reporting.store.manifest import RUN_FILE, STATE_FILE, Manifest
from harness.reporting.store.records import RunFolder

LOGGER = logging.getLogger("harness")
EVERY = 30.0
"""Seconds between two copies."""


class Mirror:
    """The copy of the run ``name`` at ``address``."""

    def __init__(self, address: str, name: str) -> None:
        self.address, self.name = address, name
        try:
            self._files, root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"--mirror {address}: {error}") from error
        self._files.auto_mkdir = True  # of a folder on disk; object stores have none
        self._root = f"{root.rstrip('/')}/{safe_name(name, 'run name')}/"
        self._copied: dict[str, tuple[int, int]] = {}

    def open(self, folder: Path, *, resume: bool) -> None:
        """Fetch the run to continue if it is not here; refuse an address that is taken.

        Raises:
            UsageError: there is another run of that name, or the address does not answer.
        """
        copy, place = Path(self._root).absolute(), folder.absolute()
        local = "file" in self._files.protocol
        if local and (copy == place or copy in place.parents or place in copy.parents):
            raise UsageError(f"--mirror {self.address}: it is the run's own folder, or in it")
        try:
            stored = self._stored()
            if stored and resume and not folder.exists():
                self._fetch(folder, stored)
        except UsageError:
            raise
        except Exception as error:  # every store has errors of its own
            raise UsageError(f"--mirror {self.address} does not answer: {error}") from error
        if stored and not resume:
            raise UsageError(
                f"--mirror {self.address}: {self.name} is there already. "
                "Continue with --resume or pick another --name"
            )
        if RUN_FILE in stored and folder.exists() and self._is_another(folder):
            raise UsageError(
                f"--mirror {self.address}: {self.name} there is a copy of another run. "
                "Give another address"
            )
        if folder.exists() and _is_ahead(stored, folder):
            raise UsageError(
                f"--mirror {self.address}: {self.name} went on elsewhere. Move {folder} away to "
                "continue from there"
            )

    def _is_another(self, folder: Path) -> bool:
        """Return whether the copy is of another run than that in ``folder``."""
        there = json.loads(self._files.cat_file(self._root + RUN_FILE)).get("created")
        return bool(there != Manifest.load(folder).created)

    def _stored(self) -> list[str]:
        """Return the paths below the root of the copy."""
        self._files.invalidate_cache()
        root = self._root.rstrip("/")
        found = self._files.find(root) if self._files.exists(root) else []
        return [path[len(self._root) :] for path in found]

    def _fetch(self, folder: Path, names: list[str]) -> None:
        """Download the copy; ``folder`` appears when it is complete."""
        for name in names:
            if ".." in PurePosixPath(name).parts:
                raise UsageError(f"--mirror {self.address}: {name!r} leads out of the run's folder")
        part = folder.with_name(f".{folder.name}.fetched")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        self._files.get([self._root + name for name in names], [str(part / n) for n in names])
        part.rename(folder)

    def copy(self, folder: Path) -> None:
        """Copy what changed since the last time, and remove what is gone."""
        present = set()
        for path in sorted(_files_below(folder), key=_order):
            name = path.relative_to(folder).as_posix()
            present.add(name)
            try:
                stat = path.stat()
                stamp = stat.st_size, stat.st_mtime_ns
                if self._copied.get(name) != stamp:
                    self._files.put([str(path)], [self._root + name])  # a list is no pattern
                    self._copied[name] = stamp
            except FileNotFoundError:
                if path.exists():  # else it was pruned or renamed in between
                    raise
        for name in set(self._stored()) - present:
            self._copied.pop(name, None)
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._root + name)


@contextlib.contextmanager
def mirrored(address: str | None, folder: RunFolder) -> Iterator[None]:
    """Keep a copy of ``folder`` at ``address`` up to date while the block runs, and when it ends.

    An address that takes nothing costs the copy and not the run: it is logged and tried again.
    """
    if address is None:
        yield
        return
    mirror, over, last = Mirror(address, folder.path.name), threading.Event(), ""

    def copy() -> None:
        nonlocal last
        cause = ""
        try:
            mirror.copy(folder.path)
        except Exception as error:  # noqa: BLE001 - every store has errors of its own
            cause = f"the copy at {address} is not complete: {type(error).__name__}: {error}"
        if cause and cause != last:
            LOGGER.warning(cause)
            folder.event("mirror_failed", cause=cause)
        last = cause

    def keep() -> None:
        while not over.wait(EVERY):
            copy()

    thread = threading.Thread(target=keep, daemon=True, name="mirror")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        copy()


def _is_ahead(stored: list[str], folder: Path) -> bool:
    """Return whether a copy has results or later checkpoints that the folder lacks."""
    here = {path.relative_to(folder).as_posix() for path in folder.glob("cells/*/**/*")}
    for name in stored:
        beside = name.rpartition("/")[0] + "/"
        last = max((path for path in here if path.startswith(beside)), default="")
        if name not in here and name.endswith("/records.parquet"):
            return True
        if "/checkpoints/" in name and name > last:
            return True
    return False


def _order(path: Path) -> tuple[bool, bool, str]:
    """Copy curves before checkpoints, and what refers to both last: every copy is consistent."""
    return path.name in (RUN_FILE, STATE_FILE), "checkpoints" in path.parts, str(path)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and path.suffix != ".tmp" and not any(p.startswith(".") for p in parts):
            yield path
