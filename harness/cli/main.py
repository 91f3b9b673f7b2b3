"""The ``metarl`` console script: ``metarl COMMAND ...`` is ``python -m harness.COMMAND ...``.

``metarl report`` is ``python -m harness.reporting``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from metarl_plugins import choose_from

COMMANDS = {
    "run": "harness.cli.run",
    "score": "harness.cli.score",
    "sweep": "harness.cli.sweep",
    "tables": "harness.cli.tables",
    "compare": "harness.cli.compare",
    "report": "harness.reporting.__main__",
    "status": "harness.cli.status",
    "publish": "harness.cli.publish",
    "verify": "harness.verify.__main__",
    "check": "harness.cli.check",
    "zoo": "harness.zoo.__main__",
    "export": "harness.export.__main__",
    "rllib": "harness.rllib.__main__",
    "app": "harness.app.__main__",
}
"""Command -> the module whose ``main`` runs it."""

USAGE = """usage: metarl COMMAND [--FLAG VALUE ...]

commands:
  run      meta-train policies and compare them; score, adapt or export a checkpoint
  score    score any agent on the same tasks, in a row of its own
  sweep    play every cell of a sweep file
  tables   write the tables of a run again, from its records
  compare  put several runs in one table
  report   write one HTML page about one run or several
  status   show how far a run is
  publish  copy a finished run to results/published
  verify   check published results and submissions, by replays too
  check    test a component of your own against what the harness relies on
  zoo      list, fetch and share published policies by name
  export   write the trajectories behind the records of a run
  rllib    train RLlib's PPO + LSTM as a reference
  app      open the page in the browser

metarl COMMAND --help lists the flags of a command. Exit codes: 0 complete, 2 bad input,
3 some cells failed, 4 interrupted (resumable), 5 a file was refused, 70 internal error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0 if words else 2
    if words[0] not in COMMANDS:
        sys.stderr.write(f"error: unknown command {words[0]!r}{choose_from(words[0], COMMANDS)}\n")
        return 2
    command = importlib.import_module(COMMANDS[words[0]])
    return int(command.main(words[1:]))
