"""Several runs in one table per distribution, and aggregated across distributions.

Nothing is written into a run. Versions of a distribution have tables of their own; what differs in
protocol is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import task_distributions
from harness.errors import UsageError
from harness.reporting.rebuild import (
    TableSource,
    exit_code,
    folder_name,
    lost_in_training,
    media_of,
    run_report,
    sources,
    texts_of,
    with_settings,
    with_training,
)
from harness.reporting.render.across import across_to_csv, across_to_markdown, write_across_figures
from harness.reporting.render.captions import caption, title
from harness.reporting.render.figures import write_figures
from harness.reporting.render.formats import to_markdown
from harness.reporting.render.html import Section, to_html
from harness.reporting.stats.across import Across, across, constants
from harness.reporting.stats.comparison import Comparison, comparison_table
from harness.reporting.stats.scores import ROW_KEY
from harness.reporting.store.files import find_run, write_atomically
from harness.reporting.store.manifest import CellInfo, Manifest
from harness.reporting.store.records import read_curves
from harness.types import REFERENCE, Metrics

NOT_AGGREGATED = (
    "Not aggregated across distributions: constants are for all test tasks and the distribution's "
    "default settings."
)
FREE = ("few_shot", "zero_shot", "splits")
"""Settings of the evaluation that may differ: what both runs scored is compared."""


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Runs compared: a table for each distribution, and aggregates across distributions."""

    tables: dict[str, Comparison]
    """``name@version`` -> its table."""
    across: tuple[Across, ...]
    """One per suite that is complete, if a row was scored on all of its distributions."""
    manifests: dict[str, Manifest]
    """``name@version`` -> manifest of the table's cells, whose keys begin with the run's name."""
    curves: dict[str, tuple[Metrics, ...]]
    """Learning curve by the same keys."""
    folders: dict[str, Path]
    """Name of each run -> its folder."""

    @property
    def frame(self) -> pd.DataFrame:
        """All rows of all tables and splits, with columns ``split`` and ``dist_version``."""
        parts = [
            part.frame.assign(split=part.split, dist_version=int(name.rpartition("@")[2]))
            for name, table in self.tables.items()
            for part in table.splits
        ]
        return pd.concat(parts, ignore_index=True)

    @property
    def exit_code(self) -> int:
        """0 if every cell of every run is complete, else as for a run's tables."""
        return exit_code(list(self.tables.values()))

    def to_markdown(self) -> str:
        """Return all tables as Markdown."""
        parts = [to_markdown(table) for table in self.tables.values()]
        return "\n".join([*parts, *map(across_to_markdown, self.across)])

    def report(self, figures: Path | None = None) -> str:
        """Return an HTML page about all runs, with the pictures below ``figures`` if it is given.

        Raises:
            ArtefactError: a file of a run is malformed.
        """
        sections = [
            Section(table, self.manifests[name], self._curves(name))
            for name, table in self.tables.items()
        ]
        runs = [run_report(folder, name) for name, folder in self.folders.items()]
        return to_html(sections, runs, self.across, media_of(figures) if figures else ())

    def _curves(self, table: str) -> dict[str, tuple[Metrics, ...]]:
        return {key: self.curves[key] for key in self.manifests[table].cells if key in self.curves}

    def write(self, out: Path) -> None:
        """Write tables and figures into the folder ``out``, which must be new or empty.

        Raises:
            UsageError: there is something in it.
        """
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"--out: {out} is not empty. Give the name of a new folder")
        for name, table in self.tables.items():
            folder = out / "figures" / folder_name(name)
            folder.mkdir(parents=True)
            write_figures(table, self.manifests[name], self._curves(name), folder)
        for part in self.across:
            folder = out / "figures" / f"across-{part.suite}"
            folder.mkdir(parents=True)
            write_across_figures(part, folder)
        texts = texts_of(list(self.tables.values()))
        texts["report.html"] = self.report(out)
        texts["table.md"] = self.to_markdown()
        texts["across.csv"] = across_to_csv(self.across)
        for name, text in texts.items():
            if text:
                write_atomically(out / name, text.encode())


