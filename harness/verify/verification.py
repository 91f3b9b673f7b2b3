"""Verifying a folder: a published run, a submission, or a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.errors import ArtefactError, UsageError
from harness.reporting.store.manifest import CellInfo, Manifest
from harness.verify.contents import check_cell, check_folder, check_table, scored_alike, unfinished
from harness.verify.findings import Findings, Verification
from harness.verify.opening import OpenCell, check_plugins, open_cells
from harness.verify.replay import replay
from harness.verify.submission import obstacles_to_closed, read_submission
from harness.verify.training import retrain


def verify(
    folder: Path, replays: int, rng: np.random.Generator, *, iterations: int = 0
) -> Verification:
    """Check a folder; return what holds, what is wrong, and what could not be checked.

    Args:
        folder: has a ``run.json``.
        replays: cells to play a random task of again. 0 runs no code of the folder.
        rng: draws the cells and tasks.
        iterations: first iterations that the cells so drawn are trained again.

    Raises:
        UsageError: there is no run, or ``submission.yaml`` is not valid.
    """
    found = Verification(folder)
    submission = read_submission(folder)
    try:
        manifest = Manifest.load(folder)
        check_plugins(folder, manifest, found.run)
        # What is not the plug-in that ran is not imported.
        run_code = bool(replays) and not found.run.wrong
        found.missing = list(unfinished(manifest))
        check_folder(folder, manifest, found.run, run_code=run_code)
        cells = {c.key: c for c in open_cells(folder, manifest, run_code=run_code)}
        _check_tables(cells, manifest, found.run)
        for key, cell in cells.items():
            found.cells[key] = Findings()
            check_cell(cell, found.cells[key])
    except ArtefactError as error:
        found.run.wrong.append(str(error))
        return found
    _replay(cells, manifest, found, replays, rng, iterations)
    own = {key: cells[key] for key in manifest.cells}
    found.reasons = tuple(obstacles_to_closed(manifest, own))
    found.division = "open" if found.reasons or found.wrong or found.missing else "closed"
    if submission is not None:  # our own results may be published before all cells are trained
        found.run.wrong += found.missing
        if submission.division == "closed" and found.reasons:
            found.run.wrong.append(f"it is declared closed, and is not: {found.reasons[0]}")
        found.division = submission.division
    return found


def _check_tables(cells: dict[str, OpenCell], manifest: Manifest, found: Findings) -> None:
    """Compare each table's distribution with that of this code, and its cells with each other."""
    problems = list(scored_alike(cells))
    first: dict[str, CellInfo] = {}
    for cell in cells.values():
        if cell.config is None or cell.info.table in first:
            continue
        first[cell.info.table] = cell.info
        try:
            problems += check_table(cell.info, cell.config, manifest)
        except (UsageError, ImportError) as error:
            found.unverified.append(f"the task distribution {cell.info.task_dist}: {error}")
    unopened = sorted(manifest.tables.keys() - first.keys())
    found.unverified += [f"the task distribution of table {name}" for name in unopened]
    found.compare(
        "task distributions, versions and reference lines are those of this code", problems
    )


def _replay(
    cells: dict[str, OpenCell],
    manifest: Manifest,
    found: Verification,
    count: int,
    rng: np.random.Generator,
    iterations: int,
) -> None:
    """Replay ``count`` random cells; say of the others that they were not.

    With ``iterations``, those that this machine can train again are drawn first.
    """
    scored = [key for key, cell in cells.items() if cell.info.status == "ok"]
    playable = [key for key in scored if cells[key].config is not None and not cells[key].obstacle]
    able = [key for key in playable if not found.cells[key].wrong]
    drawn = [able[number] for number in rng.permutation(len(able))]
    if iterations:
        drawn.sort(key=lambda key: not cells[key].info.iterations or bool(manifest.elsewhere(key)))
    chosen = set(drawn[:count])
    for key in scored:
        findings = found.cells[key]
        if key in chosen:
            how = replay(cells[key], rng, manifest.elsewhere(key), findings)
            found.replays |= {key: how} if how else {}
        elif cells[key].obstacle:
            findings.unverified.append(f"scores by a replay: {cells[key].obstacle}")
        elif not findings.wrong:
            findings.unverified.append("scores by a replay: it was not drawn")
        if not cells[key].info.iterations or findings.wrong:
            continue
        if key in chosen and iterations:
            equal = retrain(cells[key], iterations, manifest.elsewhere(key), findings)
            found.retrained |= {key: equal} if equal else {}
        else:
            findings.unverified.append("its training, which was not repeated")
