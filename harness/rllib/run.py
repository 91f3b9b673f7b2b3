"""A run that RLlib trains: its folder, its cells, its table. No ray here: bad input is cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.schema import RunConfig
from harness.config.sweep_file import PlannedCell
from harness.console.listener import RunListener
from harness.execution.backend import Backend
from harness.experiments.planning import config_of_cell
from harness.experiments.run import RunOptions, play
from harness.reporting.store.records import RunFolder
from harness.types import Cell

NETWORK = "lstm"
"""The policy of ours that RLlib's default recurrent module is."""
LEARNERS = ("multitask", "rl2")
"""Learners whose PPO RLlib's can stand beside."""


def reference_cells(config: RunConfig) -> list[Cell]:
    """Return what RLlib trains for ``config``, seed by seed."""
    return [
        Cell(config.task_dist, f"rllib-{NETWORK}", learner, seed)
        for seed in config.seed
        for learner in config.learner
    ]


def run_reference(
    config: RunConfig, *, argv: Sequence[str], given: Mapping[str, Any], listener: RunListener
) -> int:
    """Train and score every cell of ``config`` by RLlib; return the exit code.

    Raises:
        UsageError: the run cannot start: its folder.
    """
    command = ("python", "-m", "harness.rllib", *argv)
    planned = [
        PlannedCell(cell.id, cell, config_of_cell(config, cell), dict(given), {})
        for cell in reference_cells(config)
    ]
    options = RunOptions.of_execution(
        config.execution,
        f"rllib-{config.task_dist}",
        command=command,
        given=given,
        start_backend=_start,
    )
    return play(planned, options, listener)


def _start(config: RunConfig, folder: RunFolder, listener: RunListener) -> Backend:
    from harness.rllib.reference import RllibBackend

    return RllibBackend(config)
