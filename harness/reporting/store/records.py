"""The folders of a run and of its cells: parquet files, states and events."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import ArtefactError, SurroundingsError, UsageError
from harness.reporting.store.files import remove_temporaries, safe_name, write_atomically
from harness.reporting.store.manifest import CELLS_DIR, STATE_FILE, CellState, run_file
from harness.reporting.store.schema import (
    RECORD_SCHEMA,
    REWARDS,
    UNIQUE,
    check_records,
    decode_metrics,
    encode_metrics,
    encode_records,
    read_parquet,
)
from harness.types import EvalRecord, Metrics

POLICY_FILE = "policy.safetensors"
"""Inference-only checkpoint of a published cell: training cannot continue from it."""


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest last."""
    found = folder.glob("iteration-*.safetensors")
    return sorted(found, key=lambda path: (len(path.name), path.name))  # of more digits, too


@dataclass(frozen=True, slots=True)
class CellFolder:
    """``cells/<key>/``: everything one cell leaves behind."""

    path: Path

    @property
    def key(self) -> str:
        """Key of the cell in its run."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Where the cell's checkpoints are."""
        return self.path / "checkpoints"

    @property
    def policy(self) -> Path | None:
        """The newest file with the cell's trained policy, if there is one."""
        written = checkpoints_in(self.checkpoints)
        published = self.path / POLICY_FILE
        return next(reversed(written), published if published.is_file() else None)

    @property
    def records(self) -> Path:
        """The file of the cell's records; it exists once the cell was scored."""
        return self.path / "records.parquet"

    @property
    def curve(self) -> Path:
        """The file of the cell's learning curve."""
        return self.path / "curve.parquet"

    def create(self) -> None:
        """Make the folder, or remove what a killed process left unfinished in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self.path)

    def write_state(self, state: CellState) -> None:
        """Write what became of the cell."""
        self.path.mkdir(parents=True, exist_ok=True)
        state.write(self.path / STATE_FILE)

    def read_state(self) -> CellState:
        """Return what became of the cell; pending if it was never started.

        Raises:
            ArtefactError: the file is malformed.
        """
        path = self.path / STATE_FILE
        return CellState.read(path) if path.is_file() else CellState()

    def write_records(self, rows: Sequence[EvalRecord]) -> None:
        """Write the cell's records, replacing what was there.

        Raises:
            ValueError: a row is of another cell, a duplicate, or contains an impossible value.
        """
        table = encode_records(rows)
        check_records(table, self.key)
        _write_parquet(self.records, table)

    def read_records(self) -> pa.Table:
        """Return the cell's records; no row before it was scored.

        Raises:
            ArtefactError: the file is malformed.
        """
        if not self.records.exists():
            return RECORD_SCHEMA.empty_table()
        table = read_parquet(self.records, RECORD_SCHEMA)
        try:
            check_records(table, self.key)
        except ValueError as error:
            raise ArtefactError(f"{self.records}: {error}") from error
        return table

    def write_curve(self, rows: Sequence[Metrics]) -> None:
        """Write the whole learning curve, replacing what was there."""
        _write_parquet(self.curve, encode_metrics(rows))

    def read_curve(self) -> tuple[Metrics, ...]:
        """Return the learning curve so far; empty before the first ``write_curve``.

        Raises:
            ArtefactError: the file is malformed.
        """
        return decode_metrics(read_parquet(self.curve)) if self.curve.exists() else ()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``results/<run>/``: everything one run leaves behind."""

    path: Path

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise UsageError if a new run cannot be at ``path``, because something is there."""
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file. Choose another --name")
        if path.is_dir() and any(path.iterdir()):
            raise UsageError(f"{path} is not empty. Continue with --resume or pick another --name")

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make the folder of a new run.

        Raises:
            UsageError: the folder contains something already.
        """
        cls.check_free(path)
        try:
            (path / CELLS_DIR).mkdir(parents=True)
        except OSError as error:
            raise SurroundingsError(f"{path} cannot be created: {error}") from error
        return cls(path)

    def cell(self, key: str) -> CellFolder:
        """Return the folder of one cell.

        Raises:
            ValueError: the key would leave the run's folder.
        """
        return CellFolder(self.path / CELLS_DIR / safe_name(key, "cell"))

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to ``events.jsonl``: time, kind and ``fields``.

        Each event is a single write to the end of the file, so several processes may append.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "kind": kind} | _jsonable(fields), default=str)
        with (self.path / "events.jsonl").open("ab+", buffering=0) as file:
            # A process killed in the middle of a line must not spoil the next one.
            start = "\n" if file.tell() and _last_byte(file) != b"\n" else ""
            file.write(f"{start}{line}\n".encode())
            os.fsync(file.fileno())


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return bytes(file.read(1))


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


def read_records(run: Path) -> pd.DataFrame:
    """Return the records of all cells of a run, in an order that depends on their content alone.

    Raises:
        UsageError: there is no run.
        ArtefactError: a file is malformed; the message names it.
    """
    tables = [RECORD_SCHEMA.empty_table(), *(cell.read_records() for cell in _cells(run))]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    frame[REWARDS] = frame[REWARDS].map(lambda part: tuple(part.tolist()))
    return frame.sort_values(list(UNIQUE), ignore_index=True)


def read_curves(run: Path) -> dict[str, tuple[Metrics, ...]]:
    """Return the learning curve of every cell of a run that has one, by key.

    Raises:
        UsageError: there is no run.
        ArtefactError: a file is malformed; the message names it.
    """
    curves = {cell.key: cell.read_curve() for cell in _cells(run)}
    return {key: curve for key, curve in curves.items() if curve}


def read_events(run: Path) -> list[dict[str, Any]]:
    """Return the events of a run in the order they were written.

    Lines that are no event are left out: a process may have been killed in the middle of one.
    """
    path, events = run / "events.jsonl", []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _cells(run: Path) -> list[CellFolder]:
    run_file(run)
    return [CellFolder(path) for path in sorted((run / CELLS_DIR).glob("*")) if path.is_dir()]
