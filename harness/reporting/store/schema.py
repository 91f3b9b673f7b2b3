"""The parquet columns of records and curves, derived from their dataclasses, and their checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import ArtefactError
from harness.types import EvalRecord, Metrics

MAX_BYTES = 1 << 30
"""Largest parquet file that is opened, on disk and unpacked."""
MAX_TEXT = 1000
"""Longest string in a record."""
UNIQUE = ("cell", "policy", "split", "task", "shots", "query_episode")
"""Columns that identify a record: each query episode is scored once."""

_REWARDS = pa.list_(pa.float32())
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_SCALARS: dict[type, tuple[type, ...]] = {
    str: (str,),
    int: (int, np.integer),
    float: (float, int, np.floating, np.integer),
    bool: (bool, np.bool_),
}


def scalar_fields(cls: type) -> dict[str, type]:
    """Return the fields of a dataclass that are one plain value each, with their types."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if hints[f.name] in _ARROW}


RECORD_FIELDS = scalar_fields(EvalRecord)
METRIC_FIELDS = scalar_fields(Metrics)
METRIC_GROUPS = ("seconds", "info", "validation")
"""Dictionaries of a Metrics, one column per key: ``seconds_physics``, ``validation_return_5``."""


def _schema(fields: Mapping[str, type]) -> pa.Schema:
    return pa.schema([pa.field(n, _ARROW[kind], nullable=False) for n, kind in fields.items()])


REWARDS = "rewards"
"""The one column of records that is a list."""
RECORD_SCHEMA = _schema(RECORD_FIELDS).append(pa.field(REWARDS, _REWARDS, nullable=False))


def column(name: str, kind: type, values: Sequence[Any]) -> pa.Array:
    """Return ``values`` as one column.

    Raises:
        ValueError: a value is not of the declared kind (pyarrow alone turns 1.5 into 1).
    """
    for value in values:
        boolean = isinstance(value, (bool, np.bool_))
        if not isinstance(value, _SCALARS[kind]) or boolean != (kind is bool):
            raise ValueError(f"{name} = {value!r} is not of type {kind.__name__}")
    return pa.array([kind(value) for value in values], _ARROW[kind])


def encode_records(rows: Sequence[EvalRecord]) -> pa.Table:
    """Return checked records as a table of ``RECORD_SCHEMA``.

    Raises:
        ValueError: a row breaks a rule of ``check_records``.
    """
    columns = [
        column(name, kind, [getattr(row, name) for row in rows])
        for name, kind in RECORD_FIELDS.items()
    ]
    columns.append(pa.array([list(row.rewards) for row in rows], _REWARDS))
    return pa.Table.from_arrays(columns, schema=RECORD_SCHEMA)


def check_records(table: pa.Table, cell: str) -> None:
    """Raise ValueError unless the rows are a possible result of ``cell``."""
    if table.num_rows == 0:
        raise ValueError("no rows: a cell without a scored episode is a failed cell")
    values = {name: table.column(name).to_numpy(zero_copy_only=False) for name in RECORD_FIELDS}
    for name, kind in RECORD_FIELDS.items():
        _check_column(name, kind, values[name])
    strangers = sorted(set(values["cell"]) - {cell})
    if strangers:
        raise ValueError(f"rows of cell {strangers[0]!r} in the records of cell {cell!r}")
    _check_returns(values["return_"], values["invalid"].astype(bool), values["length_steps"])
    if not np.isfinite(table.column(REWARDS).combine_chunks().flatten().to_numpy()).all():
        raise ValueError("rewards holds a value that is not finite")
    seen: set[tuple[Any, ...]] = set()
    for key in zip(*(values[name].tolist() for name in UNIQUE), strict=True):
        if key in seen:
            raise ValueError(f"duplicate record {dict(zip(UNIQUE, key, strict=True))}")
        seen.add(key)


def _check_column(name: str, kind: type, values: np.ndarray) -> None:
    if kind is str and (longest := max(map(len, values))) > MAX_TEXT:
        raise ValueError(f"{name} holds a text of {longest} characters; at most {MAX_TEXT}")
    if kind is int and values.min() < 0:
        raise ValueError(f"{name} = {values.min()} is negative")
    if name == "adapt_seconds" and not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("adapt_seconds is negative or not finite")


