"""From the form fields to commands, and from checkpoint files to a summary of their contents.

The fields are the flags of the command line, which are made from the settings classes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.cli import flags, parser
from harness.cli.flags import Flag
from harness.config.distributions import open_distribution
from harness.config.protocol import scored_tasks
from harness.errors import UsageError
from harness.execution.cell_setup import build_setup
from harness.execution.checkpoint import read
from harness.experiments.planning import checkpoint_cell
from harness.reporting.store.files import run_path
from harness.zoo.index import Entry
from harness.zoo.weights import Zoo, checkpoint_path
from task_distributions import Task

PROGRAM = "harness.run"
CHOICES = ("task-dist", "policy", "learner", "preset", "adapter")
"""Flags of the Train tab that decide which other fields there are."""
MAIN = {
    "env-steps": "Environment steps",
    "few-shot": "Shots to score",
    "seed": "Seeds",
    "backend": "Runs on",
}
"""Flags of the Train tab that are always in sight, and what the page calls them."""
OF_THE_PAGE = ("resume", "name", "storage", "benchmark-mode", "checkpoint", "episodes")
"""Flags without a field: the page gives them, or they say the same as others."""
Values = Mapping[str, Any]
"""What fields hold, by the flag without its dashes: text, or a list of names; '' if not given."""


def main_flags() -> list[Flag]:
    """Return the flags ``MAIN``."""
    by_name = {flag.names[0]: flag for flag in parser.run_flags(parser.load_config([]))}
    return [by_name[name] for name in MAIN]


def settings(choices: Values) -> dict[str, list[Flag]]:
    """Return the flags of a run with these ``CHOICES`` that have a field, by group.

    Raises:
        UsageError: a choice is invalid.
    """
    config = _parse(_words(parser.choice_flags(), choices)).config
    omit = (*CHOICES, *MAIN, *OF_THE_PAGE)
    return _by_group(parser.run_flags(config), omit)


def scoring_settings() -> dict[str, list[Flag]]:
    """Return the flags of the scoring of a checkpoint that have a field, by group."""
    omit = ("few-shot", "zero-shot", "backend", "config", *OF_THE_PAGE)
    return _by_group(parser.scoring_flags(), omit)


def _by_group(known: Sequence[Flag], omit: Sequence[str]) -> dict[str, list[Flag]]:
    groups: dict[str, list[Flag]] = {}
    for flag in known:
        if flag.help != argparse.SUPPRESS and flag.names[0] not in omit:
            groups.setdefault(flag.group, []).append(flag)
    return groups


def train_command(values: Values, storage: Path) -> tuple[Path, list[str]]:
    """Return the folder that the run will write, and its command after ``python -m``.

    Of ``values``, settings of what is not chosen are left out.

    Raises:
        UsageError: a field is invalid.
    """
    for name in ("policy", "learner"):
        if not values[name]:
            raise UsageError(f"no {name} is chosen: choose at least one")
    known = [*main_flags(), *(flag for group in settings(values).values() for flag in group)]
    words = _words([*parser.choice_flags(), *known], values)
    config = _parse(words).config
    if not values.get("checkpoint-every"):
        words += ["--checkpoint-every", "1"]
    return _named(storage, config.label, [PROGRAM, *words])


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint as the page presents it."""

    path: Path
    task_dist: str
    summary: str
    tasks: tuple[tuple[str, int], ...]
    """Label and index of every test task that it is scored on."""


def load(text: str) -> Loaded:
    """Read the checkpoint at the path ``text``, or the policy of the zoo with this name.

    Raises:
        UsageError: the text is empty, or no such policy is in the zoo.
        ArtefactError: the file is not a complete checkpoint, or not the one of the zoo.
    """
    if not text or not text.strip():
        raise UsageError("no policy is chosen: choose one or type the path of a checkpoint")
    path = checkpoint_path(Path(text.strip()).expanduser()).absolute()
    cell, config = checkpoint_cell(path)
    dist = open_distribution(config.task_dist, config.env)
    every = dist.tasks("test")
    tasks = tuple((f"{i}: {_label(every[i])}", i) for i in scored_tasks(dist, config, "test"))
    adapter = build_setup(cell, config).adapter
    iteration = read(path).learner.get("iteration")
    trained = "" if iteration is None else f", {iteration} iterations"
    note = " (it behaves the same before and after)" if adapter == "none" else ""
    summary = (
        f"{cell.policy} trained with {cell.learner} on {cell.task_dist}, seed {cell.seed}"
        f"{trained}. Adapter: {adapter}{note}."
    )
    return Loaded(path, config.task_dist, summary, tasks)


def _label(task: Task) -> str:
    values = ", ".join(f"{key} {value:.3g}" for key, value in task.params[:4])
    return f"{task.name} ({values})" if values else task.name


def adapt_commands(
    checkpoint: Path, task_index: int, values: Values, storage: Path
) -> tuple[Path, list[list[str]]]:
    """Return the folder to write, and the commands that score the checkpoint and film the task.

    Raises:
        UsageError: a field is invalid.
    """
    words = ["evaluate", "--checkpoint", str(checkpoint)]
    words += _words(parser.scoring_flags(), values)
    _parse(words)
    folder, scoring = _named(storage, "adapt", [PROGRAM, *words])
    return folder, [scoring, ["harness.app.clips", str(folder), "--task", str(task_index)]]


def resume_command(run: Path) -> list[str]:
    """Return the command that continues a run."""
    return [PROGRAM, "--resume", run.name, "--storage", str(run.parent)]


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


@functools.cache
def zoo() -> tuple[str, ...]:
    """Return the names of the published policies, that which gains most by adapting first."""

    def gain(entry: Entry) -> float:
        before, after = entry.returns[0].mean, entry.returns[-1].mean
        return 0.0 if before is None or after is None else after - before

    entries = Zoo.open().index.entries.items()
    ordered = sorted(entries, key=lambda item: -gain(item[1]))
    return tuple(f"{name}/s{part.seed}" for name, entry in ordered for part in entry.weights)


def shell(command: list[str]) -> str:
    """Return a command as it is typed in a terminal."""
    return shlex.join(["python", "-m", *command])


def _words(known: Sequence[Flag], values: Values) -> list[str]:
    """Return the flags that ``values`` give, as words of a command line."""
    words: list[str] = []
    for flag in known:
        name, value = flag.names[0], values.get(flag.names[0])
        if value is None or value in ("", []):
            continue
        if flags.choices(flag.hint) == (True, False):
            words.append(f"--{name}" if value == "on" else f"--no-{name}")
        elif isinstance(value, list):
            words += [f"--{name}", *(word.strip() for word in value)]
        else:
            words += [f"--{name}", *_split(name, str(value), several=flags.several(flag.hint))]
    return words


def _split(name: str, text: str, *, several: bool) -> list[str]:
    try:
        return shlex.split(text.replace(",", " ")) if several else [text.strip()]
    except ValueError as error:
        raise UsageError(f"--{name}: {text!r}: {error}") from error


def _parse(words: list[str]) -> Any:
    try:
        return parser.parse(words)
    except SystemExit as error:  # a field contains --help
        raise UsageError(f"not a valid command: {shell([PROGRAM, *words])}") from error


def _named(storage: Path, stem: str, command: list[str]) -> tuple[Path, list[str]]:
    """Return the folder of a new run named after ``stem`` and the time, and the whole command."""
    name = f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"[:-3]
    return run_path(storage, name), [*command, "--name", name, "--storage", str(storage)]
