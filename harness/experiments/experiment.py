"""A run: open its folder, play every cell that is missing, write the table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.config.distributions import open_distribution
from harness.config.protocol import scored
from harness.config.schema import (
    EvaluateConfig,
    RunConfig,
    UsageError,
    config_as_dict,
    config_from_dict,
)
from harness.config.validation import check_run
from harness.console.listener import RunListener
from harness.execution import checkpoint as checkpoints
from harness.execution.backend import Backend
from harness.execution.cell import cells
from harness.execution.interrupt import InterruptedRunError, StopRequest
from harness.execution.local import LocalBackend
from harness.experiments.mirror import Mirror, mirrored
from harness.experiments.run_loop import RunLoop
from harness.meta.learners.traits import decided
from harness.reporting.rebuild import rebuild
from harness.reporting.render.formats import console, to_rich
from harness.reporting.store.files import ArtefactError, run_path
from harness.reporting.store.manifest import DistInfo, Manifest
from harness.reporting.store.records import RunFolder
from harness.tracking.trackers import with_trackers
from harness.types import Cell

RESULTS = Path("results")
INTERRUPTED = 4
CHANGEABLE: dict[tuple[str, ...], str] = {
    (section, name): f"--{name.replace('_', '-')}"
    for section, names in (
        ("adapt", ("adapter",)),
        ("env", ("test_tasks", "imujoco_xml")),
        ("evaluation", ("protocol", "splits", "episodes_per_shot", "query_episodes")),
    )
    for name in names
}
"""Settings that scoring a checkpoint may change, and the flags that do."""


def run_experiment(
    config: RunConfig, *, argv: Sequence[str], given: Mapping[str, Any], progress: RunListener
) -> int:
    """Train and score every cell of ``config``; return the exit code.

    Raises:
        UsageError: the run cannot start: its folder, its resumption or its resources.
    """
    command = ("python", "-m", "harness.run", *argv)
    folder, manifest = open_run(config, cells(config), command, given)
    return play(config, folder, manifest, progress, start_backend)


def evaluate_checkpoint(
    config: EvaluateConfig, *, argv: Sequence[str], progress: RunListener
) -> int:
    """Score one checkpoint with the configuration it carries; return the exit code.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
        UsageError: the run cannot start.
    """
    cell, stored = described(config)
    chosen = config.applied_to(stored)
    check_run(chosen, CHANGEABLE)
    command = ("python", "-m", "harness.run", *argv)
    folder, manifest = open_run(chosen, [cell], command, config_as_dict(config))
    return play(chosen, folder, manifest, progress, start_backend, config.checkpoint)


def described(config: EvaluateConfig) -> tuple[Cell, RunConfig]:
    """Return the cell that a checkpoint says it is of, and its configuration for that cell alone.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
        UsageError: it is of another distribution than was asked for.
    """
    path = config.checkpoint
    run = checkpoints.read(path).run
    try:
        stored = config_from_dict(run["config"])
        told = Cell(**run["cell"])
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoints.CheckpointError(f"{path} does not say what it is of: {error}") from error
    planned = cells(stored)
    if config.task_dist not in (None, stored.task_dist):
        raise UsageError(
            f"{path} is of {stored.task_dist}, and {config.task_dist} was asked for: leave that out"
        )
    if told not in planned:
        raise checkpoints.CheckpointError(
            f"{path} is of {told}, which is no cell of the configuration it carries"
        )
    cell = planned[planned.index(told)]
    return cell, dataclasses.replace(
        stored, policy=(cell.policy,), learner=(cell.learner,), seed=(cell.seed,)
    )


def describe(config: RunConfig) -> DistInfo:
    """Return the run's task distribution as tables cite it."""
    dist = open_distribution(config.task_dist, config.env)
    lines = {split: dist.non_adaptive_return(tasks) for split, tasks in scored(config).items()}
    known = {s: {"non-adaptive": line} for s, line in lines.items() if line is not None}
    return DistInfo(
        name=dist.name,
        version=dist.version,
        protocol=dist.protocol,
        references=known.get("test", {}),
        train_references=known.get("train", {}),
        has_success=dist.spec.has_success,
    )


