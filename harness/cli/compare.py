"""``python -m harness.compare RUN RUN ...``: several runs in one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group

from harness.errors import EXIT_CODES, run_command
from harness.reporting.compare import compare
from harness.reporting.render.across import across_to_rich
from harness.reporting.render.formats import console, to_rich


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; return the exit code."""
    return run_command(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.compare",
        description="Print one table per task distribution with the rows of all given runs, and "
        "aggregates across distributions. Runs that were scored by different protocols "
        "are refused. Nothing is written into the runs.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="names or folders of runs, sweeps or published results, e.g. my-run",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write tables and figures into this new folder"
    )
    given = parser.parse_args(argv)
    found = compare(given.runs)
    if given.out is not None:
        found.write(given.out)
    texts = (*map(to_rich, found.tables.values()), *map(across_to_rich, found.across))
    console().print(Group(*texts))
    return found.exit_code
