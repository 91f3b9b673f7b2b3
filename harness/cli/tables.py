"""``python -m harness.tables RUN``: rebuild the tables and figures of a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Group

from harness.errors import EXIT_CODES, run_command
from harness.reporting.rebuild import exit_code, rebuild
from harness.reporting.render.differences import differences
from harness.reporting.render.formats import console, grids_to_rich, to_rich
from harness.reporting.store.files import find_run
from harness.reporting.store.manifest import Manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild and print; return the exit code."""
    return run_command(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.tables",
        description="Rebuild table.csv, table.md, table.tex and the figures of a run from its "
        "records, curves and run.json alone, and print the table.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("run", type=find_run, help="name or folder of the run")
    parser.add_argument(
        "--against",
        metavar="ROW",
        help="also print how every other row differs from this one, by seed if both have the same; "
        'words that identify the row, e.g. "gru maml"',
    )
    given = parser.parse_args(argv)
    # First: a row that does not exist is refused before anything is written.
    beside = differences(given.run, given.against) if given.against is not None else []
    tables = rebuild(given.run)
    manifest = Manifest.load(given.run)
    played = map(manifest.elsewhere, manifest.ids("ok", "failed", "stopped"))
    for differs in filter(None, dict.fromkeys(played)):
        sys.stderr.write(f"note: records were made elsewhere ({differs})\n")
    console().print(Group(*(to_rich(table) for table in tables)), grids_to_rich(beside))
    return exit_code(tables)