def compare(runs: Sequence[Path | str]) -> RunComparison:
    """Return the tables of several runs, sweeps and published folders together.

    Rows of two runs with the same policy and learner are told apart by the run's name. A
    table, one for each version of a distribution, has the splits and numbers of shots that all its
    runs scored. Reference lines, and rows in the aggregates across distributions, are those of the
    first run that has them.

    Args:
        runs: folders with a ``run.json``, or their names below ``results/``.

    Raises:
        UsageError: there is no such run, a run is given twice, or two runs scored a distribution by
            different protocols; the message names the runs and what differs.
        ArtefactError: a file of a run is malformed.
    """
    folders = _names([find_run(run) for run in runs])
    groups: dict[str, dict[str, TableSource]] = {}
    for name, folder in folders.items():
        for source in sources(folder):
            dist = source.manifest.distributions[0].versioned_name
            group = groups.setdefault(dist, {})
            if name in group:
                raise UsageError(
                    f"{name} scores {dist} in several ways, each in its own table: it cannot be "
                    "compared. Give runs with one way of scoring"
                )
            group[name] = source
    curves = {
        f"{name}/{key}": curve
        for name, folder in folders.items()
        for key, curve in read_curves(folder).items()
    }
    tables, manifests, normalised, repeated = {}, {}, {}, {}
    for key, group in groups.items():
        manifest, records, notes = _merge(key.partition("@")[0], group)
        lost = lost_in_training(manifest, curves)
        table = _table(manifest, records, group, lost, notes)
        if key in constants().constants:
            if _has_all_test_tasks(key, table, manifest):
                normalised[key], repeated[key] = _firsts(key, group, table)
            elif len(groups) > 1:
                table = dataclasses.replace(table, caption=(*table.caption, NOT_AGGREGATED))
        tables[key], manifests[key] = table, manifest
    return RunComparison(tables, _aggregates(normalised, repeated), manifests, curves, folders)


def _aggregates(
    normalised: Mapping[str, Comparison], repeated: Mapping[str, Sequence[str]]
) -> tuple[Across, ...]:
    """Return the aggregates that have rows; they say which rows of later runs they leave out."""
    found = []
    for part in across(normalised):
        if not part.frame.empty:
            again = dict.fromkeys(text for key in part.distributions for text in repeated[key])
            found.append(dataclasses.replace(part, left_out=(*part.left_out, *again)))
    return tuple(found)


def _has_all_test_tasks(name: str, table: Comparison, manifest: Manifest) -> bool:
    """Return whether a table is of all test tasks of a distribution with default settings."""
    given = manifest.config.get("env", {})
    env = _default_settings(name) if given else {}
    chosen = manifest.config.get("test_tasks") is not None
    preview = manifest.config.get("evaluation", {}).get("protocol") == "quick"
    return table.split == "test" and not chosen and not preview and env == given


def _default_settings(name: str) -> dict[str, Any]:
    """Return the settings that a distribution of this name and version has by default."""
    plain, _, version = name.partition("@")
    known = name in task_distributions.names()
    env = dataclasses.asdict(task_distributions.settings_class(name if known else plain)())
    if not known and "reward_version" in env:  # Meta-World's version is that of its reward
        env["reward_version"] = f"v{version}"
    return env


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the folders by name: their last part, and its parents where that is not enough."""
    resolved = [folder.resolve() for folder in folders]
    for folder in resolved:
        if resolved.count(folder) > 1:
            raise UsageError(f"{folder} is given twice")
    for length in range(1, max((len(folder.parts) for folder in resolved), default=0) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in resolved]
        if len(set(names)) == len(names):
            return dict(zip(names, folders, strict=True))
    raise UsageError("give at least one run")


def _merge(
    dist: str, group: Mapping[str, TableSource]
) -> tuple[Manifest, pd.DataFrame, tuple[str, ...]]:
    """Return the cells and records of one distribution's runs, and what was left out, as text."""
    (first, source), *others = group.items()
    for name, other in others:
        differing = "; ".join(_differences(source, other))
        if differing:
            raise UsageError(
                f"{first} and {name} cannot be compared on {dist}: {differing}. Score one of them "
                "again with the settings of the other"
            )
    cells = _cells(group)
    lines = [
        {f"{name}/{key}": cell for key, cell in part.manifest.references.items()}
        for name, part in group.items()
    ]
    references = max(lines, key=lambda found: sum(cell.status == "ok" for cell in found.values()))
    info = source.manifest.distributions[0].model_copy(update={"name": dist})
    manifest = source.manifest.model_copy(
        update={"tables": {dist: info}, "cells": cells, "references": references}
    )
    records = _records(group, cells)
    scored = [(part["split"], part["shots"]) for part in (p.records for p in group.values())]
    common = (set(records["split"]), set(records["shots"]))
    cut = any({*split} - common[0] or {*shots} - common[1] for split, shots in scored)
    notes = ("Splits and numbers of shots: only those that every run scored.",) if cut else ()
    return manifest, records, notes


def _firsts(
    key: str, group: Mapping[str, TableSource], table: Comparison
) -> tuple[Comparison, list[str]]:
    """Return a distribution's table with every row of the first run that has it.

    Args:
        key: the distribution.
        group: its runs.
        table: of all their rows, which is returned if no two runs have the same.

    Returns:
        The table, and the rows that are left out.
    """
    seen = set[tuple[str, str]]()
    firsts, repeated = {}, []
    for name, part in group.items():
        rows = {key: (cell.policy, cell.learner) for key, cell in part.manifest.cells.items()}
        cells = {key: part.manifest.cells[key] for key, row in rows.items() if row not in seen}
        again = dict.fromkeys(row for row in rows.values() if row in seen)
        repeated += [f"{' '.join(row)} of {name} (a run before it has that row)" for row in again]
        seen |= set(rows.values())
        if cells:
            manifest = part.manifest.model_copy(update={"cells": cells})
            kept = part.records["learner"].eq(REFERENCE) | part.records["cell"].isin(list(cells))
            firsts[name] = dataclasses.replace(part, manifest=manifest, records=part.records[kept])
    if not repeated:
        return table, []
    manifest, records, _ = _merge(key.partition("@")[0], firsts)
    return comparison_table(records, manifest), repeated