def _check_returns(returns: np.ndarray, invalid: np.ndarray, lengths: np.ndarray) -> None:
    if np.isinf(returns).any():
        raise ValueError("return_ is infinite")
    if (np.abs(returns) > lengths * float(np.finfo(np.float32).max)).any():
        raise ValueError("return_ is larger than rewards in single precision can add up to")
    if (np.isnan(returns) & ~invalid).any():
        raise ValueError("return_ is NaN in an episode that is not marked invalid")


def encode_metrics(rows: Sequence[Metrics]) -> pa.Table:
    """Return a curve as a table: the plain fields, then one column per key of the dictionaries."""
    columns = {
        name: column(name, kind, [getattr(row, name) for row in rows])
        for name, kind in METRIC_FIELDS.items()
    }
    for group in METRIC_GROUPS:
        for key in sorted({key for row in rows for key in getattr(row, group)}):
            given = [getattr(row, group).get(key) for row in rows]
            values = [None if value is None else float(value) for value in given]
            columns[f"{group}_{key}"] = pa.array(values, pa.float64())
    fields = [
        pa.field(name, array.type, nullable=name not in METRIC_FIELDS)
        for name, array in columns.items()
    ]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def decode_metrics(table: pa.Table) -> tuple[Metrics, ...]:
    """Return the rows of a curve as they were before ``encode_metrics``."""
    return tuple(_metrics(row) for row in table.to_pylist())


def _metrics(row: Mapping[str, Any]) -> Metrics:
    values: dict[str, Any] = {name: row[name] for name in METRIC_FIELDS}
    values |= {group: {} for group in METRIC_GROUPS}
    for name, value in row.items():
        group, _, key = name.partition("_")
        if name not in METRIC_FIELDS and value is not None:
            values[group][key] = value
    return Metrics(**values)


def read_parquet(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """Read a parquet file with exactly the columns of ``schema`` (of a curve, if not given).

    Raises:
        ArtefactError: the file is too large, not parquet, has other columns or holds nulls.
    """
    try:
        if not path.is_file():  # opening a pipe blocks
            raise ArtefactError(f"{path}: not a file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ArtefactError(f"{path}: {size} bytes; at most {MAX_BYTES}")
        with pq.ParquetFile(path) as file:
            found, unpacked = file.schema_arrow, _unpacked_bytes(file)
            if unpacked > MAX_BYTES:
                raise ArtefactError(f"{path}: unpacks to {unpacked} bytes; at most {MAX_BYTES}")
            _check_schema(path, found, schema)
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise ArtefactError(f"{path}: not a readable parquet file ({error})") from error
    for name in schema.names if schema is not None else METRIC_FIELDS:
        if table.column(name).null_count:
            raise ArtefactError(f"{path}: column {name} holds nulls")
    return table if schema is None else table.select(schema.names)


def _unpacked_bytes(file: pq.ParquetFile) -> int:
    groups = range(file.metadata.num_row_groups)
    return sum(int(file.metadata.row_group(group).total_byte_size) for group in groups)


def _check_schema(path: Path, found: pa.Schema, schema: pa.Schema | None) -> None:
    names = {f.name: f.type for f in found}
    if len(names) != len(found):
        raise ArtefactError(f"{path}: a column name appears twice")
    if schema is None:
        extra = {n: t for n, t in names.items() if n not in METRIC_FIELDS}
        good = all(n.startswith(tuple(f"{group}_" for group in METRIC_GROUPS)) for n in extra)
        good = good and all(t == pa.float64() for t in extra.values())
        wanted = {n: _ARROW[kind] for n, kind in METRIC_FIELDS.items()} | (extra if good else {})
    else:
        wanted = {f.name: f.type for f in schema}
    differing = sorted(n for n in wanted.keys() | names.keys() if wanted.get(n) != names.get(n))
    if differing:
        raise ArtefactError(
            f"{path}: not the schema of this version; differing columns: {', '.join(differing)}"
        )
