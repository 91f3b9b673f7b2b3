"""The leaderboard: a table per task distribution, from published results and submissions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from harness.errors import ArtefactError
from harness.reporting.rebuild import load_tables
from harness.reporting.render.tables import (
    count_text,
    estimate_cell,
    row_label,
    rows_of,
    shot_label,
)
from harness.reporting.stats.comparison import Comparison
from harness.reporting.stats.scores import ROW_KEY
from harness.reporting.store.manifest import RUN_FILE, Manifest
from harness.reporting.text import DASH, is_number, printable, short_count
from harness.types import REFERENCE
from harness.verify.findings import Verification, Verified
from harness.verify.submission import SHOTS, SUBMISSIONS, Submission, read_submission
from harness.verify.verification import verify

ROOTS = ("results/published", SUBMISSIONS)
"""Folders whose folders are listed."""
HEADER = (
    *("row", "division", *map(shot_label, SHOTS)),
    *("seeds", "parameters", "train env steps", "from", "verified"),
)
TableKey = tuple[str, str, int]
"""Heading of a table, the protocol of its distribution, and minus its number of test tasks."""
_MARKS = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class Source:
    """A folder on the leaderboard."""

    path: Path
    """Relative to the repository."""
    found: Verification
    kept: Verified | None
    submission: Submission | None
    manifest: Manifest
    tables: Sequence[Comparison]


def leaderboard(repository: Path) -> str:
    """Return the leaderboard of a repository as Markdown.

    No code of the folders is run: replays are those that ``verified.json`` tells of.

    Raises:
        ArtefactError: a folder does not verify.
    """
    folders = [
        path.parent for root in ROOTS for path in sorted((repository / root).glob(f"*/{RUN_FILE}"))
    ]
    sources = [_source(folder, repository) for folder in folders]
    tables: dict[TableKey, list[tuple[tuple[Any, ...], list[str]]]] = {}
    for source in sources:
        for key, place, row in _rows(source):
            tables.setdefault(key, []).append((place, row))
    parts = []
    for (name, protocol, tasks), rows in sorted(tables.items()):
        lines = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
        align = ["left"] * 2 + ["right"] * 6 + ["left"] * 2
        table = tabulate(lines, HEADER, tablefmt="pipe", colalign=align, disable_numparse=True)
        parts += [f"## {escaped(name)}", escaped(f"{protocol}. {-tasks} test tasks."), table]
    return "\n\n".join([*parts, "## Sources", "\n".join(map(_described, sources))])


def _source(folder: Path, repository: Path) -> Source:
    found = verify(folder, 0, np.random.default_rng(0))
    submission, kept = read_submission(folder), Verified.load(folder)
    if found.wrong:
        raise ArtefactError(f"{folder}: {found.wrong[0]}")
    manifest, tables = Manifest.load(folder), load_tables(folder)
    return Source(folder.relative_to(repository), found, kept, submission, manifest, tables)


def _rows(source: Source) -> Iterator[tuple[TableKey, tuple[Any, ...], list[str]]]:
    """Yield the table, the place in it and the cells of every row of a folder."""
    for name, table in zip(source.manifest.tables, source.tables, strict=True):
        dist = source.manifest.tables[name]
        for part in (split for split in table.splits if split.split == "test"):
            score = "success" if part.has_success else "return"
            for row in rows_of(part.frame):
                if row["learner"] != REFERENCE and row["seeds"]:
                    shown = _order(row, score), *row_label(row)
                    place = (source.found.division, _privileged(part, row), *shown)
                    cells = _cells(source, name, part, row, score)
                    head = f"{dist.versioned_name} ({score})"
                    yield (head, dist.protocol, -part.num_tasks), place, cells


def _order(row: dict[str, Any], score: str) -> float:
    """Return what rows are sorted by: the score after the most shots, best first."""
    values = [row[f"{score}_{n}"] for n in SHOTS if is_number(row.get(f"{score}_{n}"))]
    return -float(values[-1]) if values else float("inf")


def _privileged(part: Comparison, row: dict[str, Any]) -> bool:
    """Return whether a row observes the task."""
    return tuple(row[name] for name in ROW_KEY) in part.privileged


def _cells(
    source: Source, table: str, part: Comparison, row: dict[str, Any], score: str
) -> list[str]:
    policy, detail = row_label(row)
    note = ", observes the task" if _privileged(part, row) else ""
    ends = ("seeds", "seeds_failed", "seeds_missing", "seeds_stopped")
    planned = sum(row.get(name, 0) for name in ends)
    seeds, all_seeds = count_text(row["seeds"]), count_text(planned)
    seeds = seeds if seeds == all_seeds else f"{seeds} of {all_seeds}"
    digits = 2 if score == "success" else 1
    scores = [
        " ".join(estimate_cell(row, f"{score}_{n}", digits)) if f"{score}_{n}" in row else DASH
        for n in SHOTS
    ]
    return [
        *(f"{escaped(policy)} {escaped(f'({detail}{note})')}", source.found.division),
        *(escaped(value.strip()) for value in scores),
        *(seeds, short_count(row["num_params"]), short_count(row["train_env_steps"])),
        f"[{escaped(source.path.name)}](#sources)",
        _how(source, table, row),
    ]


def _how(source: Source, table: str, row: dict[str, Any]) -> str:
    """Return how a row was verified."""
    keys = [
        key
        for key, cell in source.manifest.cells.items()
        if (cell.table, cell.policy, cell.row_learner) == (table, row["policy"], row["learner"])
    ]
    sums = not any(each.startswith("checksums") for each in source.found.run.unverified)
    parts = ["records, sha256" if sums else "records"]
    replays = source.kept.replays if source.kept else {}
    for how, words in (("bits", "bit for bit"), ("statistics", "on average")):
        count = sum(replays.get(key) == how for key in keys)
        parts += [f"{count} of {len(keys)} seeds replayed {words}"] if count else []
    return escaped("; ".join(parts))


def _described(source: Source) -> str:
    """Return one item of the list of sources."""
    given = source.submission
    folder = f"[{escaped(source.path.name)}](../{source.path.as_posix()}/table.md)"
    if given is None:
        return f"- {folder}: this project; {source.found.division}"
    link = str(given.link).replace("<", "%3C").replace(">", "%3E")
    said = f". Declared: {escaped(given.declared)}" if given.declared else ""
    return f"- {folder}: [{escaped(given.who)}](<{link}>); {given.division}{said}"


def escaped(value: str) -> str:
    """Return text that Markdown shows as it is, whatever it holds."""
    return _MARKS.sub(r"\\\1", " ".join(printable(value).split()))
