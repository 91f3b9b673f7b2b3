"""The tables and figures of a run, rebuilt from its records, curves and manifest alone.

Cells that were scored on the same things share a table: one for each task distribution, and one for
each value of a setting of the scoring that varies. Other settings that vary become part of the
row's name and columns of the CSV.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from harness.errors import ArtefactError, ExitCode, UsageError
from harness.reporting.render.captions import caption, title
from harness.reporting.render.figures import figure, write_figures
from harness.reporting.render.formats import classes_to_csv, to_csv, to_latex, to_markdown
from harness.reporting.render.html import Media, RunReport, Section, to_html
from harness.reporting.stats.comparison import Comparison, comparison_table
from harness.reporting.stats.curves import with_curves
from harness.reporting.store.files import write_atomically
from harness.reporting.store.manifest import CELLS_DIR, Manifest, changes_scoring
from harness.reporting.store.records import read_curves, read_events, read_records
from harness.types import AGENT, REFERENCE, REFERENCE_LINES, Metrics

CELL_CONFIG = "cell.yaml"
"""File in a cell's folder from which ``harness.run --config`` plays the cell again."""

DRAWN = ("adaptation_curve", "learning_curves", "success_curve")
"""First words of the names of figures that the report draws itself."""


@dataclass(frozen=True, slots=True)
class TableSource:
    """What one table is computed from."""

    name: str
    """The task distribution, and the settings of the scoring that vary."""
    manifest: Manifest
    """Of the table's cells alone; learners are named as the rows are."""
    records: pd.DataFrame


def sources(run: Path) -> list[TableSource]:
    """Return what each table of a run is computed from.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed, or has records of an unknown cell.
    """
    manifest, records = Manifest.load(run), read_records(run)
    strangers = set(records["cell"]) - manifest.entries.keys()
    if strangers:
        raise ArtefactError(f"{run}: records of cell {min(strangers)!r}, which is not in the run")
    _check_names(run, manifest, records)
    found = []
    for name in manifest.tables:
        part = manifest.part(name)
        rows = records[records["cell"].isin(part.entries.keys())].reset_index(drop=True)
        own = rows["learner"].ne(REFERENCE)
        learners = {key: cell.learner for key, cell in part.cells.items()}
        rows.loc[own, "learner"] = rows.loc[own, "cell"].map(learners)
        found.append(TableSource(name, part, rows))
    return found


def _check_names(run: Path, manifest: Manifest, records: pd.DataFrame) -> None:
    """Raise ArtefactError unless every record has the names that the manifest gives its cell."""
    columns = ["task_dist", "dist_version", "seed", "policy", "learner"]
    for key, *names in records[["cell", *columns]].drop_duplicates().itertuples(index=False):
        entry = manifest.entries[key]
        expected = [entry.task_dist, manifest.tables[entry.table].version, entry.seed]
        lines = [[line, REFERENCE] for line in REFERENCE_LINES]
        of_cell = [[entry.policy, entry.learner]] if key in manifest.cells else lines
        if names[:3] != expected or names[3:] not in of_cell:
            what = ", ".join(f"{c} {n!r}" for c, n in zip(columns, names, strict=True))
            raise ArtefactError(f"{run}: cell {key!r} has records of something else ({what})")


def load_tables(run: Path) -> list[Comparison]:
    """Return the captioned tables of a run; write nothing.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    curves = read_curves(run)
    return [_table(run, source, curves) for source in sources(run)]


def load_comparison(run: Path) -> tuple[Comparison, Manifest]:
    """Return the first table of a run, most often its only one, and its manifest; write nothing.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    source = sources(run)[0]
    return _table(run, source, read_curves(run)), source.manifest


def exit_code(tables: Sequence[Comparison]) -> ExitCode:
    """Return the code of a run with these tables: cells missing, cells failed, or complete."""
    if any(table.missing for table in tables):
        return ExitCode.INTERRUPTED
    failed = any(table.failed for table in tables)
    return ExitCode.CELLS_FAILED if failed else ExitCode.COMPLETE


def rebuild(run: Path) -> list[Comparison]:
    """Write ``table.{csv,md,tex}``, ``report.html`` and the figures; return the tables.

    Where tasks have classes, ``classes.csv`` too.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    found = sources(run)
    sections, figures = _sections(run, found), run / "figures"
    shutil.rmtree(figures, ignore_errors=True)
    for source, part in zip(found, sections, strict=True):
        folder = figures / folder_name(source.name) if len(found) > 1 else figures
        folder.mkdir(parents=True, exist_ok=True)
        write_figures(part.table, part.manifest, part.curves, folder)
    for name, text in _texts(run, sections).items():
        if text:
            write_atomically(run / name, text.encode())
    return [part.table for part in sections]


def rebuilt_texts(run: Path) -> dict[str, str]:
    """Return what ``rebuild`` writes besides figures, by file name; write nothing.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    return _texts(run, _sections(run, sources(run)))


