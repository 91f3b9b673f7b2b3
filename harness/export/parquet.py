"""Trajectories as one Parquet file with a row per episode."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UsageError
from harness.export.trajectories import Trajectory

TAGS = {
    **dict.fromkeys(("run", "cell", "task_dist"), pa.string()),
    "dist_version": pa.int32(),
    **dict.fromkeys(("policy", "learner", "adapter"), pa.string()),
    "seed": pa.int64(),
    **dict.fromkeys(("split", "task"), pa.string()),
    "task_index": pa.int32(),
    "phase": pa.string(),
    **dict.fromkeys(("shots", "episode"), pa.int32()),
    "reset_seed": pa.int64(),
    "return": pa.float64(),
}
"""Columns that say which episode a row is, with their types.

``phase`` is ``support`` or ``query``, ``shots`` the number of shots before the episode, ``seed``
that of the cell, and ``reset_seed`` that of the environment.
"""
SCHEMA = pa.schema(
    [
        *TAGS.items(),
        ("terminated", pa.bool_()),
        ("success", pa.bool_()),
        ("observations", pa.list_(pa.list_(pa.float32()))),
        ("actions", pa.list_(pa.list_(pa.float32()))),
        ("rewards", pa.list_(pa.float32())),
    ]
)
ROWS = 256
"""Episodes that are written at once."""


def write_parquet(trajectories: Iterable[Trajectory], path: Path) -> int:
    """Write the file, whole or not at all; return the number of episodes.

    Raises:
        UsageError: there is such a file.
    """
    if path.exists():
        raise UsageError(f"{path} exists already: choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count, rows = 0, []
    try:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            for trajectory in trajectories:
                rows.append(_row(trajectory))
                count += 1
                if len(rows) == ROWS:
                    writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
                    rows.clear()
            writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _row(trajectory: Trajectory) -> dict[str, object]:
    return trajectory.tags | {
        "terminated": trajectory.terminated,
        "success": trajectory.success,
        "observations": list(trajectory.observations),
        "actions": list(trajectory.actions),
        "rewards": trajectory.rewards,
    }
