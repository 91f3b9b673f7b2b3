"""The one training and the one adaptation that the page has in hand, whoever looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.app import forms
from harness.app.run_process import LOGS, RunProcess
from harness.errors import UsageError

PATIENCE = 90.0
"""Seconds that interrupted work has to write its checkpoint and table when the page ends."""


@dataclass(slots=True)
class AppState:
    """What is being done, for all windows that show the page."""

    storage: Path
    training: RunProcess | None = None
    adapting: RunProcess | None = None
    watched: int = 0
    """Index of the test task that is filmed."""

    def train(self, form: forms.TrainForm) -> list[str]:
        """Start a training; return its command.

        Raises:
            UsageError: the form makes no run, or one is going on.
        """
        _check_free(self.training)
        folder, command = form.command(self.storage)
        self.training = RunProcess(folder, [command], self._log(folder))
        return command

    def adapt(self, checkpoint: str, task: int | None, shots: int, backend: str) -> list[str]:
        """Start scoring and filming a checkpoint; return the first command.

        Raises:
            UsageError: the checkpoint has no such task, or one is being adapted.
            CheckpointError: the file is not a whole checkpoint.
        """
        _check_free(self.adapting)
        loaded = forms.load(checkpoint)
        have = [index for _, index in loaded.tasks]
        if task not in have:
            raise UsageError(f"test task {task} is none of the checkpoint's: load it, choose one")
        folder, commands = forms.adapt_commands(loaded.path, task, shots, backend, self.storage)
        self.adapting, self.watched = RunProcess(folder, commands, self._log(folder)), task
        return commands[0]

    def close(self) -> None:
        """Interrupt what is going on and wait until it has written what it has."""
        left = [child for child in (self.training, self.adapting) if child and child.running]
        for child in left:
            child.stop()
        for child in left:
            child.wait(PATIENCE)

    def _log(self, folder: Path) -> Path:
        return self.storage / LOGS / f"{folder.name}.log"


def _check_free(child: RunProcess | None) -> None:
    if child and child.running:
        raise UsageError(f"{child.run.name} is going on: wait for it, or stop it first")
