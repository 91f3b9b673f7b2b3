"""The ``metarl`` console script: ``metarl COMMAND ...`` is ``python -m harness.COMMAND ...``.

``metarl report`` is ``python -m harness.reporting``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from metarl_plugins import choose_from

_COMMANDS = (
    ("run", "cli.run", "meta-train policies and compare them; score, adapt or export a checkpoint"),
    ("score", "cli.score", "score any agent on the same tasks, in a row of its own"),
    ("sweep", "cli.sweep", "play every cell of a sweep file"),
    ("tables", "cli.tables", "write the tables of a run again, from its records"),
    ("compare", "cli.compare", "put several runs in one table"),
    ("report", "reporting.__main__", "write one HTML page about one run or several"),
    ("status", "cli.status", "show how far a run is"),
    ("publish", "cli.publish", "copy a finished run to results/published"),
    ("verify", "verify.__main__", "check published results and submissions, by replays too"),
    ("check", "cli.check", "test a component of your own against what the harness relies on"),
    ("zoo", "zoo.__main__", "list, fetch and share published policies by name"),
    ("export", "export.__main__", "write the trajectories behind the records of a run"),
    ("rllib", "rllib.__main__", "train RLlib's PPO + LSTM as a reference"),
    ("app", "app.__main__", "open the page in the browser"),
)
"""Command, the module whose ``main`` runs it, and what it does."""

COMMANDS = {name: f"harness.{module}" for name, module, _ in _COMMANDS}
"""Command -> the module whose ``main`` runs it."""

_LINES = "\n".join(f"  {name:<8} {text}" for name, _, text in _COMMANDS)
USAGE = f"""usage: metarl COMMAND [--FLAG VALUE ...]

commands:
{_LINES}

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