def _texts(run: Path, sections: Sequence[Section]) -> dict[str, str]:
    return {"report.html": _page(run, sections)} | texts_of([part.table for part in sections])


def draw(run: Path, name: str, table: str | None = None) -> Figure:
    """Return a figure of a run, drawn from its records and curves; write nothing.

    Args:
        run: the run's folder.
        name: of the figure, such as ``adaptation_curve``.
        table: which table's, by its name; the first if not given.

    Raises:
        UsageError: there is no such run, table or figure.
        ArtefactError: one of its files is malformed.
    """
    found = {source.name: source for source in sources(run)}
    chosen = next(iter(found)) if table is None else table
    if chosen not in found:
        raise UsageError(f"there is no table {chosen!r}; choose from: {'; '.join(found)}")
    source, curves = found[chosen], read_curves(run)
    own = {key: curves[key] for key in source.manifest.cells if key in curves}
    return figure(name, _table(run, source, curves), source.manifest, own)


def report(run: Path) -> str:
    """Return the HTML page of a run, with the figures in its folder; write nothing.

    Raises:
        UsageError: there is no run.
        ArtefactError: one of its files is malformed.
    """
    return _page(run, _sections(run, sources(run)))


def _page(run: Path, sections: Sequence[Section]) -> str:
    # Not the folder's name: a published run is moved after its report was written.
    names = dict.fromkeys(read_records(run)["run"])
    name = ", ".join(names) if names else sections[0].table.title
    return to_html(sections, [run_report(run, name)], media=media_of(run))


def run_report(run: Path, name: str) -> RunReport:
    """Return what a page shows of a run besides its tables."""
    return RunReport(name, Manifest.load(run), tuple(read_events(run)))


def media_of(folder: Path) -> list[Media]:
    """Return the films of a run, and its figures but for those that the page draws itself."""
    found = []
    for path in sorted(folder.glob("clips/*/*.mp4")):
        caption = f"{path.parent.name}, after {path.stem.removeprefix('shots-')} shots"
        found.append((path, caption, "video/mp4"))
    for path in sorted(folder.glob("figures/**/*.png")):
        if not path.name.startswith(DRAWN):
            name = path.relative_to(folder / "figures").with_suffix("").as_posix()
            found.append((path, name.replace("_", " "), "image/png"))
    return [
        Media(path.relative_to(folder).as_posix(), caption, kind, path.read_bytes())
        for path, caption, kind in found
    ]


def _sections(run: Path, found: Sequence[TableSource]) -> list[Section]:
    curves = read_curves(run)
    return [
        Section(
            _table(run, source, curves),
            source.manifest,
            {key: curves[key] for key in source.manifest.cells if key in curves},
        )
        for source in found
    ]


def texts_of(tables: Sequence[Comparison]) -> dict[str, str]:
    """Return the content of every text file of ``tables``, by name; may be empty."""
    return {
        "table.csv": one_csv([to_csv(table) for table in tables]),
        "table.md": "\n".join(to_markdown(table) for table in tables),
        "table.tex": "\n".join(to_latex(table) for table in tables),
        "classes.csv": one_csv([text for table in tables if (text := classes_to_csv(table))]),
    }


def _table(run: Path, source: TableSource, curves: Mapping[str, Sequence[Metrics]]) -> Comparison:
    manifest = source.manifest
    table = comparison_table(source.records, manifest)
    lost = lost_in_training(manifest, curves)
    first, *others = (with_training(with_settings(split, manifest), lost) for split in table.splits)
    first = with_curves(first, manifest, curves)
    table = dataclasses.replace(first, others=tuple(others))
    varied = source.name.partition(", ")[2]
    head = title(table, manifest)
    text = (
        *_reruns(run, manifest),
        *_made_differently(manifest),
        *caption(table, manifest),
        *_played_once(source),
    )
    return dataclasses.replace(table, title=f"{head}, {varied}" if varied else head, caption=text)


def rerun_command(cell: Path, command: str = "run") -> tuple[str, ...]:
    """Return the command that plays the cell in the folder ``cell`` again, in one process.

    Its path is relative where the folder is below the working directory.
    """
    path = (cell / CELL_CONFIG).absolute()
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    words = f"python -m harness.{command} --config".split()
    return (*words, shown.as_posix(), "--backend", "local")


def _reruns(run: Path, manifest: Manifest) -> Iterator[str]:
    """Yield how to reproduce each failure."""
    for key in manifest.ids("failed"):
        cell = run / CELLS_DIR / key
        if (cell / CELL_CONFIG).is_file():
            command = "score" if manifest.cells[key].learner == AGENT else "run"
            yield f"Rerun {key}: {shlex.join(rerun_command(cell, command))}"


