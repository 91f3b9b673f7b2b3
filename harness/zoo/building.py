"""The index of a zoo, made from published folders."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.reporting.rebuild import TableSource, sources
from harness.reporting.stats.intervals import Estimate, estimate, estimate_rate
from harness.reporting.stats.scores import ScoreMatrix, scores, success_scores, usable_records
from harness.reporting.store.checksums import sha256_of
from harness.reporting.store.manifest import CELLS_DIR, RUN_FILE, CellInfo, Manifest
from harness.reporting.store.records import POLICY_FILE
from harness.types import AGENT, REFERENCE
from harness.zoo.index import Entry, Index, Score, Weights


def build(published: Path) -> Index:
    """Return the index of the folders in ``published``.

    Where two of them have the same row, the run that began last has the plain name, and ``@RUN``
    distinguishes the other.

    Raises:
        UsageError: nothing is published there.
        ArtefactError: a file is malformed.
    """
    runs = [path.parent for path in sorted(published.glob(f"*/{RUN_FILE}"))]
    if not runs:
        raise UsageError(f"{published}: nothing is published there")
    entries: dict[str, Entry] = {}
    for run in sorted(runs, key=lambda run: Manifest.load(run).created, reverse=True):
        own: dict[str, Entry] = {}
        for source in sources(run):
            for name, entry in _entries(run, source):
                own.setdefault(name, entry)  # of tables that differ in the scoring: the first
        entries |= {f"{name}@{run.name}" if name in entries else name: e for name, e in own.items()}
    return Index(entries=dict(sorted(entries.items())))


def _entries(run: Path, source: TableSource) -> Iterator[tuple[str, Entry]]:
    """Yield a table's rows that have trained policies."""
    manifest = source.manifest
    split, records = next(iter(usable_records(source.records, manifest).items()))
    (dist,) = manifest.tables.values()
    returns = scores(records, "return_")
    rates = success_scores(records, split) if dist.has_success else {}
    for row, matrices in returns.items():
        task_dist, policy, learner, adapter = row
        rated = rates.get(row, {})
        cells = _complete(manifest, policy, learner)
        weights = _weights(run, cells, matrices)
        if learner in (REFERENCE, AGENT) or not weights:
            continue
        evaluation, first = manifest.config["evaluation"], next(iter(matrices.values()))
        costs = records[records["cell"].isin(cells)].groupby("cell")
        yield (
            "/".join((task_dist, policy, learner.replace(" ", ","))),
            Entry(
                task_dist=task_dist,
                version=dist.version,
                policy=policy,
                learner=learner,
                adapter=adapter,
                run=run.name,
                created=manifest.created,
                revisions=tuple(dict.fromkeys(c.revision for c in cells.values() if c.revision)),
                protocol=dist.protocol,
                split=split,
                num_tasks=len(first.tasks),
                episodes_per_shot=evaluation["episodes_per_shot"],
                query_episodes=evaluation["query_episodes"],
                returns=_scores({k: estimate(m.values) for k, m in matrices.items()}),
                success=_scores({k: estimate_rate(m.values) for k, m in rated.items()}),
                num_seeds=len(first.seeds),
                num_params=round(costs["num_params"].max().mean()),
                train_env_steps=round(costs["train_env_steps"].max().mean()),
                weights=weights,
            ),
        )


def _complete(manifest: Manifest, policy: str, learner: str) -> dict[str, CellInfo]:
    return {
        key: cell
        for key, cell in manifest.cells.items()
        if (cell.policy, cell.learner, cell.status, cell.checkpoint) == (policy, learner, "ok", "")
    }


def _weights(
    run: Path, cells: Mapping[str, CellInfo], returns: Mapping[int, ScoreMatrix]
) -> tuple[Weights, ...]:
    found = []
    for key, cell in cells.items():
        path = run / CELLS_DIR / key / POLICY_FILE
        if path.is_file():
            own = {
                str(shots): _rounded(float(matrix.by_seed[matrix.seeds.index(cell.seed)]))
                for shots, matrix in returns.items()
            }
            found.append(
                Weights(
                    seed=cell.seed,
                    file=path.relative_to(run.parent).as_posix(),
                    sha256=sha256_of(path),
                    git_blob=_git_blob(path.read_bytes()),
                    num_bytes=path.stat().st_size,
                    returns=own,
                )
            )
    return tuple(found)


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _scores(estimates: Mapping[int, Estimate]) -> tuple[Score, ...]:
    return tuple(
        Score(shots=k, mean=_rounded(e.point), low=_rounded(e.low), high=_rounded(e.high))
        for k, e in estimates.items()
    )


def _rounded(value: float) -> float | None:
    """Return ``value`` as the tables have it; None for NaN."""
    return None if math.isnan(value) else float(f"{value:.10g}")
