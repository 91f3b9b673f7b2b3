"""A run that RLlib trains: its folder, its cells, its table. No ray here: bad input is cheap."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from harness.config import RunConfig, UsageError, config_as_dict
from harness.execution.experiment import INTERRUPTED, RESULTS, describe
from harness.execution.interrupt import InterruptedRunError, StopRequest
from harness.execution.session import Session
from harness.progress import Progress
from harness.reporting.files import ArtefactError, run_path
from harness.reporting.manifest import Manifest
from harness.reporting.rebuild import rebuild
from harness.reporting.records import RunFolder
from harness.reporting.writers import console, render
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
    config: RunConfig, *, argv: Sequence[str], given: Mapping[str, Any], progress: Progress
) -> int:
    """Train and score every cell of ``config`` by RLlib; return the exit code.

    Raises:
        UsageError: the run cannot start: its folder.
    """
    folder, manifest = _open(config, argv, given)
    from harness.execution.rllib_reference import RllibBackend  # seconds of importing ray

    began = time.monotonic()
    backend = RllibBackend(config)
    try:
        with StopRequest(progress.note) as stop:
            Session(config, backend, folder, manifest, progress, stop).play()
    except (InterruptedRunError, KeyboardInterrupt):
        progress.note("interrupted")
        return INTERRUPTED
    finally:
        progress.closed()
        backend.close()
    out, table = console(), rebuild(folder.path)
    out.print(render(table))
    out.print(f"[dim]{folder.path} · {time.monotonic() - began:.0f} s[/dim]", highlight=False)
    return table.exit_code


def _open(
    config: RunConfig, argv: Sequence[str], given: Mapping[str, Any]
) -> tuple[RunFolder, Manifest]:
    name = config.execution.name or f"rllib-{config.task_dist}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    try:
        folder = RunFolder.create(run_path(config.execution.storage or RESULTS, name))
    except ArtefactError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    manifest = Manifest.create(
        ("python", "-m", "harness.rllib", *argv),
        config_as_dict(config),
        config_given=given,
        cells=reference_cells(config),
        distributions=(describe(config),),
    )
    manifest.save(folder.manifest_path)
    return folder, manifest
