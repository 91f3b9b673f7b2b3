"""From the form fields to commands, and from checkpoint files to a summary of their contents."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.cli import parser
from harness.config.distributions import open_distribution
from harness.config.protocol import scored_tasks
from harness.errors import UsageError
from harness.execution.cell_setup import build_setup
from harness.execution.checkpoint import read
from harness.experiments.planning import checkpoint_cell
from harness.reporting.store.files import run_path
from task_distributions import Task

PROGRAM = "harness.run"


@dataclass(frozen=True, slots=True)
class TrainForm:
    """The fields of the Train tab, in their order on the page."""

    task_dist: str
    policies: list[str]
    further_policies: str
    """Names, separated by spaces."""
    learner: str
    shots: str
    preset: str
    thousand_steps: int
    """Environment steps per cell in thousands; 0 for the preset's budget."""
    seed: int
    backend: str

    def command(self, storage: Path) -> tuple[Path, list[str]]:
        """Return the folder that the run will write, and its command after ``python -m``.

        Raises:
            UsageError: a field is invalid.
        """
        chosen = [*self.policies, *self.further_policies.split()]
        if not chosen:
            raise UsageError("no policy is selected: tick at least one")
        words = ["--task-dist", self.task_dist.strip(), "--policy", *chosen]
        words += ["--learner", self.learner.strip(), "--few-shot", *_counts(self.shots)]
        words += ["--preset", self.preset, "--seed", str(self.seed), "--backend", self.backend]
        if self.thousand_steps:
            words += ["--env-steps", f"{self.thousand_steps}k"]
        request = _parse(words)
        assert isinstance(request, parser.Run)
        words += ["--checkpoint-every", "1"]
        return _named(storage, request.config.label, [PROGRAM, *words])


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint as the page presents it."""

    path: Path
    summary: str
    tasks: tuple[tuple[str, int], ...]
    """Label and index of every test task that it is scored on."""


def load(text: str) -> Loaded:
    """Read the checkpoint at the path ``text``.

    Raises:
        UsageError: the path is empty.
        CheckpointError: the file is not a complete checkpoint.
    """
    if not text or not text.strip():
        raise UsageError("no checkpoint is selected: choose one or type its path")
    path = Path(text.strip()).expanduser().absolute()
    cell, config = checkpoint_cell(path)
    dist = open_distribution(config.task_dist, config.env)
    every = dist.tasks("test")
    tasks = tuple((f"{i}: {_label(every[i])}", i) for i in scored_tasks(dist, config, "test"))
    adapter = build_setup(cell, config).adapter
    iteration = read(path).learner.get("iteration", "?")
    note = " (it behaves the same before and after)" if adapter == "none" else ""
    summary = (
        f"{cell.policy} trained with {cell.learner} on {cell.task_dist}, seed {cell.seed}, "
        f"{iteration} iterations. Adapter: {adapter}{note}."
    )
    return Loaded(path, summary, tasks)


def _label(task: Task) -> str:
    values = ", ".join(f"{key} {value:.3g}" for key, value in task.params[:4])
    return f"{task.name} ({values})" if values else task.name


def adapt_commands(
    checkpoint: Path, task_index: int, shots: int, backend: str, storage: Path
) -> tuple[Path, list[list[str]]]:
    """Return the folder to write, and the commands that score the checkpoint and render the task.

    Raises:
        UsageError: a field is invalid.
    """
    counts = [str(count) for count in range(1, shots + 1)]
    words = ["evaluate", "--checkpoint", str(checkpoint), "--few-shot", *counts]
    words += ["--backend", backend]
    _parse(words)
    folder, scoring = _named(storage, "adapt", [PROGRAM, *words])
    return folder, [scoring, ["harness.app.clips", str(folder), "--task", str(task_index)]]


def checkpoints(storage: Path) -> list[Path]:
    """Return the newest checkpoint of every cell below ``storage``, the most recent first."""
    newest: dict[Path, Path] = {}
    for path in sorted(storage.glob("*/cells/*/checkpoints/iteration-*.safetensors")):
        newest[path.parent] = path
    written = {}
    for path in newest.values():
        with contextlib.suppress(FileNotFoundError):  # pruned in the meantime
            written[path] = path.stat().st_mtime
    return sorted(written, key=written.__getitem__, reverse=True)


def shell(command: list[str]) -> str:
    """Return a command as it is typed in a terminal."""
    return shlex.join(["python", "-m", *command])


def _parse(words: list[str]) -> parser.Request:
    try:
        return parser.parse(words)
    except SystemExit as error:  # a field contains --help
        raise UsageError(f"not a valid command: {shell([PROGRAM, *words])}") from error


def _named(storage: Path, stem: str, command: list[str]) -> tuple[Path, list[str]]:
    """Return the folder of a new run named after ``stem`` and the time, and the whole command."""
    name = f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"[:-3]
    return run_path(storage, name), [*command, "--name", name, "--storage", str(storage)]


def _counts(text: str) -> list[str]:
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"shots: {text!r} is invalid; give whole numbers above 0, e.g. 1 5 10")
    return words
