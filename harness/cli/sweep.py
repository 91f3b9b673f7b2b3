"""``python -m harness.sweep FILE``: many cells on one cluster, scheduled by Ray Tune.

Exit codes: 0 complete, 2 bad input, 3 some cells failed, 4 interrupted (resumable), 5 refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.config import sweep_file
from harness.errors import ArtefactError, UsageError

EXIT_CODES = (
    "exit codes: 0 complete, 2 bad input, 3 some cells failed, 4 interrupted (--resume continues), "
    "5 a file was refused"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Play the sweep that ``argv`` names; return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser().parse_args(given)
    except SystemExit as answered:
        return int(answered.code or 0)
    try:
        sweep = sweep_file.load(options.file)
        if options.dry_run:
            sys.stdout.writelines(f"{planned.key}\n" for planned in sweep.cells)
            return 0
        return _play(sweep, options, given)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except ArtefactError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 5


def _play(sweep: sweep_file.Sweep, options: argparse.Namespace, argv: Sequence[str]) -> int:
    # Only now what costs seconds: bad input has been answered already.
    from harness.console.sweep_display import make_watch
    from harness.experiments.sweep_run import Options, run_sweep

    name = options.name or options.file.stem
    chosen = Options(
        name,
        resume=options.resume,
        extend=options.extend,
        retry_failed=options.retry_failed,
        address=options.address,
        mirror=options.mirror,
    )
    return run_sweep(sweep, chosen, argv=argv, watch=make_watch())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.sweep",
        description="Play every cell of a sweep file, as many at once as the cluster has room for.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("file", type=Path, help="YAML file with sections base, sweep and tune")
    parser.add_argument("--name", help="folder below results/; the file's name if not given")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="continue the missing and the started cells"
    )
    again.add_argument(
        "--extend",
        action="store_true",
        help="the same with a file that adds cells: more seeds, policies, values of an axis",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --resume or --extend: play failed cells again too",
    )
    parser.add_argument("--address", help="Ray cluster to join; a fresh local one if not given")
    parser.add_argument(
        "--mirror",
        metavar="ADDRESS",
        help="keep a copy of the sweep there (s3://..., gs://..., by fsspec, or a folder); with "
        "--resume, a sweep that is not here is fetched from it",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the cells and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
