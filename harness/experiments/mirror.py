"""A copy of a run's folder somewhere else: an object store, another disk (any address of fsspec).

Files are renamed into place, appended and locked where a run is played, which object stores cannot
do; so the run lies in a folder, and what has changed in it is copied. What is copied can be taken
up again on another machine.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from harness.errors import UsageError
from harness.reporting.store.files import safe_name

LOGGER = logging.getLogger("harness")
Report = Callable[..., None]
"""(kind, **fields) of a fault, for the event log."""
EVERY = 30.0
"""Seconds between two copies."""
LAST = ("manifest.json", "sweep.json")
"""Copied after all others, checkpoints before them: what they speak of is there already."""


@dataclass(slots=True)
class Mirror:
    """The copy of one run or sweep."""

    address: str
    name: str
    _files: Any = field(init=False)
    _root: str = field(init=False)
    _copied: dict[str, tuple[int, int] | None] | None = field(init=False, default=None)
    """Path below the folder -> size and time of what was copied; None of what was there before."""

    def __post_init__(self) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"--mirror {self.address}: {error}") from error
        self._root = f"{root.rstrip('/')}/{safe_name(self.name, 'run name')}"

    def open(self, folder: Path, *, resume: bool) -> None:
        """Fetch the run to continue where it is not here; refuse a place that is taken.

        Raises:
            UsageError: there is another run of that name, or the place does not answer.
        """
        try:
            found = self._there()
            if found and not resume:
                raise UsageError(
                    f"--mirror {self.address}: {self.name} is there already. "
                    "Continue with --resume or pick another --name"
                )
            if found and not folder.exists():
                self._fetch(folder, found)
        except UsageError:
            raise
        except Exception as error:  # every store has errors of its own
            raise UsageError(f"--mirror {self.address} does not answer: {error}") from error

    def _there(self) -> list[str]:
        """Return the paths below the root, as of now."""
        self._files.invalidate_cache()
        if not self._files.exists(self._root):
            return []
        return [path[len(self._root) + 1 :] for path in self._files.find(self._root)]

    def _fetch(self, folder: Path, found: list[str]) -> None:
        """Make ``folder`` what the copy holds; it appears when it is whole."""
        part = folder.with_name(f".{folder.name}.fetched")
        shutil.rmtree(part, ignore_errors=True)
        for name in found:
            target = part / name
            if not target.resolve().is_relative_to(part.resolve()):
                raise UsageError(f"--mirror {self.address}: {name!r} leads out of the run's folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(f"{self._root}/{name}", str(target))
        part.rename(folder)

    def copy(self, folder: Path) -> None:
        """Copy what has changed since the last time, and remove what is gone.

        Raises:
            OSError: the place did not take it.
        """
        if self._copied is None:
            self._copied = dict.fromkeys(self._there())
        here = {path.relative_to(folder).as_posix(): path for path in _files_below(folder)}
        for name in sorted(here, key=_turn):
            try:
                self._put(here[name], name)
            except FileNotFoundError:
                if here[name].exists():  # else it was pruned, or renamed, in between
                    raise
        for name in set(self._copied) - set(here):
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")
            del self._copied[name]

    def _put(self, path: Path, name: str) -> None:
        assert self._copied is not None
        stat = path.stat()
        if self._copied.get(name) != (stat.st_size, stat.st_mtime_ns):
            target = f"{self._root}/{name}"
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), target)
            self._copied[name] = (stat.st_size, stat.st_mtime_ns)


@contextlib.contextmanager
def mirrored(address: str | None, folder: Path, report: Report) -> Iterator[None]:
    """Keep a copy of ``folder`` at ``address`` up to date while the block runs, and when it ends.

    A place that takes nothing costs the copy and not the run: the log and ``report`` are told, and
    it is tried again.
    """
    if address is None:
        yield
        return
    mirror, over, told = Mirror(address, folder.name), threading.Event(), ""

    def keep() -> None:
        nonlocal told
        while not over.wait(EVERY):
            told = _tried(mirror, folder, told, report)

    thread = threading.Thread(target=keep, daemon=True, name="mirror")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _tried(mirror, folder, "", report)


def _tried(mirror: Mirror, folder: Path, told: str, report: Report) -> str:
    """Copy; return what went wrong, told unless it was ``told`` before."""
    try:
        mirror.copy(folder)
    except Exception as error:  # noqa: BLE001 - every store has errors of its own
        said = f"the copy at {mirror.address} is not complete: {type(error).__name__}: {error}"
        if said != told:
            LOGGER.warning(said)
            report("mirror_failed", cause=said)
        return said
    return ""


def _turn(name: str) -> tuple[bool, bool, str]:
    """Return what puts files in order: a checkpoint without its rows of the curve leaves a gap."""
    path = Path(name)
    return path.name in LAST, "checkpoints" in path.parts, name


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and path.suffix != ".tmp" and not any(p.startswith(".") for p in parts):
            yield path
