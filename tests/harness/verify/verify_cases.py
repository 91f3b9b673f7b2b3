"""A tiny published run, and what somebody might edit in it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.reporting.rebuild import rebuild
from harness.reporting.store.checksums import write_checksums
from harness.reporting.store.manifest import config_hash
from harness.reporting.store.schema import RECORD_SCHEMA
from harness.verify.verification import verify

MAML, RL2 = "point_goal.gru.maml.s0", "point_goal.gru.rl2.s1"
ALL = 100
"""More replays than there are cells."""
PROTOCOL = {
    "horizon": 6,
    "test_tasks": [0, 1, 2, 3],
    "few_shot": [1],
    "episodes_per_shot": 3,
    "query_episodes": 2,
    "min_jobs": 1,  # a replay then plays all tasks of a cell
    "backend": "local",
    "tensorboard": False,
}


def found_in(folder: Path, replays: int = 0):
    """What is wrong in a folder, as one text."""
    return "\n".join(verify(folder, replays, np.random.default_rng(0)).wrong)


def edit_records(folder: Path, cell: str, change) -> None:
    path = folder / "cells" / cell / "records.parquet"
    frame = pq.read_table(path).to_pandas()
    changed: pd.DataFrame = change(frame)
    pq.write_table(pa.Table.from_pandas(changed, RECORD_SCHEMA, preserve_index=False), path)


def edit_manifest(folder: Path, change) -> None:
    path = folder / "run.json"
    values = json.loads(path.read_text())
    change(values)
    for cell in (*values["cells"].values(), *values["references"].values()):
        cell["config_hash"] = config_hash(cell["config"])
    path.write_text(json.dumps(values))


def cover_up(folder: Path) -> None:
    """Make everything that can be made again: tables, report and checksums."""
    rebuild(folder)
    write_checksums(folder)
