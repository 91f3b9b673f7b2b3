"""The folder of a run: parquet parts, curves and events, written whole and read with distrust."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import ArtefactError
from harness.reporting.store.files import remove_temporaries, run_path, safe_name, write_atomically
from harness.reporting.store.schema import (
    RECORD_SCHEMA,
    UNIQUE,
    check_records,
    decode_metrics,
    encode_metrics,
    encode_records,
    read_parquet,
)
from harness.types import EvalRecord, Metrics

__all__ = ["ArtefactError", "RunFolder", "read_curves", "read_records", "run_path"]

PARTS = ("records", "curves", "checkpoints", "figures")
"""Subfolders of a run."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``results/<run>/``: everything one run leaves behind."""

    path: Path

    @classmethod
    def create(cls, path: Path, *, resume: bool = False) -> RunFolder:
        """Make the folder with its parts, or open it again.

        Raises:
            ValueError: it holds something and ``resume`` is not set, or there is nothing to resume.
        """
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file. Choose another --name")
        used = path.is_dir() and any(path.iterdir())
        if used and not resume:
            raise ValueError(f"{path} is not empty. Continue with --resume or pick another --name")
        if resume and not used:
            raise ValueError(f"{path} does not exist: nothing to resume. Leave --resume out")
        for part in PARTS:
            (path / part).mkdir(parents=True, exist_ok=True)
        remove_temporaries(path)
        return cls(path)

    @property
    def manifest_path(self) -> Path:
        """Where the manifest lies."""
        return self.path / "manifest.json"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie, each name beginning with the id of its cell."""
        return self.path / "checkpoints"

    def write_records(self, cell_id: str, rows: Sequence[EvalRecord]) -> None:
        """Write the records of one cell, replacing what was there.

        Raises:
            ValueError: a row is of another cell, a duplicate, or holds an impossible value.
        """
        table = encode_records(rows)
        check_records(table, cell_id)
        _write_parquet(self.path / "records" / f"{safe_name(cell_id, 'cell')}.parquet", table)

    def write_curve(self, cell_id: str, rows: Sequence[Metrics]) -> None:
        """Write the whole learning curve of one cell, replacing what was there."""
        path = self.path / "curves" / f"{safe_name(cell_id, 'cell')}.parquet"
        _write_parquet(path, encode_metrics(rows))

    def read_curve(self, cell_id: str) -> tuple[Metrics, ...]:
        """Return the curve written so far; empty before the first ``write_curve``."""
        path = self.path / "curves" / f"{safe_name(cell_id, 'cell')}.parquet"
        return decode_metrics(read_parquet(path)) if path.exists() else ()

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to ``events.jsonl``: when, what kind, and ``fields``."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "kind": kind} | _jsonable(fields), default=str)
        with (self.path / "events.jsonl").open("ab+") as file:
            # A process killed in the middle of a line must not spoil the next one.
            if file.tell() and _last_byte(file) != b"\n":
                line = "\n" + line
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _jsonable(fields: dict[str, Any]) -> dict[str, Any]:
    # JSON has no NaN: a loss that is not a number is written as the text "nan".
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in fields.items()
    }


def _write_parquet(path: Path, table: pa.Table) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue().to_pybytes())


def read_records(run_dir: Path) -> pd.DataFrame:
    """Return the records of all cells of a run, in an order that depends on their content alone.

    No row at all where no cell is complete yet; the folder itself is missing where a cell's process
    died before it began, and in what comes from an object store, which keeps no empty folders.

    Raises:
        ValueError: there is no run.
        ArtefactError: a part is malformed; the message names it.
    """
    folder = run_dir / "records"
    if not folder.is_dir() and not (run_dir / "manifest.json").is_file():
        raise ValueError(f"no records in {run_dir}: not a run's folder. Check the path")
    paths = sorted(folder.glob("*.parquet"))
    tables = [RECORD_SCHEMA.empty_table()]
    for path in paths:
        table = read_parquet(path, RECORD_SCHEMA)
        try:
            check_records(table, path.stem)
        except ValueError as error:
            raise ArtefactError(f"{path}: {error}") from error
        tables.append(table)
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame.sort_values(list(UNIQUE), ignore_index=True)


def read_curves(run_dir: Path) -> dict[str, tuple[Metrics, ...]]:
    """Return the learning curve of every cell that has one, by cell id.

    Raises:
        ArtefactError: a part is malformed; the message names it.
    """
    paths = sorted((run_dir / "curves").glob("*.parquet"))
    return {path.stem: decode_metrics(read_parquet(path)) for path in paths}
