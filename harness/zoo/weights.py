"""Zoos: an index, and the place that the policies in it are read from."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec

from harness.errors import ArtefactError, SurroundingsError, UsageError
from harness.reporting.store.files import write_atomically
from harness.reporting.store.json_io import MAX_BYTES
from harness.zoo.index import INDEX_FILE, Index

if TYPE_CHECKING:
    from harness.execution.loaded_policy import LoadedPolicy

VARIABLE = "METARL_ZOO"
"""Environment variable with the address of the zoo to use where none is given."""
PACKAGED = Path(__file__).with_name(INDEX_FILE)
"""Index of the policies published with this version."""
CLONE = Path(__file__).parents[2] / "results/published"
"""Their weights, in a clone of the repository."""
BLOBS = "https://api.github.com/repos/metarl-harness/metarl-harness/git/blobs"
"""The same for an installed package, by content: what is published later changes nothing there."""
HUB = "hf://"
"""Begins the address of a repository at Hugging Face: ``hf://OWNER/NAME``."""
INSTALL_HUB = "for Hugging Face, pip install 'metarl-harness[hub]'"
TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Zoo:
    """Trained policies by name."""

    index: Index
    place: str
    """Folder or address that the files of the index are below."""

    @classmethod
    def open(cls, address: str | Path | None = None) -> Zoo:
        """Return a zoo.

        Args:
            address: a folder, ``hf://OWNER/NAME``, ``https://…`` or another address that fsspec
                reads, with an ``index.json``. If not given, the environment variable
                ``METARL_ZOO``, or else the policies published with this version.

        Raises:
            UsageError: there is no zoo.
            ArtefactError: its index is malformed.
        """
        given = address or os.environ.get(VARIABLE) or None
        if given is None:
            return cls(Index.read(PACKAGED), str(CLONE) if CLONE.is_dir() else BLOBS)
        place = str(given).rstrip("/")
        place = place if "://" in place else os.path.expanduser(place)
        content = _read(place, INDEX_FILE, MAX_BYTES)
        return cls(Index.parse(content, f"{place}/{INDEX_FILE}"), place)

    def fetch(self, name: str) -> Path:
        """Return the file of a policy, which is downloaded unless it is here.

        Raises:
            UsageError: there is no such policy, or its file cannot be read.
            ArtefactError: the file is not the one that the index describes.
        """
        _, _, weights = self.index.find(name)
        path = Path(self.place, weights.file)
        if "://" in self.place:
            path = _cache() / f"{weights.sha256}.safetensors"
            if path.is_file() and _digest(path.read_bytes()) == weights.sha256:
                return path
        file = weights.git_blob if self.place == BLOBS else weights.file
        content = _read(self.place, file, weights.num_bytes)
        if _digest(content) != weights.sha256:
            raise ArtefactError(
                f"{self.place}/{file} was changed: its sha256 is not {weights.sha256}, "
                "which the index of the zoo has"
            )
        if "://" in self.place:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return path


def load_pretrained(
    name: str, *, zoo: str | Path | None = None, deterministic: bool = True
) -> LoadedPolicy:
    """Return a published policy, ready to act and adapt.

    Args:
        name: ``DIST/POLICY/LEARNER``, such as ``halfcheetah-vel/gru/rl2``; ``/sN`` at its end
            chooses seed N. Without it, the first seed is loaded, never the best.
        zoo: a folder or an address, as for ``metarl zoo --zoo``; the published policies if not
            given.
        deterministic: query episodes take the likeliest action rather than sample.

    Raises:
        UsageError: there is no such policy, or its file cannot be read.
        ArtefactError: the file is not the one that the index describes.
    """
    path = Zoo.open(zoo).fetch(name)
    from harness.execution.loaded_policy import load_policy

    return load_policy(path, deterministic=deterministic)


def checkpoint_path(given: str | Path) -> Path:
    """Return the checkpoint that a path names, or else a policy of the zoo.

    Raises:
        UsageError: it is no name in the zoo either.
        ArtefactError: its file is not the one that the index describes.
    """
    path = Path(given)
    if path.exists() or path.is_absolute() or path.suffix in (".safetensors", ".npz"):
        return path
    return Zoo.open().fetch(str(given))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "metarl-harness" / "zoo"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(place: str, file: str, limit: int) -> bytes:
    """Return the content of a file below a folder or an address, cut off behind ``limit`` bytes.

    Raises:
        UsageError: it cannot be read.
    """
    address = f"{place}/{file}"
    try:
        if address.startswith(("http://", "https://")):  # fsspec needs aiohttp for these
            headers = {"Accept": "application/vnd.github.raw"} if place == BLOBS else {}
            request = urllib.request.Request(address, headers=headers)
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return bytes(answer.read(limit + 1))
        if place.startswith(HUB):
            from huggingface_hub import hf_hub_download

            address = hf_hub_download(place.removeprefix(HUB), file)
        with fsspec.open(address) as opened:
            return bytes(opened.read(limit + 1))
    except ImportError as error:
        raise UsageError(f"{place}: {error}; {INSTALL_HUB}") from error
    except Exception as error:  # every store has errors of its own
        raise SurroundingsError(f"{address} cannot be read: {error}") from error
