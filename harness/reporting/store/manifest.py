"""``manifest.json``: what a run was asked to do, with what, and what became of every cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from harness.errors import ArtefactError
from harness.reporting.store.files import safe_name, write_atomically
from harness.reporting.store.json_io import Strict, brief, parsed_strictly, plain, section
from harness.reporting.store.provenance import git_revision, host, package_versions
from harness.types import Cell

MAX_BYTES = 16 << 20
"""Largest manifest that is opened."""

Status = Literal["pending", "running", "ok", "failed", "stopped"]
"""``stopped``: by a sweep's scheduler, before its training was over."""


class DistInfo(Strict):
    """One task distribution of the run, as tables cite it."""

    name: str
    version: int
    protocol: str
    """One line: engine, reward, horizon."""
    references: dict[str, float] = Field(default_factory=dict)
    """Analytic reference lines by name, e.g. ``non-adaptive``; measured ones are records."""
    train_references: dict[str, float] = Field(default_factory=dict)
    """The same on the training tasks, where they are scored."""
    has_success: bool = False
    """Whether its tasks tell success from failure."""


class CellState(Strict):
    """One expected cell and what became of it."""

    task_dist: str
    policy: str
    learner: str
    seed: int
    status: Status = "pending"
    reason: str = ""
    """Why it failed, or was stopped."""
    wall_seconds: float | None = None
    """Time its training and evaluation took, resumed parts included."""


class Git(Strict):
    """The commit the code ran from."""

    revision: str
    dirty: bool


class Manifest(Strict):
    """Everything needed to read, repeat or continue a run. A value: changing it makes a new one."""

    format: Literal[1] = 1
    created: str
    """UTC, ISO 8601."""
    command: tuple[str, ...]
    config_given: dict[str, Any]
    config: dict[str, Any]
    """The configuration as resolved: presets and defaults filled in."""
    config_hash: str
    decided: dict[str, int | str] = Field(default_factory=dict)
    """What the code took for settings that ``config`` leaves open, e.g. ``chunk_steps of gru``;
    empty in older runs."""
    distributions: tuple[DistInfo, ...]
    packages: dict[str, str]
    git: Git | None
    host: dict[str, str | int]
    seeds: tuple[int, ...]
    cells: dict[str, CellState]
    """By cell id, in the order of the table."""
    failed_references: dict[str, str] = Field(default_factory=dict)
    """Policy of a measured reference line that could not be scored (``zero-action``) -> why."""

    @classmethod
    def create(
        cls,
        command: Sequence[str],
        config: Mapping[str, Any],
        *,
        config_given: Mapping[str, Any],
        cells: Sequence[Cell],
        distributions: Sequence[DistInfo],
        decided: Mapping[str, int | str] | None = None,
    ) -> Manifest:
        """Describe a run about to start here and now, every cell pending."""
        git = git_revision()
        states = {
            cell.id: CellState(
                task_dist=cell.task_dist, policy=cell.policy, learner=cell.learner, seed=cell.seed
            )
            for cell in cells
        }
        return cls(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(command),
            config_given=plain(config_given),
            config=plain(config),
            config_hash=config_hash(config),
            decided=dict(decided or {}),
            distributions=tuple(distributions),
            packages=package_versions(),
            git=Git(revision=git[0], dirty=git[1]) if git else None,
            host=host(),
            seeds=tuple(dict.fromkeys(cell.seed for cell in cells)),
            cells=states,
        )

    def with_status(
        self, cell_id: str, status: Status, reason: str = "", wall_seconds: float | None = None
    ) -> Manifest:
        """Return the manifest with what became of one cell; unknown ids are a ``KeyError``."""
        state = self.cells[cell_id].model_dump()
        state |= {"status": status, "reason": reason, "wall_seconds": wall_seconds}
        cells = {**self.cells, cell_id: CellState(**state)}
        return self.model_copy(update={"cells": cells})

    def with_failed_references(self, lines: Mapping[str, str]) -> Manifest:
        """Return the manifest with why each of these reference lines is missing."""
        return self.model_copy(update={"failed_references": dict(lines)})

    @property
    def resumable(self) -> bool:
        """Whether ``--resume`` takes the run up again: not RLlib's, nor a checkpoint's scoring."""
        return "harness.rllib" not in self.command[:3] and "checkpoint" not in self.config_given

    def ids(self, *statuses: Status) -> tuple[str, ...]:
        """Return the ids of the cells with one of ``statuses``, in table order."""
        return tuple(key for key, state in self.cells.items() if state.status in statuses)

    def failures(self) -> dict[str, str]:
        """Return why it failed, by the id of a cell or the name of a reference line."""
        lines = self.failed_references.items()
        cells = {key: self.cells[key].reason for key in self.ids("failed")}
        return cells | {f"reference {name}": reason for name, reason in lines}

    @property
    def dist_name(self) -> str:
        """The task distribution of the first cell: the only one of a run."""
        return next(iter(self.cells.values())).task_dist

    def check_resume(
        self, config: Mapping[str, Any], decided: Mapping[str, int | str] | None = None
    ) -> None:
        """Raise ValueError if continuing with ``config`` would mix two different experiments.

        The execution section may differ: nothing in it changes a number. ``decided`` must be what
        it was, where the run recorded that.
        """
        then = {**self.config, **self.decided}
        now = {**config, **(decided or {} if self.decided else {})}
        if config_hash(now) == config_hash(then):
            return
        changed = "; ".join(differences(then, now))
        raise ValueError(
            f"cannot resume with another configuration ({changed}). "
            "Give the same flags as before, or start a new run with another --name"
        )

    def save(self, path: Path) -> None:
        """Write the manifest to ``path`` atomically."""
        write_atomically(path, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read the manifest at ``path``.

        Raises:
            ValueError: there is none.
            ArtefactError: it is not a manifest of this version, or its hash does not fit.
        """
        if not path.is_file():
            raise ValueError(f"no run at {path.parent}: {path.name} is missing. Check the path")
        if path.stat().st_size > MAX_BYTES:
            raise ArtefactError(f"{path}: larger than {MAX_BYTES} bytes")
        try:
            manifest = cls.model_validate_json(parsed_strictly(path))
        except (ValidationError, ValueError, RecursionError) as error:
            raise ArtefactError(f"{path}: not a valid manifest ({brief(error)})") from error
        manifest._check(path)
        return manifest

    def _check(self, path: Path) -> None:
        if config_hash(self.config) != self.config_hash:
            raise ArtefactError(f"{path}: config_hash does not fit the configuration beside it")
        try:
            section(self.config, "evaluation")
            for key, state in self.cells.items():
                cell = Cell(state.task_dist, state.policy, state.learner, state.seed)
                if safe_name(key, "cell") != cell.id:
                    raise ValueError(f"cell {key!r} does not fit what it says of itself")
        except ValueError as error:
            raise ArtefactError(f"{path}: {brief(error)}") from error


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the sha256 of what can change a number."""
    text = json.dumps(relevant(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return how two configurations differ in what can change a number, setting by setting."""
    old, new = dict(_leaves(relevant(then))), dict(_leaves(relevant(now)))
    return [
        f"{key}: {old.get(key)!r} then, {new.get(key)!r} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can change a number: the configuration without ``execution``."""
    return {key: value for key, value in plain(config).items() if key != "execution"}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