def _played_once(source: TableSource) -> Iterator[str]:
    """Yield which rows have one query episode of each task where others would repeat it."""
    asked = source.manifest.config.get("evaluation", {}).get("query_episodes", 1)
    played = source.records.groupby(["policy", "learner"], sort=False)["query_episode"].max()
    once = [f"{row[0]} {row[1]}" for row, last in played.items() if last == 0 and asked > 1]  # type: ignore[index]
    if once:
        yield (
            f"Played once: {', '.join(once)}. Start and policy are deterministic, so that the "
            f"other {asked - 1} query episodes of a task would repeat the first "
            "(--no-deterministic samples actions)."
        )


def _made_differently(manifest: Manifest) -> Iterator[str]:
    """Yield a warning if the cells were not all played by the same code or kind of processor."""
    played = manifest.ids("ok", "failed", "stopped")
    cells = [manifest.cells[key] for key in played]
    cpus = [cell.cpu or str(manifest.host.get("cpu", "")) for cell in cells]
    revisions = {cell.revision[:12] for cell in cells} - {""}
    processors = {name for cpu in cpus for name in cpu.split("; ")} - {""}
    for kind, names, comma in (("revisions", revisions, ", "), ("processors", processors, "; ")):
        if len(names) > 1:
            shown = comma.join(sorted(names))
            yield f"Cells of this table were played by different {kind}: {shown}."


def with_settings(table: Comparison, manifest: Manifest) -> Comparison:
    """Return the table with a column for every setting that varies, behind the row's names.

    An adapter that varies is one of those names. Reference lines have what the table is scored by.
    """
    frame = table.frame.copy()
    cells = manifest.cells.values()
    settings = {(cell.policy, cell.learner): cell.settings for cell in cells}
    names = dict.fromkeys(name for cell in cells for name in cell.settings)
    names.pop("adapter", None)
    shared = {n: v for cell in cells for n, v in cell.settings.items() if changes_scoring(n)}
    rows = list(zip(frame["policy"], frame["learner"], strict=True))
    for place, name in enumerate(names, list(frame.columns).index("adapter") + 1):
        column = [_plain(settings.get(row, shared).get(name)) for row in rows]
        frame.insert(place, name, pd.Series(column, index=frame.index, dtype=object))
    return dataclasses.replace(table, frame=frame)


def lost_in_training(
    manifest: Manifest, curves: Mapping[str, Sequence[Metrics]]
) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the invalid episodes and skipped updates of the complete cells by row."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for key, cell in manifest.cells.items():
        row, curve = (cell.policy, cell.learner), curves.get(key, ()) if cell.status == "ok" else ()
        invalid, skipped = found.get(row, (0, 0))
        invalid += sum(metrics.invalid_episodes for metrics in curve)
        found[row] = (invalid, skipped + sum(metrics.skipped for metrics in curve))
    return found


def with_training(table: Comparison, lost: Mapping[tuple[str, str], tuple[int, int]]) -> Comparison:
    """Return the table with columns for what was lost in training, behind the invalid episodes."""
    frame = table.frame.copy()
    rows = list(zip(frame["policy"], frame["learner"], strict=True))
    place = list(frame.columns).index("invalid_episodes") + 1
    for number, name in enumerate(("invalid_training_episodes", "skipped_updates")):
        values = [lost[row][number] if row in lost else None for row in rows]
        frame.insert(place + number, name, pd.Series(values, index=frame.index, dtype="Int64"))
    return dataclasses.replace(table, frame=frame)


def _plain(value: Any) -> Any:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if value is None or numeric else str(value)


def folder_name(table: str) -> str:
    """Return the name of a table's folder of figures, whatever its settings contain."""
    plain = table.replace(", ", ".").replace("=", "-")
    safe = re.sub(r"[^A-Za-z0-9._@\[\]-]", "-", plain)[:110]
    # What was replaced or cut off may have distinguished two tables.
    return safe if safe == plain else f"{safe}-{hashlib.sha256(table.encode()).hexdigest()[:12]}"


def one_csv(texts: Sequence[str]) -> str:
    """Return several tables as one, with the columns of all; a cell is empty where one has none."""
    heads = {text.partition("\n")[0] for text in texts}
    if len(heads) < 2:
        return "".join([*texts[:1], *(text.partition("\n")[2] for text in texts[1:])])
    tables = [list(csv.DictReader(io.StringIO(text))) for text in texts]
    columns = dict.fromkeys(name for table in tables for row in table[:1] for name in row)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for table in tables for row in table)
    return out.getvalue()
