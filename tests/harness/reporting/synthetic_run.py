"""A small run on disk whose numbers follow a formula, and readers of its tables."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from harness.reporting.render.formats import to_rich
from harness.reporting.stats.comparison import Comparison
from harness.reporting.store.manifest import DistInfo, Manifest
from harness.reporting.store.records import RunFolder
from harness.types import Cell, EvalRecord, Metrics

DIST = "point_goal"
CONFIG: dict[str, Any] = {
    "task_dist": DIST,
    "train": {"epochs": 3},
    "evaluation": {"query_episodes": 2, "episodes_per_shot": 4, "deterministic": True},
    "execution": {"num_workers": 2},
}
POLICIES = ("ssm", "gru")


def score(policy: str, seed: int, task: int, shots: int) -> float:
    """Return of every query episode: gru starts 2 lower and gains 3 a shot where ssm gains 1."""
    gru = policy == "gru"
    return -10.0 + task + 0.5 * seed - 2 * gru + shots * (3 if gru else 1)


def record(cell: Cell, task: int, shots: int, episode: int, **changes: Any) -> EvalRecord:
    plain = EvalRecord(
        run="run", cell=cell.id, task_dist=cell.task_dist, dist_version=1, split="test",
        task=f"test/{task}", task_index=task, policy=cell.policy, learner=cell.learner,
        adapter="gradient", seed=cell.seed, shots=shots, adaptation_steps=shots,
        query_episode=episode, return_=score(cell.policy, cell.seed, task, shots), success=False,
        length_steps=100, invalid=False, support_env_steps=400 * shots, train_env_steps=30_000,
        adapt_seconds=0.1, num_params=1234,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def records_of(
    cell: Cell, shots: Sequence[int] = (0, 1, 5), tasks: int = 4, **changes: Any
) -> list[EvalRecord]:
    return [
        record(cell, task, count, episode, **changes)
        for task in range(tasks)
        for count in shots
        for episode in range(2)
    ]


def curve_of(cell: Cell) -> list[Metrics]:
    return [
        Metrics(i, 10_000 * i, -20.0 + i, -18.0 + i, 1.5 * i, {"physics": 0.5}, {"kl": 0.01})
        for i in range(1, 4)
    ]


def reference(policy: str, value: float) -> list[EvalRecord]:
    cell = Cell(DIST, policy, "reference", 0)
    return records_of(cell, (0,), return_=value, adapter="none", num_params=0, train_env_steps=0)


def expected_cells(
    seeds: Sequence[int] = (0, 1, 2), learners: Sequence[str] = ("maml",)
) -> list[Cell]:
    return [Cell(DIST, p, learner, s) for p in POLICIES for learner in learners for s in seeds]


def make_run(
    path: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    failed: Collection[str] = (),
    pending: Collection[str] = (),
    reason: str = "diverged",
    **changes: Any,
) -> RunFolder:
    """Write a run; cells in ``failed`` have records too, which must not be used."""
    folder = RunFolder.create(path)
    cells = expected_cells(seeds)
    dist = DistInfo(
        name=DIST, version=1, protocol="toy, horizon 100", references={"non-adaptive": -7.5}
    )
    manifest = Manifest.create(
        ["harness.run"], CONFIG, config_given={}, cells=cells, distributions=[dist]
    )
    for cell in cells:
        if cell.id in pending:
            continue
        folder.write_records(cell.id, records_of(cell, **changes))
        folder.write_curve(cell.id, curve_of(cell))
        status = "failed" if cell.id in failed else "ok"
        manifest = manifest.with_status(cell.id, status, reason * (status == "failed"), 60.0)
    for policy, value in (("zero-action", -12.0), ("random-action", -15.0)):
        folder.write_records(f"{DIST}.{policy}.reference.s0", reference(policy, value))
    manifest.save(folder.manifest_path)
    return folder


def manifest_of(cells: Sequence[Cell], status: str = "ok", **dist: Any) -> Manifest:
    info = DistInfo(name=DIST, version=1, protocol="toy", **dist)
    manifest = Manifest.create(["x"], CONFIG, config_given={}, cells=cells, distributions=[info])
    for cell in cells:
        manifest = manifest.with_status(cell.id, status)
    return manifest


def frame_of(rows: Sequence[EvalRecord]) -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def row_of(table: Comparison, policy: str, learner: str = "maml") -> dict:
    """The one row of this policy and learner."""
    rows = table.frame[(table.frame["policy"] == policy) & (table.frame["learner"] == learner)]
    (row,) = rows.to_dict("records")
    return row


def printed(table: Comparison, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(to_rich(table))
    return console.file.getvalue()
