"""Cells side by side against several workers per cell, and a sweep against one process.

Wall times of whole commands, from the start of Python to the tables. The commands alternate, and
ratios are medians over rounds. (a) ``harness.run`` with four policies and rl2: side by side, the
default on at most four CPUs, against ``--num-workers``, which plays one cell after another.
(b) The twelve tiny cells of ``sweep_faults.py``: a sweep against ``harness.run --backend local``.

    python benchmarks/run_and_sweep.py [--rounds 3] [--run-epochs 10] [--sweep-epochs 60]
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import count

from common import harness, interleaved, parser
from sweep_faults import write_settings

RUN = [
    *("--task-dist", "halfcheetah-vel", "--policy", "ssm", "lstm", "gru", "transformer"),
    *("--learner", "rl2", "--test-tasks", "0", "1", "--few-shot", "1"),
    *("--episodes-per-shot", "2", "--query-episodes", "2"),
]
"""Four cells that do little but train."""
NUMBERS = count()
"""Part of each run's name, because a run needs a new folder."""


def execute(*argv: object) -> None:
    """Run ``python -m harness.<argv>`` to its end, under a new name."""
    harness(*argv, "--name", f"run-{next(NUMBERS)}").check()


def compare(commands: dict[str, Sequence[object]], rounds: int) -> None:
    """Time the commands; print medians, and ratios to the first."""
    works = {label: partial(execute, *argv) for label, argv in commands.items()}
    seconds = interleaved(works, rounds, clock=time.monotonic)
    first = next(iter(seconds.values()))
    for label, values in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(first, values, strict=True))
        print(f"{label:36} {statistics.median(values):7.1f} s  {ratio:5.2f}", flush=True)


def main() -> None:
    """Measure and print."""
    args = parser(__doc__)
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--num-workers", type=int, default=2, help="rollout actors of a cell in (a)")
    args.add_argument("--run-epochs", type=int, default=10, help="iterations of a cell in (a)")
    args.add_argument("--sweep-epochs", type=int, default=60, help="iterations of a cell in (b)")
    given = args.parse_args()
    run = ("run", *RUN, "--epochs", given.run_epochs)
    with tempfile.TemporaryDirectory(prefix="run-and-sweep-") as folder:
        os.chdir(folder)
        write_settings(given.sweep_epochs, workers=0)
        compare(
            {
                "4 cells side by side": run,
                f"4 cells, {given.num_workers} workers each in turn": (
                    *run,
                    "--num-workers",
                    given.num_workers,
                ),
            },
            given.rounds,
        )
        compare(
            {
                "sweep of 12 cells": ("sweep", "sweep.yaml"),
                "12 cells in one process": ("run", "--config", "run.yaml", "--backend", "local"),
            },
            given.rounds,
        )


if __name__ == "__main__":
    main()
