"""``python -m harness.reporting RUN...``: one HTML page about one run or several.

``metarl report`` is the same command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import EXIT_CODES, UsageError, run_command
from harness.reporting.compare import compare
from harness.reporting.rebuild import report
from harness.reporting.store.files import find_run, write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; return the exit code."""
    return run_command(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.reporting",
        description="Write one HTML page about runs: tables, figures, tasks, faults and settings. "
        "It needs no other file and no network.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "runs", type=find_run, nargs="+", metavar="RUN", help="name or folder of a run"
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="%(default)s")
    given = parser.parse_args(argv)
    if not given.out.parent.is_dir():
        raise UsageError(f"--out {given.out}: there is no folder {given.out.parent}")
    page = report(given.runs[0]) if len(given.runs) == 1 else compare(given.runs).report()
    write_atomically(given.out, page.encode())
    sys.stdout.write(f"{given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
