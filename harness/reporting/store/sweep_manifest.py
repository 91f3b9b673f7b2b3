"""``sweep.json``: which cells a sweep consists of. What became of them, they say.

Written once, and again where cells are added (``--extend``):
those of before stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from harness.errors import ArtefactError
from harness.reporting.store.files import check_links, safe_name, write_atomically
from harness.reporting.store.json_io import Strict, brief, parsed_strictly, plain, section
from harness.reporting.store.manifest import Manifest, config_hash, differences, relevant
from harness.types import Cell

MAX_BYTES = 64 << 20
"""Largest ``sweep.json`` that is opened."""
FILE = "sweep.json"
CELLS = "cells"
SETTINGS = "cell.yaml"
"""What a cell's folder holds for ``harness.run --config``: the settings that play it again."""


def settings_of(config: Mapping[str, Any]) -> bytes:
    """Return that file of a resolved ``config``: every setting that makes a number.

    What was given alone would not do, for defaults and presets are others in another revision.
    """
    settings = relevant(config)
    # Both are always there, and to ask for both is refused.
    unasked = "few_shot" if settings["evaluation"]["zero_shot"] else "zero_shot"
    evaluation = {k: v for k, v in settings["evaluation"].items() if k != unasked}
    return yaml.safe_dump(settings | {"evaluation": evaluation}, sort_keys=False).encode()


def replay_command(cell: Path) -> tuple[str, ...]:
    """Return the command that plays the cell in a folder again, in one process.

    Its path is relative where the folder is below the working directory: that of the project.
    """
    settings = (cell / SETTINGS).absolute()
    here = Path.cwd()
    shown = settings.relative_to(here) if settings.is_relative_to(here) else settings
    return ("python", "-m", "harness.run", "--config", shown.as_posix(), "--backend", "local")


class SweepCell(Strict):
    """One expected cell."""

    task_dist: str
    policy: str
    learner: str
    seed: int
    settings: dict[str, Any]
    """The swept settings by dotted name, names and seed apart."""
    config: dict[str, Any]
    """As resolved, of this cell alone."""
    config_hash: str

    @property
    def cell(self) -> Cell:
        """The cell as its own run calls it."""
        return Cell(self.task_dist, self.policy, self.learner, self.seed)


