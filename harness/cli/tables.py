"""``python -m harness.tables RUN``: rebuild the tables and figures of a run or sweep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.reporting.rebuild import rebuild
from harness.reporting.render.differences import differences
from harness.reporting.render.formats import console, grids_to_rich, to_rich
from harness.reporting.store.files import ArtefactError
from harness.reporting.store.sweep_manifest import FILE
from harness.reporting.sweeps import rebuild_sweep, render_sweep
from harness.reporting.text import printable

EXIT_CODES = (
    "exit codes: 0 complete, 2 bad input, 3 some cells failed, 4 some cells are missing, "
    "5 a file was refused"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild and print; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.tables",
        description="Rebuild table.csv, table.md, table.tex and the figures of a run from its "
        "records, curves and manifest alone, and print the table.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("run", type=Path, help="folder of the run or sweep, e.g. results/my-run")
    parser.add_argument(
        "--against",
        metavar="ROW",
        help="print also how every row differs from this one, paired by seed and task; words that "
        'tell it from the others, e.g. "gru maml"',
    )
    given = parser.parse_args(argv)
    run: Path = given.run
    try:
        # First: a row that is not there is refused before anything is written.
        beside = differences(run, given.against) if given.against is not None else []
        if (run / FILE).exists():
            tables = rebuild_sweep(run)
            shown, code = render_sweep(tables), tables.exit_code
        else:
            table = rebuild(run)
            shown, code = to_rich(table), table.exit_code
    except (ValueError, OSError) as error:
        return refuse(error)
    console().print(shown, grids_to_rich(beside))
    return code


def refuse(error: Exception) -> int:
    """Tell the user on one line of stderr; return 5 for a refused artefact, else 2."""
    Console(stderr=True, soft_wrap=True).print(
        Text(f"error: {printable(' '.join(str(error).split()))}")
    )
    return 5 if isinstance(error, ArtefactError) else 2


if __name__ == "__main__":
    sys.exit(main())