def _cells(group: Mapping[str, TableSource]) -> dict[str, CellInfo]:
    """Return the cells of all runs; where rows would be equal, the learner has the run's name."""
    runs: dict[tuple[str, str], set[str]] = {}
    for name, part in group.items():
        for cell in part.manifest.cells.values():
            runs.setdefault((cell.policy, cell.learner), set()).add(name)

    def learner(cell: CellInfo, run: str) -> str:
        shared = len(runs[cell.policy, cell.learner]) > 1
        return f"{cell.learner} ({run})" if shared else cell.learner

    return {
        f"{name}/{key}": cell.model_copy(
            update={"task_dist": cell.task_dist.partition("@")[0], "learner": learner(cell, name)}
        )
        for name, part in group.items()
        for key, cell in part.manifest.cells.items()
    }


def _records(group: Mapping[str, TableSource], cells: Mapping[str, CellInfo]) -> pd.DataFrame:
    """Return what every run scored, and the reference lines of the first run that has them."""
    scored = [part.records for part in group.values() if not part.records.empty]
    own = [own for part in scored if len(own := part[part["learner"] != REFERENCE])]
    splits = set.intersection(*(set(part["split"]) for part in scored)) if scored else set()
    shots = set.intersection(*(set(part["shots"]) for part in own)) if own else set()
    if scored and not splits:
        raise UsageError(f"no split was scored by all of {', '.join(group)}")
    learners = {key: cell.learner for key, cell in cells.items()}
    frames, lines = [], set[tuple[str, str]]()
    for name, part in group.items():
        records = part.records[part.records["split"].isin(splits)]
        records = records.assign(run=name, cell=[f"{name}/{key}" for key in records["cell"]])
        line = records["learner"].eq(REFERENCE)
        keys = pd.Series(list(zip(records["policy"], records["split"], strict=True)), records.index)
        records = records[(line & ~keys.isin(lines)) | (~line & records["shots"].isin(shots))]
        lines |= set(keys[line])
        named = records["cell"].map(learners).fillna(REFERENCE)
        dists = records["task_dist"].str.split("@").str[0]
        frames.append(records.assign(learner=named, task_dist=dists))
    return pd.concat(frames, ignore_index=True)


def _differences(one: TableSource, two: TableSource) -> Iterator[str]:
    """Yield what makes the scores of two runs incomparable."""
    a, b = one.manifest.distributions[0], two.manifest.distributions[0]
    if a.protocol != b.protocol:
        yield f"protocols {a.protocol!r} and {b.protocol!r}"
    for section in ("env", "evaluation"):
        x, y = (part.manifest.config.get(section, {}) for part in (one, two))
        for name in sorted(x.keys() & y.keys() - set(FREE)):
            if x[name] != y[name]:
                yield f"{section}.{name} is {x[name]!r} and {y[name]!r}"
    for split in sorted(set(one.records["split"]) & set(two.records["split"])):
        tasks = [set(p.records.loc[p.records["split"] == split, "task"]) for p in (one, two)]
        if tasks[0] != tasks[1]:
            yield f"other {split} tasks ({len(tasks[0])} and {len(tasks[1])})"


def _table(
    manifest: Manifest,
    records: pd.DataFrame,
    group: Mapping[str, TableSource],
    lost: Mapping[tuple[str, str], tuple[int, int]],
    notes: Sequence[str],
) -> Comparison:
    table = comparison_table(records, manifest)
    runs: dict[tuple[str, ...], list[str]] = {}
    for key, cell in manifest.cells.items():
        names = runs.setdefault((cell.policy, cell.learner), [])
        names += [key.rpartition("/")[0]]
    parts = [
        _with_runs(with_training(with_settings(part, manifest), lost), runs)
        for part in table.splits
    ]
    table = dataclasses.replace(parts[0], others=tuple(parts[1:]))
    several = {name: source.manifest for name, source in group.items()}
    text = (*caption(table, manifest, several), *notes)
    return dataclasses.replace(table, title=title(table, manifest), caption=text)


def _with_runs(table: Comparison, runs: Mapping[tuple[str, ...], Sequence[str]]) -> Comparison:
    """Return the table with a column for the run of each row."""
    frame = table.frame.copy()
    column: list[Any] = [
        ", ".join(dict.fromkeys(runs.get((policy, learner), ())))
        for policy, learner in zip(frame["policy"], frame["learner"], strict=True)
    ]
    frame.insert(len(ROW_KEY), "run", column)
    return dataclasses.replace(table, frame=frame)
