"""``python -m harness.zoo``: list, fetch, describe and share published policies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from harness.errors import EXIT_CODES, ExitCode, run_command
from harness.reporting.text import printable
from harness.zoo.card import card, shown
from harness.zoo.index import Index
from harness.zoo.weights import PACKAGED, Zoo

PROG = "python -m harness.zoo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; return the exit code."""
    return run_command(lambda: _main(argv), hint=f"See {PROG} --help.")


def _main(argv: Sequence[str] | None) -> int:
    given = _parser().parse_args(argv)
    if given.command == "index":
        from harness.zoo.building import build

        index = build(given.published)
        index.write(given.to)
        sys.stdout.write(f"{given.to}: {len(index.entries)} policies\n")
        return ExitCode.COMPLETE
    zoo = Zoo.open(given.zoo)
    if given.command == "list":
        sys.stdout.write(f"{_table(zoo.index)}\n")
    elif given.command == "card":
        name, entry, _ = zoo.index.find(given.name)
        sys.stdout.write(card({name: entry}, given.zoo))
    elif given.command == "fetch":
        _fetch(zoo, given.name, given.to)
    else:
        from harness.zoo.sharing import push

        address = push(zoo, given.name, given.repo, private=given.private)
        sys.stdout.write(f"{address}\n")
    return ExitCode.COMPLETE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description="Published policies by name.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    of_zoo = argparse.ArgumentParser(add_help=False)
    of_zoo.add_argument(
        "--zoo",
        metavar="ADDRESS",
        help="folder, hf://OWNER/NAME or https://... with an index.json; the policies published "
        "with this version, or $METARL_ZOO, if not given",
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, epilog=EXIT_CODES, parents=[of_zoo]
        )

    add("list", "List the policies with their scores.")
    fetch = add("fetch", "Download policies, check them, and print where they are.")
    fetch.add_argument("--to", type=Path, metavar="FOLDER", help="copy them to a new folder, a zoo")
    show = add("card", "Print the model card of a policy.")
    show.add_argument("name", help="DIST/POLICY/LEARNER")
    share = add("push", "Upload policies with their card to Hugging Face (extra hub).")
    share.add_argument("--repo", required=True, metavar="OWNER/NAME", help="where to")
    share.add_argument("--private", action="store_true", help="make the repository private")
    for each in (fetch, share):
        each.add_argument("name", nargs="+", help="DIST/POLICY/LEARNER, or .../sN for one seed")
    index = commands.add_parser("index", help="Make the index of published folders.")
    index.add_argument(
        "published", nargs="?", type=Path, default=Path("results/published"), help="(%(default)s)"
    )
    index.add_argument("--to", type=Path, default=PACKAGED, help="file to write (the package's)")
    return parser


def _fetch(zoo: Zoo, names: Sequence[str], to: Path | None) -> None:
    if to is not None:
        from harness.zoo.sharing import copy

        copy(zoo, names, to)
        sys.stdout.write(f"{to}\n")
        return
    for name in names:
        sys.stdout.write(f"{zoo.fetch(name)}\n")


def _table(index: Index) -> str:
    head = ("name", "adapter", "0 shots", "most shots", "", "seeds")
    rows = [
        (
            *(
                name,
                printable(entry.adapter),
                shown(entry.returns[0], 1),
                shown(entry.returns[-1], 1),
            ),
            *(f"({entry.returns[-1].shots})", f"{len(entry.weights)} of {entry.num_seeds}"),
        )
        for name, entry in index.entries.items()
    ]
    return tabulate(rows, head, tablefmt="plain", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
