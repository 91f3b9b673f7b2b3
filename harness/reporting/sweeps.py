"""The tables of a sweep, from the records and manifests of its cells alone.

A cell is a run of its own; here the cells that were scored on the same things meet in one table.
Swept settings become part of the row's name and columns of the CSV.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType

from harness.reporting.render.captions import caption, title
from harness.reporting.render.figures import write_figures
from harness.reporting.render.formats import classes_to_csv, to_csv, to_latex, to_markdown, to_rich
from harness.reporting.stats.comparison import Comparison, comparison_table
from harness.reporting.store.files import write_atomically
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.sweep_manifest import CELLS, SETTINGS, SweepManifest, replay_command
from harness.reporting.store.sweep_parts import (
    Part,
    curves,
    load_sweep,
    merged,
    records,
    row_learner,
)


@dataclass(frozen=True, slots=True)
class SweepTables:
    """All tables of a sweep."""

    tables: dict[str, Comparison]
    """By the name of the part."""

    @property
    def exit_code(self) -> int:
        """4 if a cell is missing, else 3 if one failed, else 0."""
        codes = {table.exit_code for table in self.tables.values()}
        return next((code for code in (4, 3) if code in codes), 0)


def sweep_tables(folder: Path) -> SweepTables:
    """Return the captioned tables of the sweep in ``folder``; write nothing.

    Raises:
        ValueError: there is no sweep.
        ArtefactError: one of its files is malformed.
    """
    sweep, parts = load_sweep(folder)
    return SweepTables({part.name: _table(folder, sweep, part)[0] for part in parts})


def rebuild_sweep(folder: Path) -> SweepTables:
    """Write ``table.{csv,md,tex}`` and the figures of every part; return the tables.

    Raises:
        ValueError: there is no sweep.
        ArtefactError: one of its files is malformed.
    """
    sweep, parts = load_sweep(folder)
    made = {part.name: (*_table(folder, sweep, part), part) for part in parts}
    tables = {name: table for name, (table, _, _) in made.items()}
    several = len(tables) > 1
    shutil.rmtree(folder / "figures", ignore_errors=True)
    for name, (table, whole, part) in made.items():
        figures = folder / "figures"
        if several:
            figures /= _folder_name(name)
        figures.mkdir(parents=True)
        write_figures(table, whole, curves(folder, part), figures)
    texts = {
        "csv": _one_csv([to_csv(table) for table in tables.values()]),
        "md": "\n".join(to_markdown(table) for table in tables.values()),
        "tex": "\n".join(to_latex(table) for table in tables.values()),
    }
    for suffix, text in texts.items():
        write_atomically(folder / f"table.{suffix}", text.encode())
    classes = [found for table in tables.values() if (found := classes_to_csv(table))]
    if classes:
        write_atomically(folder / "classes.csv", _one_csv(classes).encode())
    return SweepTables(tables)


def _folder_name(part: str) -> str:
    """Return the name of a part's folder: of its swept settings nothing that leads elsewhere."""
    plain = part.replace(", ", ".").replace("=", "-")
    safe = re.sub(r"[^A-Za-z0-9._\[\]-]", "-", plain)[:110]
    # What was replaced or cut may have told two parts apart.
    return safe if safe == plain else f"{safe}-{hashlib.sha256(part.encode()).hexdigest()[:12]}"


def render_sweep(tables: SweepTables) -> RenderableType:
    """Return all tables for a rich console."""
    return Group(*(to_rich(table) for table in tables.tables.values()))


def _one_csv(texts: Sequence[str]) -> str:
    """Return several tables as one, where they have the same columns, else one below the other."""
    heads = {text.partition("\n")[0] for text in texts}
    if len(heads) > 1:
        return "\n".join(texts)
    return texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])


def _table(folder: Path, sweep: SweepManifest, part: Part) -> tuple[Comparison, Manifest]:
    whole = merged(sweep, part)
    table = comparison_table(records(folder, part), whole)
    splits = [_with_settings(split, part) for split in table.splits]
    table = dataclasses.replace(splits[0], others=tuple(splits[1:]))
    dist, _, extra = part.name.partition(", ")
    head = title(table, whole) if whole.distributions else f"{dist} (INCOMPLETE)"
    text = (*_replays(folder, part), *_revisions(part), *caption(table, whole))
    named = f"{head}, {extra}" if extra else head
    return dataclasses.replace(table, title=named, caption=text), whole


def _revisions(part: Part) -> Iterator[str]:
    """Yield a warning where the cells were not all made by the same code."""
    made = {state.git.revision[:12] if state.git else "no git" for state in part.states.values()}
    if len(made) > 1:
        yield f"Cells of this table were made by different revisions: {', '.join(sorted(made))}."


def _replays(folder: Path, part: Part) -> Iterator[str]:
    """Yield how to see each failure happen again."""
    for key, state in part.states.items():
        cell = folder / CELLS / key
        if state.failures() and (cell / SETTINGS).is_file():
            yield f"Replay {key}: {shlex.join(replay_command(cell))}"


def _with_settings(table: Comparison, part: Part) -> Comparison:
    """Return the table with a column for every swept setting, behind the names of the row."""
    frame = table.frame.copy()
    settings: dict[str, dict[str, Any]] = {row_learner(c): c.settings for c in part.cells.values()}
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    for place, name in enumerate(names, list(frame.columns).index("adapter") + 1):
        column = [_plain(settings.get(learner, {}).get(name)) for learner in frame["learner"]]
        frame.insert(place, name, pd.Series(column, index=frame.index, dtype=object))
    return dataclasses.replace(table, frame=frame)


def _plain(value: Any) -> Any:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if value is None or numeric else str(value)
