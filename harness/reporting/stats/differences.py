"""Every row of a table minus one of them, paired by seed and task: what a comparison rests on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.errors import UsageError
from harness.reporting.rebuild import sources
from harness.reporting.render.blocks import (
    ROW_HEAD,
    Block,
    Text,
    decimals,
    estimate_text,
    shot_label,
)
from harness.reporting.stats.scores import (
    REFERENCE,
    ROW,
    Row,
    UnpairedError,
    paired_difference,
    usable_records,
)
from harness.reporting.stats.statistics import Estimate

UNPAIRED: Text = ("not the same", "seeds and tasks")


def differences(folder: Path, against: str) -> list[Block]:
    """Return a grid for every table of a run that has the row ``against``.

    Args:
        folder: of the run.
        against: words that tell one row from all others, of its policy, learner and adapter.

    Raises:
        UsageError: no table has exactly one such row, or there is no run.
        ArtefactError: a file of the run is malformed.
    """
    found, known = [], set()
    for source in sources(folder):
        for split, part in usable_records(source.records, source.manifest).items():
            rows = _rows(part)
            known |= {_label(row) for row in rows}
            chosen = [row for row in rows if set(against.split()) <= set(_label(row).split())]
            exact = [row for row in chosen if _label(row).split() == against.split()]
            if len(exact or chosen) == 1 and len(rows) > 1:
                (base,) = exact or chosen
                found.append(_block(f"{source.name}, {split} tasks", part, rows, base))
    if not found:
        have = ", ".join(sorted(known))
        raise UsageError(
            f"--against {against!r} names no row, several, or the only one; have: {have}"
        )
    return found


def _rows(records: pd.DataFrame) -> list[Row]:
    competing = records[records["learner"] != REFERENCE]
    names = competing[list(ROW)].drop_duplicates()
    return [tuple(map(str, row)) for row in names.itertuples(index=False, name=None)]


def _label(row: Row) -> str:
    return " ".join(filter(None, row[1:]))


def _block(name: str, records: pd.DataFrame, rows: list[Row], base: Row) -> Block:
    shots = sorted({int(count) for count in records.loc[records["learner"] != REFERENCE, "shots"]})
    found = {
        row: [_difference(records, row, base, count) for count in shots]
        for row in rows
        if row != base and row[0] == base[0]
    }
    points = [value.point for values in found.values() for value in values if value]
    body = [
        (
            (row[1], ", ".join(filter(None, row[2:]))),
            *(_text(value, decimals(points)) for value in values),
        )
        for row, values in found.items()
    ]
    title = f"{name}: return minus that of {_label(base)}, paired by seed and task"
    return Block(title, (ROW_HEAD, *((shot_label(count), "") for count in shots)), tuple(body))


def _difference(records: pd.DataFrame, row: Row, base: Row, shots: int) -> Estimate | None:
    try:
        return paired_difference(records, row, base, shots=(shots, shots))
    except UnpairedError:
        return None


def _text(value: Estimate | None, digits: int) -> Text:
    if value is None:
        return UNPAIRED
    line = {"d": value.point, "d_low": value.low, "d_high": value.high}
    return estimate_text(line, "d", digits, sign=True)
