"""A small run on disk whose numbers follow a formula, and readers of its tables."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from harness.reporting.render.formats import to_rich
from harness.reporting.stats.comparison import Comparison
from harness.reporting.store.manifest import (
    CellInfo,
    CellState,
    DistInfo,
    Manifest,
    Status,
    changes_scoring,
    config_hash,
)
from harness.reporting.store.records import RunFolder
from harness.types import REFERENCE, REFERENCE_LINES, Cell, EvalRecord, Metrics

DIST = "point_goal"
CONFIG: dict[str, Any] = {
    "task_dist": DIST,
    "train": {"epochs": 3},
    "evaluation": {"query_episodes": 2, "episodes_per_shot": 4, "deterministic": True},
    "execution": {"num_workers": 2},
}
POLICIES = ("ssm", "gru")
REFERENCES = f"{DIST}.{REFERENCE}.s0"


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
    of: Cell, shots: Sequence[int] = (0, 1, 5), tasks: int = 4, **changes: Any
) -> list[EvalRecord]:
    return [
        dataclasses.replace(record(of, task, count, episode), **changes)
        for task in range(tasks)
        for count in shots
        for episode in range(2)
    ]


def curve_of(cell: Cell) -> list[Metrics]:
    return [
        Metrics(i, 10_000 * i, -20.0 + i, -18.0 + i, 1.5 * i, {"physics": 0.5}, {"kl": 0.01})
        for i in range(1, 4)
    ]


def references(seed: int = 0) -> list[EvalRecord]:
    """The measured reference lines of the run, as one file holds them."""
    rows = []
    for policy, value in zip(REFERENCE_LINES, (-12.0, -15.0), strict=True):
        cell = Cell(DIST, policy, REFERENCE, seed)
        changes = {"cell": REFERENCES, "adapter": "none", "num_params": 0, "train_env_steps": 0}
        rows += records_of(cell, (0,), return_=value, **changes)
    return rows


def expected_cells(
    seeds: Sequence[int] = (0, 1, 2), learners: Sequence[str] = ("maml",)
) -> list[Cell]:
    return [Cell(DIST, p, learner, s) for p in POLICIES for learner in learners for s in seeds]


def info_of(cell: Cell, config: Mapping[str, Any] = CONFIG) -> CellInfo:
    own = {"policy": [cell.policy], "learner": [cell.learner], "seed": [cell.seed]}
    whole = {**config, **own}
    names = {"policy": cell.policy, "learner": cell.learner, "seed": cell.seed}
    return CellInfo(
        **names, task_dist=cell.task_dist, table=cell.task_dist, iterations=3, config=whole,
        config_hash=config_hash(whole), observes_task=cell.learner == "oracle",
    )  # fmt: skip


def manifest_of(
    cells: Sequence[Cell],
    status: Status = "ok",
    config: Mapping[str, Any] = CONFIG,
    **dist: Any,
) -> Manifest:
    """The manifest of these cells, all with one status."""
    info = DistInfo(**{"name": DIST, "version": 1, "protocol": "toy", **dist})
    plan = Manifest.create(
        ["harness.run"],
        {cell.id: info_of(cell, config) for cell in cells},
        tables={DIST: info},
        references={REFERENCES: info_of(cells[0], config)},
    )
    return plan.with_states({key: CellState(status=status) for key in plan.entries})


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
    dist = {"protocol": "toy, horizon 100", "references": {"non-adaptive": -7.5}}
    manifest_of(cells, **dist).save(path)
    for cell in cells:
        if cell.id in pending:
            continue
        own = folder.cell(cell.id)
        own.create()
        own.write_records(records_of(cell, **changes))
        own.write_curve(curve_of(cell))
        bad = cell.id in failed
        own.write_state(
            CellState(status="failed" if bad else "ok", reason=reason * bad, wall_seconds=60.0)
        )
    own = folder.cell(REFERENCES)
    own.write_state(CellState(status="ok"))
    own.write_records(references(seeds[0]))
    return folder


def make_swept_run(
    path: Path, name: str = "adapt.inner_lr", values: Sequence[Any] = (0.1, 0.2)
) -> Path:
    """Write a run of both policies, three seeds and several values of one setting."""
    folder = RunFolder.create(path)
    section, _, setting = name.rpartition(".")
    infos: dict[str, CellInfo] = {}
    references: dict[str, CellInfo] = {}
    tables: dict[str, DistInfo] = {}
    for value in values:
        changes = (
            {section: {**CONFIG.get(section, {}), setting: value}} if section else {name: value}
        )
        config = {**CONFIG, **changes}
        table = f"{DIST}, {setting}={value}" if changes_scoring(name) else DIST
        tables[table] = DistInfo(name=DIST, version=1, protocol="toy, horizon 100")
        for cell in expected_cells():
            info = info_of(cell, config).model_copy(
                update={"settings": {name: value}, "table": table}
            )
            infos[f"{cell.id}.{setting}-{len(infos) // 6}"] = info
            references.setdefault(table, info)
    Manifest.create(
        ["harness.sweep", "x.yaml"],
        infos,
        tables=tables,
        references={f"references-{n}": info for n, info in enumerate(references.values())},
    ).save(path)
    for key, info in infos.items():
        own = folder.cell(key)
        own.create()
        own.write_state(CellState(status="ok", wall_seconds=1.0))
        changes = {"cell": key} | {k: v for k, v in info.settings.items() if k == "adapter"}
        own.write_records(records_of(info.cell, **changes))
        own.write_curve(curve_of(info.cell))
    return path


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
