"""``SHA256SUMS``: the sha256 of every file in a published folder that is not derived.

The file has the format of ``sha256sum``, so ``sha256sum -c SHA256SUMS`` checks it too. Tables,
figures and the report are left out: they are rebuilt from the rest.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from harness.errors import ArtefactError
from harness.reporting.store.files import write_atomically

SUMS_FILE = "SHA256SUMS"
SUBMISSION_FILE = "submission.yaml"
VERIFIED_FILE = "verified.json"
DERIVED = re.compile(r"table\.(csv|md|tex)|classes\.csv|report\.html|(figures|clips)/.*")
"""Files that are made from the others."""
ADDED = (SUMS_FILE, SUBMISSION_FILE, VERIFIED_FILE)
"""Files that are added after the run was published."""
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below ``folder`` that is not derived, by relative path."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = sorted(p.as_posix() for p in paths if not any(x.startswith(".") for x in p.parts))
    return {
        name: sha256_of(folder / name)
        for name in names
        if name not in ADDED and not DERIVED.fullmatch(name)
    }


def text_of(sums: dict[str, str]) -> str:
    """Return checksums in the format of ``sha256sum``."""
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def fingerprint(folder: Path) -> str:
    """Return one sha256 for all of ``checksums``."""
    return hashlib.sha256(text_of(checksums(folder)).encode()).hexdigest()


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` into ``folder``."""
    write_atomically(folder / SUMS_FILE, text_of(checksums(folder)).encode())


def changed_files(folder: Path) -> list[str] | None:
    """Return what differs from ``SHA256SUMS``, a phrase per file; None if there is no such file.

    Raises:
        ArtefactError: the file has another format.
    """
    listed = _listed(folder)
    if listed is None:
        return None
    found = checksums(folder)
    return [
        *(f"{name} is missing" for name in sorted(listed.keys() - found.keys())),
        *(f"{name} was added" for name in sorted(found.keys() - listed.keys())),
        *(
            f"{name} was changed"
            for name in listed
            if found.get(name, listed[name]) != listed[name]
        ),
    ]


def check_sum(folder: Path, file: Path) -> None:
    """Check one file of ``folder`` if ``SHA256SUMS`` is there.

    Raises:
        ArtefactError: the file is another one, or ``SHA256SUMS`` has another format.
    """
    listed = _listed(folder)
    if listed is not None and listed.get(file.relative_to(folder).as_posix()) != sha256_of(file):
        raise ArtefactError(f"{file} is not the file that {folder / SUMS_FILE} lists")


def _listed(folder: Path) -> dict[str, str] | None:
    """Return the sha256 of every file in ``SHA256SUMS``; None if there is no such file."""
    path = folder / SUMS_FILE
    if not path.is_file():
        return None
    listed = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise ArtefactError(f"{path}: not a line of sha256sum: {line[:100]!r}")
        listed[matched[2]] = matched[1]
    return listed