def taken_up(manifest: Manifest, config: RunConfig, info: DistInfo) -> Manifest:
    """Return the manifest of a run that is to be continued.

    Raises:
        ValueError: it was begun with another configuration or distribution.
    """
    manifest.check_resume(config_as_dict(config), decided(config))
    if manifest.distributions != (info,):
        raise ValueError(
            f"cannot resume: {info.name} was defined otherwise when the run began "
            f"({manifest.distributions}). Start a new run with another --name"
        )
    return manifest


def open_run(
    config: RunConfig,
    planned: Sequence[Cell],
    command: Sequence[str],
    given: Mapping[str, Any],
    prefix: str = "",
) -> tuple[RunFolder, Manifest]:
    """Make the folder of a run, or take up the one to resume, with its manifest.

    Raises:
        UsageError: there is such a folder already, or none to resume, or it was begun otherwise.
    """
    execution = config.execution
    name = execution.name or f"{prefix}{config.task_dist}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    info = describe(config)
    try:
        path = run_path(execution.storage or RESULTS, name)
        if execution.mirror is not None:
            Mirror(execution.mirror, name).open(path, resume=execution.resume)
        folder = RunFolder.create(path, resume=execution.resume)
        if execution.resume:
            return folder, taken_up(Manifest.load(folder.manifest_path), config, info)
    except ArtefactError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    manifest = Manifest.create(
        command,
        config_as_dict(config),
        config_given=given,
        cells=planned,
        distributions=(info,),
        decided=decided(config),
    )
    manifest.save(folder.manifest_path)
    return folder, manifest


def start_backend(config: RunConfig, folder: RunFolder, progress: RunListener) -> Backend:
    """Start the workers that the configuration asks for; what becomes of them is told."""

    def notify(kind: str, fields: dict[str, Any]) -> None:
        folder.event(kind, **fields)
        progress.note(f"{kind}: " + ", ".join(f"{key} {value}" for key, value in fields.items()))

    if config.execution.backend == "local":
        return LocalBackend(config)
    # Imported here: a local run, and bad input, need not pay for importing ray.
    from harness.execution.ray.backend import RayBackend

    return RayBackend(config, notify)


def play(
    config: RunConfig,
    folder: RunFolder,
    manifest: Manifest,
    progress: RunListener,
    start: Callable[[RunConfig, RunFolder, RunListener], Backend],
    checkpoint: Path | None = None,
) -> int:
    """Play what is missing on the backend that ``start`` returns; return the exit code."""
    with mirrored(config.execution.mirror, folder.path, folder.event):
        return _played(config, folder, manifest, progress, start, checkpoint)


def _played(
    config: RunConfig,
    folder: RunFolder,
    manifest: Manifest,
    progress: RunListener,
    start: Callable[[RunConfig, RunFolder, RunListener], Backend],
    checkpoint: Path | None,
) -> int:
    began = time.monotonic()
    progress = with_trackers(progress, folder, config.execution)
    try:
        backend = start(config, folder, progress)
    except (KeyboardInterrupt, SystemExit):  # while Ray starts, its own handler turns SIGTERM so
        again = "; --resume begins" if manifest.resumable else ""
        progress.note(f"interrupted before anything was begun{again}")
        progress.closed()
        return INTERRUPTED
    try:
        with StopRequest(progress.note) as stop:
            session = RunLoop(config, backend, folder, manifest, progress, stop)
            session.play(checkpoint)
    except (InterruptedRunError, KeyboardInterrupt):
        progress.note("interrupted")
        return INTERRUPTED
    finally:
        backend.close()
        progress.closed()
        code = _conclude(folder, time.monotonic() - began)
    return code


def _conclude(folder: RunFolder, seconds: float) -> int:
    """Write and print the table of what is complete; return the exit code it stands for."""
    out = console()
    manifest = Manifest.load(folder.manifest_path)
    left = manifest.ids("pending", "running")
    if left and not any((folder.path / "records").glob("*.parquet")):
        again = "continue with --resume" if manifest.resumable else "it cannot be taken up again"
        out.print(f"nothing complete yet in {folder.path}; {again}")
        return INTERRUPTED
    table = rebuild(folder.path)
    out.print(to_rich(table))
    out.print(f"[dim]{folder.path} · {seconds:.0f} s[/dim]", highlight=False)
    return table.exit_code
