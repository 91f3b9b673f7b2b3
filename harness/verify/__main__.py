"""``python -m harness.verify FOLDER...``: whether results are what they claim to be.

``metarl verify`` is the same command.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import EXIT_CODES, ExitCode, UsageError, run_command
from harness.reporting.store.checksums import VERIFIED_FILE


def main(argv: Sequence[str] | None = None) -> int:
    """Verify and report; return the exit code."""
    return run_command(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m harness.verify",
        description="Check published runs, submissions or finished runs: tables against records, "
        "records against the protocol, files against their sha256, and random cells against a "
        "replay. Replays run the plug-ins and models in a folder: give it only folders whose code "
        "you would run.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="has a run.json")
    parser.add_argument(
        "--replay",
        type=int,
        default=2,
        metavar="K",
        help="random cells to play a random task of again (%(default)s); 0 runs no code of the "
        "folder",
    )
    parser.add_argument(
        "--retrain",
        type=int,
        default=0,
        metavar="N",
        help="first iterations that these cells are trained again (%(default)s); cells that were "
        "trained on this kind of machine are drawn first",
    )
    parser.add_argument(
        "--seed", type=int, help="of the draw of cells and tasks; random if not given, and printed"
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help=f"write the replays into {VERIFIED_FILE}, from which the leaderboard shows them",
    )
    given = parser.parse_args(argv)
    if given.replay < 0:
        raise UsageError(f"--replay {given.replay}: give 0 or more")
    if given.retrain < 0 or (given.retrain and not given.replay):
        raise UsageError(f"--retrain {given.retrain}: give 0 or more, and draw cells with --replay")
    if given.save and not given.replay:
        raise UsageError("--save: keeps replays, and --replay 0 plays none: leave one of them out")
    seed = secrets.randbits(32) if given.seed is None else given.seed
    from harness.verify.findings import Verified
    from harness.verify.verification import verify

    code = ExitCode.COMPLETE
    for folder in given.folders:
        found = verify(folder, given.replay, np.random.default_rng(seed), iterations=given.retrain)
        sys.stdout.writelines(f"{line}\n" for line in found.lines())
        code = max(code, found.exit_code)
        if given.save and not found.wrong:
            Verified.of(found).write(folder / VERIFIED_FILE)
    if given.replay:
        sys.stdout.write(f"cells and tasks drawn with --seed {seed}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
