"""A run trained by RLlib: its cells, its folder, its table.

Imports ray only when the run starts, so that bad input is reported without delay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.schema import RunConfig
from harness.console.listener import RunListener
from harness.execution.backend import Backend
from harness.experiments.experiment import open_run, play
from harness.reporting.store.records import RunFolder
from harness.rllib.weights import NETWORK
from harness.types import Cell

LEARNERS = ("multitask", "rl2")
"""Learners that train by PPO, and can therefore be compared with RLlib's."""


def reference_cells(config: RunConfig) -> list[Cell]:
    """Return the cells that RLlib trains for ``config``, seed by seed."""
    return [
        Cell(config.task_dist, f"rllib-{NETWORK}", learner, seed)
        for seed in config.seed
        for learner in config.learner
    ]


def run_reference(
    config: RunConfig, *, argv: Sequence[str], given: Mapping[str, Any], progress: RunListener
) -> int:
    """Train every cell of ``config`` with RLlib and score it; return the exit code.

    Raises:
        UsageError: the run's folder cannot be created.
    """
    command = ("python", "-m", "harness.rllib", *argv)
    planned = reference_cells(config)
    folder, manifest = open_run(config, planned, command, given, prefix="rllib-")
    return play(config, folder, manifest, progress, _start)


def _start(config: RunConfig, folder: RunFolder, progress: RunListener) -> Backend:
    from harness.rllib.reference import RllibBackend

    return RllibBackend(config)
