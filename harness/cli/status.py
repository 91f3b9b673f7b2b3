"""``python -m harness.status RUN``: where a run stands, read from its files alone.

What a cell has done since its last checkpoint is in no file yet: iterations lag behind by up to
``--checkpoint-every``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.console.live_table import clock_time, render
from harness.console.progress_state import RunProgress
from harness.errors import EXIT_CODES, run_command
from harness.experiments.lock import being_played
from harness.reporting.render.formats import console
from harness.reporting.store.files import find_run
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_events

EVENTS_SHOWN = 5
STATES = {
    True: "being played",
    False: "no process plays it (on this machine)",
    None: "another user's: whether it is being played is unknown",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print where the run stands; return the exit code."""
    return run_command(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.status",
        description="Print what is done, running, failed and waiting in a run.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("run", type=find_run, help="name or folder of the run")
    run: Path = parser.parse_args(argv).run
    progress = RunProgress.of(Manifest.load(run), run)
    played = being_played(run)
    if played is False:
        progress.interrupt()
    state = STATES[played]
    console().print(render(progress, state, list(_notes(run, progress))))
    return 0


def _notes(run: Path, progress: RunProgress) -> Iterator[str]:
    """Yield what failed and what happened last."""
    for key, cell in (progress.references | progress.cells).items():
        if cell.status == "failed":
            yield f"{key}: failed: {cell.reason}"
    for event in read_events(run)[-EVENTS_SHOWN:]:
        fields = " ".join(f"{key} {value}" for key, value in event.items() if key != "time")
        yield f"{event.get('time')} {fields}"[:300]
    written = [path.stat().st_mtime for path in run.glob("cells/*/curve.parquet")]
    if any(not cell.finished for cell in progress.cells.values()) and written:
        yield f"last checkpoint {clock_time(time.time() - max(written))} ago"
