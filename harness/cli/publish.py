"""``python -m harness.publish RUN NAME``: copy a run to results/published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.errors import EXIT_CODES, run_command
from harness.experiments.publishing import Published, publish
from harness.reporting.store.files import find_run


def main(argv: Sequence[str] | None = None) -> int:
    """Publish and list what was written; return the exit code."""
    return run_command(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.publish",
        description="Copy a complete run (run.json, records, curves, tables, figures and trained "
        "policies) to where git tracks it.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("run", type=find_run, help="name or folder of the run")
    parser.add_argument("name", help="name of the published folder")
    parser.add_argument(
        "--to", type=Path, default=Path("results/published"), help="where to (%(default)s)"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="copy the cells that have ended so far, replacing an earlier copy of the same run",
    )
    given = parser.parse_args(argv)
    published = publish(given.run, given.name, given.to, partial=given.partial)
    Console(soft_wrap=True).print(Text("\n".join(_lines(published))))
    return 0


def _lines(published: Published) -> list[str]:
    lines = [f"published {len(published.files)} files in {published.path}"]
    for file in published.files:
        size = (published.path / file).stat().st_size
        lines.append(f"  {file}  {size / 1e3:.1f} kB")
    lines += [f"  left out: policy of {cell}" for cell in published.left_out]
    return lines
