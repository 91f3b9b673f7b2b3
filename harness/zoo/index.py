"""What is in a zoo: published policies by name, with their scores and the sha256 of their files."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harness.errors import UsageError
from harness.reporting.store.files import write_atomically
from harness.reporting.store.json_io import Strict
from metarl_plugins import nearest

INDEX_FILE = "index.json"
NAME = r"^[A-Za-z0-9][^\s`\"'\\<>|]*$"
"""Names need no escaping in shells and Markdown."""


def _below(path: str) -> str:
    """Return a relative path that stays below the folder it is joined to.

    Raises:
        ValueError: it leads elsewhere.
    """
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError("must be a path below the zoo")
    return path


class Score(Strict):
    """Mean over seeds after a number of shots, with its 95 % interval."""

    shots: int
    mean: float | None
    """None if a seed has no valid episode."""
    low: float | None = None
    """None for one seed."""
    high: float | None = None


class Weights(Strict):
    """The trained policy of one seed."""

    seed: int
    file: Annotated[str, AfterValidator(_below)]
    """Path below the zoo."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    git_blob: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    """Name of the content in git, which downloads go by: it stays when a path gets other bytes."""
    num_bytes: Annotated[int, Field(gt=0)]
    returns: dict[str, float | None]
    """Number of shots -> mean return of this seed."""


class Entry(Strict):
    """A row of a published table whose policies can be loaded."""

    task_dist: str
    version: int
    policy: str
    learner: str
    adapter: str
    run: str
    """Folder it was published in."""
    created: str
    """When the run began, UTC."""
    revisions: tuple[str, ...]
    """Git revisions of the code that played the cells."""
    protocol: str
    """The distribution in one line: engine, reward, horizon."""
    split: str
    num_tasks: int
    episodes_per_shot: int
    query_episodes: int
    returns: tuple[Score, ...]
    success: tuple[Score, ...] = ()
    """Success rates; empty where tasks have none."""
    num_seeds: int
    """Seeds behind the scores; weights may be here for fewer."""
    num_params: int
    train_env_steps: int
    weights: tuple[Weights, ...] = Field(min_length=1)
    """In the order of the run."""

    def of_seed(self, seed: int | None) -> Weights:
        """Return the weights of ``seed``, or of the first seed: never of the best.

        Raises:
            UsageError: there are none.
        """
        if seed is None:
            return self.weights[0]
        for weights in self.weights:
            if weights.seed == seed:
                return weights
        seeds = ", ".join(f"s{weights.seed}" for weights in self.weights)
        raise UsageError(f"the zoo has no seed {seed} of this policy; choose from: {seeds}")


class Index(Strict):
    """The content of a zoo."""

    format: Literal[1] = 1
    entries: dict[Annotated[str, Field(pattern=NAME)], Entry]

    def write(self, path: Path) -> None:
        """Write the index to ``path``, an entry a line."""
        lines = (f"{json.dumps(name)}: {e.model_dump_json()}" for name, e in self.entries.items())
        text = '{"format": 1, "entries": {\n' + ",\n".join(lines) + "\n}}\n"
        write_atomically(path, text.encode())

    def find(self, name: str) -> tuple[str, Entry, Weights]:
        """Return the entry that ``DIST/POLICY/LEARNER`` or ``DIST/POLICY/LEARNER/sN`` names.

        Raises:
            UsageError: there is none.
        """
        row, _, last = name.rpartition("/")
        if name in self.entries:
            return name, self.entries[name], self.entries[name].of_seed(None)
        if row in self.entries and last[:1] == "s" and last[1:].isdecimal():
            return row, self.entries[row], self.entries[row].of_seed(int(last[1:]))
        near = nearest(name, self.entries)
        hint = f"; did you mean {near!r}?" if near else ""
        raise UsageError(f"{name!r} is not in the zoo{hint} (metarl zoo list shows what is)")
