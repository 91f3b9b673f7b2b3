"""``python -m harness.sweep FILE``: many cells on one cluster, scheduled by Ray Tune."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.config import sweep_file
from harness.errors import EXIT_CODES, UsageError, run_command
from harness.reporting.store.files import find_run
from harness.reporting.store.manifest import Manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Play the sweep that ``argv`` names; return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _main(given))


def _main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    named = options.resume and options.file.suffix not in (".yaml", ".yml")
    if named:
        options.file = find_run(options.file)
    if options.file.is_dir() or (named and options.mirror):
        return _resume(options)
    sweep = sweep_file.load(options.file)
    if options.dry_run:
        return _list([cell.key for cell in sweep.cells], options.only)
    # Only now what costs seconds: bad input has been answered already.
    from harness.console.display import make_progress
    from harness.experiments.run import RunOptions, play

    chosen = RunOptions(
        options.name or options.file.stem,
        command=("python", "-m", "harness.sweep", *argv),
        given=sweep.values,
        resume=options.resume,
        extend=options.extend,
        only=tuple(options.only),
        address=options.address,
        mirror=options.mirror,
        scheduling=sweep.tune,
    )
    return play(sweep.cells, chosen, make_progress())


def _list(keys: Iterable[str], only: Sequence[str]) -> int:
    """Print which cells would be played."""
    sys.stdout.writelines(f"{key}\n" for key in sweep_file.matching(list(keys), only))
    return 0


def _resume(options: argparse.Namespace) -> int:
    """Continue the run in a folder."""
    if not options.resume:
        raise UsageError(f"{options.file} is a folder: give a sweep file, or --resume to go on")
    if options.name:
        raise UsageError(f"--name {options.name}: has no effect: the run is {options.file}")
    if options.dry_run:
        return _list(Manifest.load(options.file).cells, options.only)
    from harness.console.display import make_progress
    from harness.experiments.run import resume

    more = {"address": options.address} if options.address else {}
    return resume(
        options.file,
        make_progress(),
        mirror=options.mirror,
        only=tuple(options.only),
        **more,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.sweep",
        description="Play every cell of a sweep file, as many at once as the cluster has room for.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "file",
        type=Path,
        help="YAML file with sections base, sweep and tune; with --resume also a run's name or "
        "folder",
    )
    parser.add_argument("--name", help="folder below results/; the file's name if not given")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="continue what is missing, started or failed"
    )
    again.add_argument(
        "--extend",
        action="store_true",
        help="the same with a file that adds cells (seeds, policies, values of an axis) or budget",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="play only cells whose names match, e.g. '*.gru.rl2.*'; --resume plays the others",
    )
    parser.add_argument("--address", help="Ray cluster to join; a fresh local one if not given")
    parser.add_argument(
        "--mirror",
        metavar="ADDRESS",
        help="keep a copy of the run there (s3://..., gs://..., by fsspec, or a folder); with "
        "--resume, a run that is not here is fetched from it",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the cells and end")
    return parser
