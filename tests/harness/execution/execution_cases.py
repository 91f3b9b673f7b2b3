"""The smallest complete run, and comparisons of two runs."""

from pathlib import Path

import pandas as pd

from harness.cli import run
from harness.config.components import fields
from harness.meta import learners
from harness.reporting.store.manifest import Manifest
from harness.reporting.store.records import read_curves, read_records

LEARNER_SIZES = {
    "meta_batch_size": 4,
    "episodes_per_task": 2,
    "outer_updates": 2,
    "episodes_per_iteration": 16,
    "update_epochs": 2,
    "minibatches": 2,
}
"""Sixteen episodes an iteration, for every learner, and few optimiser steps."""


def sizes(*chosen, few_shot=(1,), **changed):
    """The flags of the smallest run with these learners; a size changed to None is left out."""
    known = {name for learner in chosen for name in fields(learners.spec(learner).settings)}
    numbers = {name: n for name, n in (LEARNER_SIZES | changed).items() if name in known and n}
    return [
        *("--task-dist", "point_goal", "--horizon", "8", "--test-tasks", "0", "1", "2", "3", "4"),
        *("--few-shot", *map(str, few_shot), "--episodes-per-shot", "2", "--query-episodes", "2"),
        *(word for name, n in numbers.items() for word in (f"--{name.replace('_', '-')}", str(n))),
        *("--learner", *chosen),
    ]


SIZES = sizes("maml")

VARIABLE = ["run", "adapt_seconds"]
"""Columns of records that may differ between two runs of one configuration."""


class NotPermittedError(Exception):
    """This machine or this user cannot do what a test needs."""


def play(name, *argv, policy=("mlp",), epochs=3, checkpoint_every=1, **changed):
    """Run the command line in this process, below the working directory; or resume a run."""
    words = list(argv)
    if "--resume" in words:
        words.insert(words.index("--resume") + 1, name)
        return run.main(words)
    chosen = ["maml"]
    if "--learner" in words:
        at = words.index("--learner") + 1
        end = next((n for n in range(at, len(words)) if words[n].startswith("--")), len(words))
        chosen = words[at:end]
        del words[at - 1 : end]
    budget = ["--epochs", str(epochs), "--checkpoint-every", str(checkpoint_every)]
    return run.main(
        [*sizes(*chosen, **changed), *budget, "--name", name, "--policy", *policy, *words]
    )


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


def manifest(name="x"):
    """The plan of a run with the state of every cell."""
    return Manifest.load(Path("results") / name)


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

    def started(self, progress):
        self.cells = list(progress.cells)

    def cell_started(self, key, first_iteration):
        self.first = first_iteration

    def iteration(self, key, metrics):
        self.iterations.append(metrics.iteration)
        if self._on_iteration:
            self._on_iteration(metrics.iteration)

    def evaluating(self, key, jobs_done, jobs):
        pass

    def cell_finished(self, key, status, reason=""):
        if ".reference." not in key:
            self.finished.append((key, status, reason))

    def note(self, text):
        self.notes.append(text)

    def closed(self):
        self.was_closed = True
