"""``python -m harness.status RUN``: where a run or a sweep stands, read from its files alone.

What a cell has done since its last checkpoint is in no file yet: iterations lag behind by up to
``--checkpoint-every``.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.cli.tables import refuse
from harness.config.schema import config_from_dict
from harness.console.live_table import duration
from harness.console.sweep_display import render
from harness.console.sweep_view import CellView, SweepView
from harness.meta.learners.traits import traits
from harness.reporting.render.formats import console
from harness.reporting.store.files import ArtefactError
from harness.reporting.store.json_io import brief
from harness.reporting.store.manifest import CellState, Manifest
from harness.reporting.store.records import RunFolder
from harness.reporting.store.sweep_manifest import CELLS, FILE, SweepManifest
from harness.types import Cell

EVENTS_SHOWN = 5
LOCK = ".lock"


def main(argv: Sequence[str] | None = None) -> int:
    """Print where the run stands; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.status",
        description="Print what is done, running, failed and left of a run or sweep.",
        epilog="exit codes: 0 printed, 2 bad input, 5 a file was refused",
    )
    parser.add_argument("run", type=Path, help="folder of the run or sweep, e.g. results/my-run")
    run: Path = parser.parse_args(argv).run
    try:
        sweep = (run / FILE).exists()
        view = sweep_view(run) if sweep else run_view(run)
        notes = list(_notes(run, view, sweep))
    except (ValueError, OSError) as error:
        return refuse(error)
    console().print(render(view, _state(run) if sweep else "", notes))
    return 0


def sweep_view(folder: Path) -> SweepView:
    """Return where the sweep in ``folder`` stands.

    Raises:
        ValueError: there is none.
        ArtefactError: one of its files is malformed.
    """
    manifest = SweepManifest.load(folder)
    view = SweepView(folder.name)
    for key, cell in manifest.cells.items():
        state = manifest.state(folder, key)
        own = RunFolder(folder / CELLS / key)
        view.cells[key] = _cell(own, state, cell.cell) if state else CellView()
        view.failed_references[key] = state.failed_references if state else {}
    return view


def run_view(folder: Path) -> SweepView:
    """Return where the run in ``folder`` stands.

    Raises:
        ValueError: there is none.
        ArtefactError: one of its files is malformed.
    """
    manifest = Manifest.load(folder / "manifest.json")
    view = SweepView(folder.name, failed_references={"": manifest.failed_references})
    for key, state in manifest.cells.items():
        cell = Cell(state.task_dist, state.policy, state.learner, state.seed)
        view.cells[key] = _cell(RunFolder(folder), manifest, cell)
    return view


def _cell(folder: RunFolder, manifest: Manifest, cell: Cell) -> CellView:
    found: CellState = manifest.cells[cell.id]
    try:
        config = traits(cell.learner).settings(config_from_dict(manifest.config))
    except ValidationError as error:
        raise ArtefactError(f"{folder.manifest_path}: {brief(error)}") from error
    view = CellView(epochs=config.train.epochs, reason=found.reason)
    for metrics in folder.read_curve(cell.id)[-2:]:
        view.update(
            {
                "iteration": metrics.iteration,
                "env_steps": metrics.env_steps,
                "pre_return": metrics.pre_return,
                "post_return": metrics.post_return,
                "wall_seconds": metrics.wall_seconds,
            }
        )
    view.status = "left" if found.status == "pending" else found.status
    if found.wall_seconds is not None:
        view.wall_seconds = found.wall_seconds
    return view


def _state(folder: Path) -> str:
    """Return whether a process plays the sweep: it would hold the lock."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "being played"
    except FileNotFoundError:
        pass
    return "no process plays it (on this machine)"


def _notes(folder: Path, view: SweepView, sweep: bool) -> Iterator[str]:
    """Yield what failed and what has happened last."""
    for key, cell in view.cells.items():
        if cell.status == "failed":
            yield f"{key}: failed: {cell.reason}"
    for key, lines in view.failed_references.items():
        for name, reason in lines.items():
            yield f"{key and f'{key}: '}reference {name}: failed: {reason}"
    folders = [folder / CELLS / key for key in view.cells] if sweep else [folder]
    events = [event for path in folders for event in _events(path / "events.jsonl")]
    yield from sorted(events)[-EVENTS_SHOWN:]
    if view.running:
        newest = max((_written(path) for path in folders), default=0.0)
        yield f"last checkpoint {duration(time.time() - newest)} ago"


def _events(path: Path) -> Iterator[str]:
    """Yield the lines of an event log as text that begins with the time."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):  # a process was killed in the middle of it
            continue
        if isinstance(event, dict):
            told = " ".join(f"{key} {value}" for key, value in event.items() if key != "time")
            yield f"{event.get('time')} {told}"[:300]


def _written(folder: Path) -> float:
    curves = list((folder / "curves").glob("*.parquet"))
    return max((path.stat().st_mtime for path in curves), default=0.0)


if __name__ == "__main__":
    sys.exit(main())
