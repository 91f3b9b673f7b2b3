"""The one training and the one adaptation in progress, shared by all windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.app import forms
from harness.app.run_process import LOGS, RunProcess
from harness.errors import UsageError

SHUTDOWN_SECONDS = 90.0
"""How long each interrupted run may take to write its checkpoint and table when the page quits."""


@dataclass(slots=True)
class AppState:
    """The current or last training and adaptation."""

    storage: Path
    training: RunProcess | None = None
    adapting: RunProcess | None = None
    watched_task: int = 0
    """Index of the test task to show a film of."""

    def train(self, values: forms.Values) -> list[str]:
        """Start a training from the values of form fields; return its command.

        Raises:
            UsageError: a value is invalid, or a training is still running.
        """
        _check_idle(self.training)
        folder, command = forms.train_command(values, self.storage)
        self.training = RunProcess(folder, [command], self._log(folder))
        return command

    def resume(self) -> list[str]:
        """Continue the training that was stopped; return the command.

        Raises:
            UsageError: there is none, or it is still running.
        """
        _check_idle(self.training)
        if self.training is None:
            raise UsageError("nothing to resume: nothing was stopped")
        folder = self.training.folder
        command = forms.resume_command(folder)
        self.training = RunProcess(folder, [command], self._log(folder))
        return command

    def adapt(self, checkpoint: str, task: int | None, values: forms.Values) -> list[str]:
        """Start to score a checkpoint and film a task; return the scoring command.

        Raises:
            UsageError: the checkpoint has no such task, or an adaptation is still running.
            CheckpointError: the file is not a complete checkpoint.
        """
        _check_idle(self.adapting)
        loaded = forms.load(checkpoint)
        if task not in [index for _, index in loaded.tasks]:
            raise UsageError(f"no test task {task} in this checkpoint: choose one of the list")
        folder, commands = forms.adapt_commands(loaded.path, task, values, self.storage)
        self.adapting, self.watched_task = RunProcess(folder, commands, self._log(folder)), task
        return commands[0]

    def close(self) -> None:
        """Interrupt what is running and wait until it has saved its state."""
        running = [run for run in (self.training, self.adapting) if run and run.running]
        for run in running:
            run.stop()
        for run in running:
            run.wait(SHUTDOWN_SECONDS)

    def _log(self, folder: Path) -> Path:
        return self.storage / LOGS / f"{folder.name}.log"


def _check_idle(process: RunProcess | None) -> None:
    if process and process.running:
        raise UsageError(f"{process.folder.name} is still running: wait for it or stop it first")
