"""From what is chosen on the page to commands, and to what a checkpoint is of."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.cli import parser
from harness.config.distributions import open_distribution
from harness.config.protocol import scored_tasks
from harness.config.schema import EvaluateConfig, RunConfig
from harness.errors import UsageError
from harness.execution.checkpoint import read
from harness.execution.scoring import adapter_name
from harness.experiments.evaluate import checkpoint_cell
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.reporting.store.files import run_path

PROGRAM = "harness.run"


@dataclass(frozen=True, slots=True)
class TrainForm:
    """What is to be trained."""

    task_dist: str
    policies: list[str]
    learner: str
    shots: str
    preset: str
    epochs: int
    """0: the preset's."""
    seed: int
    backend: str

    def command(self, storage: Path) -> tuple[Path, list[str]]:
        """Return the folder that the run will write, and its command after ``python -m``.

        Raises:
            UsageError: the harness would refuse it; nothing has been started.
        """
        if not self.policies:
            raise UsageError("no policy is chosen: tick at least one")
        words = ["--task-dist", self.task_dist.strip(), "--policy", *self.policies]
        words += ["--learner", self.learner, "--few-shot", *_counts(self.shots)]
        words += ["--preset", self.preset, "--seed", str(self.seed), "--backend", self.backend]
        if self.epochs:
            words += ["--epochs", str(self.epochs)]
        config = _parsed(words)
        assert isinstance(config, RunConfig)
        return _named(storage, config.task_dist, [PROGRAM, *words, "--checkpoint-every", "1"])


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the page shows of a checkpoint."""

    path: Path
    summary: str
    tasks: tuple[tuple[str, int], ...]
    """Test tasks it may be watched on: what it is called, its index."""


def load(text: str) -> Loaded:
    """Read the checkpoint at the path ``text``.

    Raises:
        UsageError: nothing was given.
        CheckpointError: the file is not a whole checkpoint.
    """
    if not text or not text.strip():
        raise UsageError("no checkpoint is chosen: choose one, or type its path")
    path = Path(text.strip()).expanduser().absolute()
    cell, config = checkpoint_cell(EvaluateConfig(checkpoint=path))
    dist = open_distribution(config.task_dist, config.env)
    every = dist.tasks("test")
    tasks = tuple((f"{i}: {_told(every[i])}", i) for i in scored_tasks(dist, config, "test"))
    problem = CellSetup.build(cell, config)
    adapter = adapter_name(problem, learners.build(problem))
    iteration = read(path).learner.get("iteration", "?")
    how = {"none": "it does not adapt: before and after will be the same"}.get(
        adapter, f"it adapts by {adapter}"
    )
    summary = (
        f"{cell.policy} trained by {cell.learner} on {cell.task_dist}, seed {cell.seed}, "
        f"{iteration} iterations; {how}."
    )
    return Loaded(path, summary, tasks)


def _told(task: object) -> str:
    name, params = getattr(task, "name", ""), getattr(task, "params", ())
    values = ", ".join(f"{key} {value:.3g}" for key, value in params[:4])
    return f"{name} ({values})" if values else name


def adapt_commands(
    checkpoint: Path, task_index: int, shots: int, backend: str, storage: Path
) -> tuple[Path, list[list[str]]]:
    """Return the folder to write, and what scores the checkpoint and films the task.

    Raises:
        UsageError: the harness would refuse it; nothing has been started.
    """
    counts = [str(count) for count in range(1, shots + 1)]
    words = ["evaluate", "--checkpoint", str(checkpoint), "--few-shot", *counts]
    words += ["--backend", backend]
    _parsed(words)
    folder, scoring = _named(storage, "adapt", [PROGRAM, *words])
    return folder, [scoring, ["harness.app.clips", str(folder), "--task", str(task_index)]]


def checkpoints(storage: Path) -> list[Path]:
    """Return the newest checkpoint of every cell below ``storage``, the latest written first."""
    newest: dict[Path, Path] = {}
    for path in sorted(storage.glob("*/cells/*/checkpoints/iteration-*.safetensors")):
        newest[path.parent] = path
    written = {}
    for path in newest.values():
        with contextlib.suppress(FileNotFoundError):  # pruned in between
            written[path] = path.stat().st_mtime
    return sorted(written, key=written.__getitem__, reverse=True)


def spelt(command: list[str]) -> str:
    """Return a command as a terminal takes it."""
    return shlex.join(["python", "-m", *command])


def _parsed(words: list[str]) -> object:
    try:
        return parser.parse(words).config
    except SystemExit as error:  # a value of a wrong type: the form's own checks come before
        raise UsageError(f"not understood: {spelt([PROGRAM, *words])}") from error


def _named(storage: Path, stem: str, command: list[str]) -> tuple[Path, list[str]]:
    name = f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"[:-3]
    try:
        folder = run_path(storage, name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return folder, [*command, "--name", name, "--storage", str(storage)]


def _counts(text: str) -> list[str]:
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"shots: got {text!r}: give whole numbers above 0, e.g. 1 5 10")
    return words