class SweepManifest(Strict):
    """Everything a sweep is expected to do. A value that never changes."""

    format: Literal[1] = 1
    created: str
    """UTC, ISO 8601."""
    command: tuple[str, ...]
    given: dict[str, Any]
    """The sweep file as it was read."""
    tune: dict[str, Any]
    """Section tune as resolved."""
    sweep_hash: str
    cells: dict[str, SweepCell] = Field(min_length=1)
    """By key, the name of the cell's folder below ``cells``, in the order they are begun."""

    @classmethod
    def create(
        cls,
        command: Sequence[str],
        given: Mapping[str, Any],
        tune: Mapping[str, Any],
        cells: Mapping[str, SweepCell],
    ) -> SweepManifest:
        """Describe a sweep about to start."""
        return cls(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(command),
            given=plain(given),
            tune=plain(tune),
            sweep_hash=_hash(tune, cells),
            cells=dict(cells),
        )

    def check_resume(self, other: SweepManifest) -> None:
        """Raise ValueError unless ``other`` is the same sweep.

        What cannot change a number may differ: workers, cells at once, checkpoints.
        """
        if self.sweep_hash == other.sweep_hash:
            return
        changes = "; ".join(self._changes(other, ("gone", "added", "changed")))
        raise ValueError(
            f"cannot resume with another sweep ({changes or 'the scheduler differs'}). Give the "
            "same file as before, add cells with --extend, or start a new sweep with another --name"
        )

    def extended(self, other: SweepManifest) -> SweepManifest:
        """Return ``other`` as what this sweep becomes: its own cells first, then the added ones.

        Raises:
            ValueError: ``other`` lacks or changes a cell, adds none, or a scheduler compares cells.
        """
        refused = "; ".join(self._changes(other, ("gone", "changed")))
        if not refused and _asha(self.tune) != _asha(other.tune):
            refused = "the scheduler differs"
        if refused:
            raise ValueError(
                f"cannot extend by this file ({refused}). It must hold every cell of before, "
                "unchanged; or start a new sweep with another --name"
            )
        if _asha(self.tune):
            raise ValueError(
                "cannot extend: asha compares cells that are played together. Start a new sweep "
                "with another --name"
            )
        if self.sweep_hash == other.sweep_hash:
            raise ValueError("cannot extend: the file adds no cell. Continue with --resume")
        return other.model_copy(update={"created": self.created, "cells": self.cells | other.cells})

    def _changes(self, other: SweepManifest, words: Sequence[str]) -> Iterator[str]:
        """Yield which cells of ``other`` differ from these, and how the first changed one does."""
        then = {key: cell.config_hash for key, cell in self.cells.items()}
        now = {key: cell.config_hash for key, cell in other.cells.items()}
        found = {
            "gone": [key for key in then if key not in now],
            "added": [key for key in now if key not in then],
            "changed": [key for key in then if now.get(key, then[key]) != then[key]],
        }
        told = {"gone": "no longer there"}
        for word, keys in found.items():
            if keys and word in words:
                shown = f"{', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"
                yield f"{len(keys)} cells {told.get(word, word)} ({shown})"
        if found["changed"] and "changed" in words:
            first = found["changed"][0]
            yield from differences(self.cells[first].config, other.cells[first].config)

    def save(self, folder: Path) -> None:
        """Write the file into the sweep's ``folder``, atomically."""
        write_atomically(folder / FILE, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> SweepManifest:
        """Read the file in the sweep's ``folder``.

        Raises:
            ValueError: there is none.
            ArtefactError: it is none of this version, or does not fit itself, or a link leads out
                of the folder.
        """
        path = folder / FILE
        if not path.is_file():
            raise ValueError(f"no sweep at {folder}: {FILE} is missing. Check the path")
        if path.stat().st_size > MAX_BYTES:
            raise ArtefactError(f"{path}: larger than {MAX_BYTES} bytes")
        try:
            manifest = cls.model_validate_json(parsed_strictly(path))
            for key, cell in manifest.cells.items():
                cell_check(safe_name(key, "cell"), cell)
        except (ValidationError, ValueError, RecursionError) as error:
            raise ArtefactError(f"{path}: not a valid sweep ({brief(error)})") from error
        if _hash(manifest.tune, manifest.cells) != manifest.sweep_hash:
            raise ArtefactError(f"{path}: sweep_hash does not fit the cells beside it")
        check_links(folder)
        return manifest

    def state(self, folder: Path, key: str) -> Manifest | None:
        """Return the manifest of one cell; None where it was not begun.

        Raises:
            ArtefactError: it is malformed, or of another cell or configuration.
        """
        path = folder / CELLS / key / "manifest.json"
        if not path.is_file():
            return None
        expected, found = self.cells[key], Manifest.load(path)
        if found.config_hash != expected.config_hash or list(found.cells) != [expected.cell.id]:
            raise ArtefactError(
                f"{path}: not the cell that {FILE} expects there. Delete {path.parent} to play it "
                "again"
            )
        return found


def cell_check(key: str, cell: SweepCell) -> None:
    """Raise ValueError unless what a cell says of itself fits together."""
    config = cell.config
    named = {name: config.get(name) for name in ("task_dist", "policy", "learner", "seed")}
    told = {
        "task_dist": cell.task_dist,
        "policy": [cell.policy],
        "learner": [cell.learner],
        "seed": [cell.seed],
    }
    if config_hash(config) != cell.config_hash or named != told:
        raise ValueError(f"cell {key!r} does not fit its configuration")
    safe_name(cell.cell.id, "cell")
    section(config, "evaluation")
    strange = [name for name in cell.settings if name in named or not _is_setting(name, config)]
    if strange:
        raise ValueError(f"cell {key!r}: {strange[0]!r} is no swept setting")


def _is_setting(name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a dotted name leads to a setting; one that is not set may be absent."""
    *sections, last = name.split(".")
    place: Any = config
    for key in sections:
        place = place.get(key) if isinstance(place, dict) else None
    return isinstance(place, dict) and (bool(sections) or last in place)


def _hash(tune: Mapping[str, Any], cells: Mapping[str, SweepCell]) -> str:
    """Return the sha256 of what can change a number of the table."""
    value = {"asha": _asha(tune), "cells": {key: cell.config_hash for key, cell in cells.items()}}
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _asha(tune: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what decides which cells a scheduler stops; None where there is none."""
    names = ("scheduler", "metric", "grace_env_steps", "reduction_factor")
    return {name: tune.get(name) for name in names} if tune.get("scheduler") == "asha" else None
