"""Differences between one row of a table and every other."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.errors import UsageError
from harness.reporting.rebuild import sources
from harness.reporting.render.tables import (
    ROW_HEADER,
    Grid,
    decimals,
    estimate_cell,
    shot_label,
)
from harness.reporting.stats.scores import (
    RowKey,
    check_same_grid,
    difference,
    row_keys,
    scores,
    usable_records,
)
from harness.types import REFERENCE


def differences(folder: Path, against: str) -> list[Grid]:
    """Return one grid for every table of a run that has the row ``against``.

    Args:
        folder: folder of the run.
        against: words from a row's policy, learner and adapter that no other row has.

    Raises:
        UsageError: no table has exactly one such row, or there is no run.
        ArtefactError: a file of the run is malformed, or its rows cannot be compared.
    """
    found, labels = [], set()
    for source in sources(folder):
        for split, part in usable_records(source.records, source.manifest).items():
            check_same_grid(part)
            rows = _rows(part)
            labels |= {_label(row) for row in rows}
            matches = [row for row in rows if set(against.split()) <= set(_label(row).split())]
            exact = [row for row in matches if _label(row).split() == against.split()]
            if len(exact or matches) == 1 and len(rows) > 1:
                (base,) = exact or matches
                found.append(_grid(f"{source.name}, {split} tasks", part, rows, base))
    if not found:
        raise UsageError(
            f"--against {against!r} must match exactly one of several rows; "
            f"choose from: {', '.join(sorted(labels))}"
        )
    return found


def _rows(records: pd.DataFrame) -> list[RowKey]:
    competing = records[records["learner"] != REFERENCE]
    return list(dict.fromkeys(row_keys(competing)))


def _label(row: RowKey) -> str:
    return " ".join(filter(None, row[1:]))


def _grid(name: str, records: pd.DataFrame, rows: list[RowKey], base: RowKey) -> Grid:
    shots = sorted({int(count) for count in records.loc[records["learner"] != REFERENCE, "shots"]})
    found = scores(records, "return_")
    by_row = {
        row: [difference(found[row][count], found[base][count]) for count in shots]
        for row in rows
        if row != base and row[0] == base[0]
    }
    digits = decimals([value.point for values in by_row.values() for value in values])
    cells = tuple(
        (
            (row[1], ", ".join(filter(None, row[2:]))),
            *(estimate_cell(v.columns("return"), "return", digits, sign=True) for v in values),
        )
        for row, values in by_row.items()
    )
    title = (
        f"{name}: return minus return of {_label(base)}, 95% intervals by Student's t on the "
        "differences of each seed (Welch's where the seeds differ)"
    )
    return Grid(title, (ROW_HEADER, *((shot_label(count), "") for count in shots)), cells)
