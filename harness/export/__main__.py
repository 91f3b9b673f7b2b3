"""``python -m harness.export RUN``: the trajectories behind the records of a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import EXIT_CODES, run_command
from harness.reporting.store.files import find_run

PROG = "python -m harness.export"


def main(argv: Sequence[str] | None = None) -> int:
    """Export; return the exit code."""
    return run_command(lambda: _main(argv), hint=f"See {PROG} --help.")


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Play the scored episodes of a run or published folder again, check their "
        "returns against the records, and write support and query episodes with observations, "
        "actions and rewards.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("run", type=find_run, help="name or folder of the run")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--parquet", type=Path, metavar="FILE", help="a row per episode")
    target.add_argument("--minari", metavar="NAME", help="a Minari data set (extra minari)")
    parser.add_argument(
        "--cells", nargs="+", default=[], metavar="CELL", help="cells to export (all if not given)"
    )
    given = parser.parse_args(argv)
    # Only now what takes seconds: bad flags have been refused already.
    from harness.export.trajectories import Export

    export = Export(given.run, given.cells)
    played = export.trajectories(on_cell=lambda key: _note(f"playing {key}"))
    if given.minari is not None:
        from harness.export.minari import write_minari

        count = write_minari(export, played, given.minari)
    else:
        from harness.export.parquet import write_parquet

        count = write_parquet(played, given.parquet)
    for key in export.skipped:
        _note(f"left out {key}: its trained policy is not here")
    if export.invalid:
        _note(f"left out {export.invalid} episodes in which the physics went unstable")
    if export.elsewhere:
        _note(
            f"played elsewhere ({export.elsewhere}): {export.differing} returns differ from the "
            "records"
        )
    sys.stdout.write(f"{given.minari or given.parquet}: {count} episodes\n")
    return 0


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
