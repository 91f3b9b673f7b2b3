"""Scoring one checkpoint: alone, or before and after adaptation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from harness.config.components import settings_as_dict
from harness.config.scoring import AdaptConfig, EvaluateConfig
from harness.config.sweep_file import PlannedCell
from harness.config.validation import check
from harness.console.listener import RunListener
from harness.console.progress_state import CellProgress, RunProgress
from harness.errors import ExitCode, UsageError
from harness.experiments import online_adaptation
from harness.experiments.planning import checkpoint_cell, trained_elsewhere
from harness.experiments.run import RunOptions, play
from harness.reporting.rebuild import load_comparison
from harness.reporting.render.formats import console
from harness.reporting.store.files import run_path, write_atomically
from harness.types import REFERENCE

ADAPTATION_FILE = "adaptation.json"
CHANGEABLE: dict[tuple[str, ...], str] = {
    ("adapter",): "adapter",
    ("test_tasks",): "test_tasks",
    ("env", "xml"): "imujoco_xml",
    **{
        ("evaluation", name): name
        for name in ("protocol", "splits", "episodes_per_shot", "query_episodes")
    },
}
"""Settings of a run that scoring a checkpoint may change, and their names in ``EvaluateConfig``."""


def evaluate_checkpoint(
    config: EvaluateConfig, *, argv: Sequence[str], listener: RunListener
) -> int:
    """Score one checkpoint with the configuration it carries; return the exit code.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
        UsageError: the run cannot start.
    """
    planned = planned_scoring(config)
    if note := trained_elsewhere(config.checkpoint):
        listener.note(note)
    options = RunOptions.of_execution(
        config.execution,
        planned.config.label,
        command=("python", "-m", "harness.run", *argv),
        given=planned.given,
    )
    return play([planned], options, listener)


def planned_scoring(config: EvaluateConfig) -> PlannedCell:
    """Return the cell that scores one checkpoint.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
        UsageError: it cannot be scored like that.
    """
    cell, stored = checkpoint_cell(config.checkpoint, config.task_dist)
    chosen = config.applied_to(stored)
    given = settings_as_dict(config)
    changed = {path: name for path, name in CHANGEABLE.items() if given.get(name) is not None}
    check(chosen, {path: f"--{name.replace('_', '-')}" for path, name in changed.items()})
    return PlannedCell(cell.id, cell, chosen, given, {}, config.checkpoint.absolute())


@dataclasses.dataclass(frozen=True, slots=True)
class Gain:
    """Mean returns over the tasks of a split, before and after adaptation.

    One checkpoint is one seed, so there is no interval.
    """

    steps: int
    """Shots, or gradient steps of each online adaptation."""
    pre: float
    post: float
    gain: float
    tasks: int
    better: int
    """Tasks whose mean return is higher after adaptation."""
    online: bool = False
    split: str = "test"

    @classmethod
    def of(
        cls,
        before: np.ndarray,
        after: np.ndarray,
        steps: int,
        *,
        online: bool = False,
        split: str = "test",
    ) -> Gain:
        """Return the gain from mean returns per task, [T] each; NaN without a valid episode."""
        difference = after - before
        pre, post, gain = (float(np.nanmean(values)) for values in (before, after, difference))
        tasks, better = int(np.isfinite(difference).sum()), int((difference > 0).sum())
        return cls(steps, pre, post, gain, tasks, better, online, split)

    def text(self) -> str:
        """Return all of it on one line."""
        kind = "steps at a time, while acting" if self.online else "adaptation steps"
        return (
            f"return before {self.pre:.1f}; after {self.steps} {kind} {self.post:.1f}; "
            f"gain {self.gain:+.1f} (better on {self.better} of {self.tasks} "
            f"{self.split} tasks)"
        )

    def save(self, folder: Path, config: AdaptConfig) -> None:
        """Write the estimates and the settings they were computed with to ``adaptation.json``."""
        values = dataclasses.asdict(self) | {"config": settings_as_dict(config)}
        text = json.dumps(_finite(values), indent=1, allow_nan=False)
        write_atomically(folder / ADAPTATION_FILE, text.encode())


def adapt_checkpoint(config: AdaptConfig, *, argv: Sequence[str], listener: RunListener) -> int:
    """Score a checkpoint before and after adaptation, print the gain; return the exit code.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
        UsageError: the run cannot start, or the policy cannot adapt like that.
    """
    if config.execution.mirror is not None:
        raise UsageError("--mirror: adapt takes none; it is for runs that take long")
    options = RunOptions.of_execution(config.execution, "adapt")
    execution = dataclasses.replace(config.execution, name=options.name)
    config = dataclasses.replace(config, execution=execution)
    folder = run_path(options.storage, options.name)
    if config.online:
        gain = _online(config, folder, listener)
    else:
        code = evaluate_checkpoint(config, argv=argv, listener=listener)
        if code:
            return code
        gain = _gain(folder, config.adapt_steps)
    gain.save(folder, config)
    console().print(gain.text(), highlight=False)
    return ExitCode.COMPLETE


def _gain(folder: Path, steps: int) -> Gain:
    """Read the gain from the table of a run of one cell."""
    table, _ = load_comparison(folder)
    own = table.task_scores[table.task_scores["learner"] != REFERENCE]
    by_task = own.pivot_table("return", "task", "shots", dropna=False)
    before, after = by_task[0].to_numpy(float), by_task[steps].to_numpy(float)
    return Gain.of(before, after, steps, split=table.split)


def _online(config: AdaptConfig, folder: Path, listener: RunListener) -> Gain:
    if folder.exists():
        raise UsageError(f"--name: {folder} exists already; give another name")
    cell, stored = checkpoint_cell(config.checkpoint, config.task_dist)
    folder.mkdir(parents=True)
    listener.started(RunProgress(folder.name, {cell.id: CellProgress("running")}))
    try:
        on_done = partial(listener.evaluating, cell.id)
        pre, post = online_adaptation.play(config, cell, config.applied_to(stored), on_done)
    except BaseException:
        folder.rmdir()  # or its name would be taken by nothing
        raise
    finally:
        listener.closed()
    before, after = (np.mean(values, axis=1) for values in (pre, post))
    return Gain.of(before, after, config.adapt_steps, online=True)


def _finite(value: object) -> object:
    """Return nested plain values with ``None`` for numbers that JSON cannot represent."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
