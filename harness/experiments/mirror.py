"""A copy of a run's folder at another address: an object store, another disk (through fsspec).

Files are renamed, appended to and locked while a run is played, which object stores cannot do; so
the run is played in a local folder, and what changed is copied. A run can be continued from its
copy on another machine.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from harness.errors import UsageError
from harness.reporting.store.files import safe_name
from harness.reporting.store.manifest import RUN_FILE, STATE_FILE
from harness.reporting.store.records import RunFolder

LOGGER = logging.getLogger("harness")
EVERY = 30.0
"""Seconds between two copies."""


@dataclass(slots=True)
class Mirror:
    """The copy of one run."""

    address: str
    name: str
    _files: Any = field(init=False)
    _root: str = field(init=False)
    _copied: dict[str, tuple[int, int]] = field(init=False, default_factory=dict)
    """Path below the folder -> size and time of what was copied."""

    def __post_init__(self) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"--mirror {self.address}: {error}") from error
        self._root = f"{root.rstrip('/')}/{safe_name(self.name, 'run name')}"

    def open(self, folder: Path, *, resume: bool) -> None:
        """Fetch the run to continue if it is not here; refuse an address that is taken.

        Raises:
            UsageError: there is another run of that name, or the address does not answer.
        """
        try:
            self._files.invalidate_cache()
            stored = self._files.find(self._root) if self._files.exists(self._root) else []
            if stored and not resume:
                raise UsageError(
                    f"--mirror {self.address}: {self.name} is there already. "
                    "Continue with --resume or pick another --name"
                )
            if stored and not folder.exists():
                self._fetch(folder, [path[len(self._root) + 1 :] for path in stored])
        except UsageError:
            raise
        except Exception as error:  # every store has errors of its own
            raise UsageError(f"--mirror {self.address} does not answer: {error}") from error

    def _fetch(self, folder: Path, names: list[str]) -> None:
        """Download the copy; ``folder`` appears when it is complete."""
        for name in names:
            if ".." in PurePosixPath(name).parts:
                raise UsageError(f"--mirror {self.address}: {name!r} leads out of the run's folder")
        part = folder.with_name(f".{folder.name}.fetched")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        sources, targets = [f"{self._root}/{n}" for n in names], [str(part / n) for n in names]
        self._files.get(sources, targets)
        part.rename(folder)

    def copy(self, folder: Path) -> None:
        """Copy what changed since the last time, and remove what is gone."""
        present = set()
        for path in sorted(_files_below(folder), key=_order):
            name = path.relative_to(folder).as_posix()
            present.add(name)
            with _if_it_exists(path):
                stat = path.stat()
                if self._copied.get(name) != (stat.st_size, stat.st_mtime_ns):
                    self._files.put(str(path), f"{self._root}/{name}")
                    self._copied[name] = (stat.st_size, stat.st_mtime_ns)
        stored = self._files.find(self._root) if self._files.exists(self._root) else []
        gone = [path for path in stored if path[len(self._root) + 1 :] not in present]
        for path in gone:
            self._copied.pop(path[len(self._root) + 1 :], None)
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(path)


@contextlib.contextmanager
def mirrored(address: str | None, folder: RunFolder) -> Iterator[None]:
    """Keep a copy of ``folder`` at ``address`` up to date while the block runs, and when it ends.

    An address that takes nothing costs the copy and not the run: it is logged and tried again.
    """
    if address is None:
        yield
        return
    mirror, over, said = Mirror(address, folder.path.name), threading.Event(), ""

    def copy() -> None:
        nonlocal said
        try:
            mirror.copy(folder.path)
            said = ""
        except Exception as error:  # noqa: BLE001 - every store has errors of its own
            cause = f"the copy at {address} is not complete: {type(error).__name__}: {error}"
            if cause != said:
                said = cause
                LOGGER.warning(cause)
                folder.event("mirror_failed", cause=cause)

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


@contextlib.contextmanager
def _if_it_exists(path: Path) -> Iterator[None]:
    """Ignore that a file is not found if it really is gone: pruned or renamed in between."""
    try:
        yield
    except FileNotFoundError:
        if path.exists():
            raise


def _order(path: Path) -> tuple[bool, bool, str]:
    """Copy curves before checkpoints, and what refers to both last: every copy is consistent."""
    return path.name in (RUN_FILE, STATE_FILE), "checkpoints" in path.parts, str(path)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and path.suffix != ".tmp" and not any(p.startswith(".") for p in parts):
            yield path
