"""Run RLlib's learner: folder, cells and table as in any run. No ray here: bad input is cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.schema import RunConfig
from harness.config.sweep_file import planned_cells
from harness.console.listener import RunListener
from harness.execution.backend import Backend
from harness.experiments.run import RunOptions, play
from harness.reporting.store.records import RunFolder

LABEL = "rllib-lstm"
"""The policy in tables: RLlib's default recurrent module."""
LEARNERS = ("multitask", "rl2")
"""Learners with a counterpart in RLlib's PPO."""


def run_reference(
    config: RunConfig, *, argv: Sequence[str], given: Mapping[str, Any], listener: RunListener
) -> int:
    """Train every cell of ``config`` with RLlib and score it; return the exit code.

    Raises:
        UsageError: the run cannot start: its folder.
    """
    options = RunOptions.of_execution(
        config.execution,
        f"rllib-{config.label}",
        command=("python", "-m", "harness.rllib", *argv),
        given=given,
        start_backend=_start,
    )
    return play(planned_cells(config, dict(given)), options, listener)


def _start(config: RunConfig, folder: RunFolder, listener: RunListener) -> Backend:
    from harness.rllib.reference import RllibBackend

    return RllibBackend(config)
