"""The smallest complete run, and comparisons of two runs."""

from pathlib import Path

import pandas as pd

from harness.cli import run
from harness.reporting.store.records import read_curves, read_records

SIZES = [
    *("--task-dist", "point_goal", "--horizon", "8", "--test-tasks", "0", "1", "2", "3", "4"),
    *("--meta-batch-size", "4", "--episodes-per-task", "2", "--outer-updates", "2"),
    *("--few-shot", "1", "--episodes-per-shot", "2", "--query-episodes", "2"),
]

VARIABLE = ["run", "adapt_seconds"]
"""Columns of records that may differ between two runs of one configuration."""


class NotPermittedError(Exception):
    """This machine or this user cannot do what a test needs."""


def play(name, *argv, policy=("mlp",), epochs=3, checkpoint_every=1):
    """Run the command line in this process, below the working directory."""
    sizes = ["--epochs", str(epochs), "--checkpoint-every", str(checkpoint_every)]
    return run.main([*SIZES, *sizes, "--name", name, "--policy", *policy, *argv])


def played_locally(name, *argv, **kwargs):
    return play(name, "--backend", "local", *argv, **kwargs)


def records(name, *, without=()):
    frame = read_records(Path("results") / name)
    return frame.drop(columns=[*VARIABLE, *without])


def trained(name, *, without=()):
    """The records of the trained cells, without reference lines."""
    frame = records(name)
    return frame[frame.learner != "reference"].drop(columns=list(without)).reset_index(drop=True)


def curves(name):
    """The curves by cell, without their times."""
    return {
        cell: [(m.iteration, m.env_steps, m.pre_return, m.post_return, m.info) for m in rows]
        for cell, rows in read_curves(Path("results") / name).items()
    }


def assert_same(left, right):
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def events(name):
    path = Path("results") / name / "events.jsonl"
    return pd.read_json(path, lines=True) if path.exists() else pd.DataFrame({"kind": []})


class Listener:
    """A ``RunListener`` that records events and calls back after each iteration."""

    def __init__(self, on_iteration=None):
        self.notes, self.iterations, self.finished = [], [], []
        self.was_closed = False
        self._on_iteration = on_iteration

    def started(self, cells):
        self.cells = list(cells)

    def cell_started(self, cell, first_iteration):
        self.first = first_iteration

    def iteration(self, cell, metrics):
        self.iterations.append(metrics.iteration)
        if self._on_iteration:
            self._on_iteration(metrics.iteration)

    def evaluating(self, cell, jobs_done, jobs):
        pass

    def cell_finished(self, cell, status, reason=""):
        self.finished.append((cell.id, status, reason))

    def note(self, text):
        self.notes.append(text)

    def closed(self):
        self.was_closed = True
