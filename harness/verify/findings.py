"""What a verification found, cell by cell, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.errors import ExitCode
from harness.reporting.store.checksums import VERIFIED_FILE, fingerprint
from harness.reporting.store.json_io import Strict
from harness.reporting.store.provenance import git_revision, machine

Replay = Literal["bits", "statistics"]
"""How a replay matched the records: bit for bit, or by a test of their means."""


@dataclass(slots=True)
class Findings:
    """What was found about one cell, or about the folder as a whole."""

    verified: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    """What could not be checked, and why."""
    wrong: list[str] = field(default_factory=list)

    def compare(self, good: str, problems: list[str]) -> None:
        """Take note of ``problems``, or that there are none."""
        self.wrong += problems
        if not problems:
            self.verified.append(good)


@dataclass(slots=True)
class Verification:
    """What was found about a folder."""

    folder: Path
    run: Findings = field(default_factory=Findings)
    """About the folder as a whole."""
    missing: list[str] = field(default_factory=list)
    """Cells that were planned, and have no result."""
    cells: dict[str, Findings] = field(default_factory=dict)
    """By the cell's key, reference lines included."""
    replays: dict[str, Replay] = field(default_factory=dict)
    """Key of each cell that was replayed -> how the replay matched its records."""
    retrained: dict[str, int] = field(default_factory=dict)
    """Key of each cell that was trained again -> iterations that were equal bit for bit."""
    division: str = "open"
    """``closed`` or ``open``."""
    reasons: tuple[str, ...] = ()
    """Why it is not in the closed division."""

    @property
    def wrong(self) -> list[str]:
        """Everything that is wrong, each with the cell it is about; missing cells apart."""
        of_cells = (f"{key}: {text}" for key, found in self.cells.items() for text in found.wrong)
        return [*self.run.wrong, *of_cells]

    @property
    def exit_code(self) -> ExitCode:
        """``REFUSED`` if anything is wrong, ``INTERRUPTED`` if cells are still to be played."""
        if self.wrong:
            return ExitCode.REFUSED
        return ExitCode.INTERRUPTED if self.missing else ExitCode.COMPLETE

    def lines(self) -> Iterator[str]:
        """Yield the report; cells of which the same was found share a paragraph."""
        verdict = f"WRONG in {len(self.wrong)} places" if self.wrong else "verified"
        verdict += f", {len(self.missing)} cells without a result" * bool(self.missing)
        yield f"{self.folder}: {verdict}; {self.division} division"
        if self.reasons:
            yield f"  not closed: {'; '.join(self.reasons)}"
        if self.missing:
            yield f"  no result yet: {', '.join(text.partition(' ')[0] for text in self.missing)}"
        yield from _paragraph("the run", self.run)
        groups: dict[str, list[str]] = {}
        for key, found in self.cells.items():
            groups.setdefault(repr(found), []).append(key)
        groups.pop(repr(Findings()), None)  # cells without a result
        for keys in groups.values():
            yield from _paragraph(", ".join(keys), self.cells[keys[0]])


def _paragraph(head: str, found: Findings) -> Iterator[str]:
    yield f"  {head}"
    for label, texts in (
        ("WRONG", found.wrong),
        ("verified", found.verified),
        ("not verified", found.unverified),
    ):
        yield from (f"    {label}: {text}" for text in texts)


class Verified(Strict):
    """``verified.json``: what the maintainers have played again of a folder."""

    fingerprint: str
    """Of the content that was verified; ``checksums.fingerprint``."""
    replays: Mapping[str, Replay]
    retrained: Mapping[str, int] = {}
    cpu: str
    revision: str
    """Git revision of the code; empty if unknown."""

    @classmethod
    def of(cls, found: Verification) -> Verified:
        """Return what is kept of a verification without anything wrong.

        Without training again, what was trained again before on this kind of processor is kept.
        """
        git, before = git_revision(), cls.load(found.folder)
        kept = before.retrained if before and before.cpu == machine()["cpu"] else {}
        return cls(
            fingerprint=fingerprint(found.folder),
            replays=found.replays,
            retrained=found.retrained or kept,
            cpu=machine()["cpu"],
            revision=git[0] if git else "",
        )

    @classmethod
    def load(cls, folder: Path) -> Verified | None:
        """Return what is kept beside a folder; None if nothing is, or if its content has changed.

        Raises:
            ArtefactError: the file is malformed.
        """
        path = folder / VERIFIED_FILE
        kept = cls.read(path) if path.is_file() else None
        return kept if kept and kept.fingerprint == fingerprint(folder) else None
