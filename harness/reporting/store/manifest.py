"""``run.json``: what a run was asked to do, with which code and settings, cell by cell.

It holds the plan and changes only when cells are added. What became of a cell is in the cell's own
``state.json``, so processes that play different cells never write the same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.errors import ArtefactError, UsageError
from harness.reporting.store.files import check_links, safe_name
from harness.reporting.store.json_io import Strict, brief, plain
from harness.reporting.store.provenance import elsewhere, git_revision, host, package_versions
from harness.types import REFERENCE_LINES, Cell
from metarl_plugins import label_of

RUN_FILE = "run.json"
STATE_FILE = "state.json"
CELLS_DIR = "cells"
PLUGINS_DIR = "plugins"
"""Folder with copies of the files that components from outside are defined in."""
MODELS_DIR = "models"
"""Folder of a published run with copies of the saved agents that were scored."""
SCORING = ("env", "evaluation", "test_tasks")
"""Settings and sections that change what is scored: cells that differ in them share no table."""

Status = Literal["pending", "running", "ok", "failed", "stopped"]
"""``stopped``: by the scheduler, before its training was complete."""


class DistInfo(Strict):
    """One task distribution of the run, as tables cite it."""

    name: str
    version: int
    protocol: str
    """One line: engine, reward, horizon."""
    references: dict[str, float] = Field(default_factory=dict)
    """Analytic reference lines by name, e.g. ``non-adaptive``; measured ones are records."""
    other_references: dict[str, dict[str, float]] = Field(default_factory=dict)
    """The same on the tasks of other splits, where they are scored."""
    eval_line: float | None = None
    """``non-adaptive`` on the validation tasks that are scored while training."""
    has_success: bool = False
    """Whether its tasks distinguish success from failure."""

    @property
    def versioned_name(self) -> str:
        """Its name with its version."""
        return self.name if "@" in self.name else f"{self.name}@{self.version}"


class CellState(Strict):
    """What became of one cell: its ``state.json``."""

    status: Status = "pending"
    reason: str = ""
    """Why it failed or was stopped."""
    wall_seconds: Annotated[float, Field(ge=0)] | None = None
    """Time its training and evaluation took, including the parts before a resumption."""
    revision: str = ""
    """Git revision of the code that played it last."""
    cpu: str = ""
    """Processors that played it, in order, separated by semicolons; empty in older records."""


class CellInfo(Strict):
    """One planned cell (or the reference lines of one table) and what became of it."""

    task_dist: str
    policy: str
    learner: str
    seed: int
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that vary between the cells of the run, by dotted name; names and seed apart."""
    table: str
    """Table it belongs to: cells of one table were scored on the same things."""
    iterations: int = 0
    """Outer iterations of its training."""
    checkpoint: str = ""
    """Path of the checkpoint that is scored instead of training."""
    observes_task: bool = False
    """Whether its policy is told the task, as an oracle is."""
    config: dict[str, Any]
    """Its complete configuration, with one policy, learner and seed."""
    config_hash: str
    status: Status = Field(default="pending", exclude=True)
    reason: str = Field(default="", exclude=True)
    wall_seconds: float | None = Field(default=None, exclude=True)
    revision: str = Field(default="", exclude=True)
    cpu: str = Field(default="", exclude=True)

    @property
    def cell(self) -> Cell:
        """Its names as training and scoring use them."""
        return Cell(self.task_dist, self.policy, self.learner, self.seed)

    @property
    def row_learner(self) -> str:
        """The learner with the settings that vary: what the cell's row is called in a table."""
        shown = (pair for pair in varied(self.settings) if not changes_scoring(pair[0]))
        return " ".join([self.learner, *(f"{n.rpartition('.')[2]}={v}" for n, v in shown)])


def run_file(folder: Path) -> Path:
    """Return the path of the manifest of the run in ``folder``.

    Raises:
        UsageError: there is no run.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise UsageError(f"no run at {folder}: {RUN_FILE} is missing. Check the path")
    return path


class Git(Strict):
    """The commit the code ran from."""

    revision: str
    dirty: bool

    @property
    def short(self) -> str:
        """The beginning of the revision, and whether anything was changed since."""
        return self.revision[:12] + " with uncommitted changes" * self.dirty


class Manifest(Strict):
    """Everything needed to read, repeat or continue a run, cell states included once loaded."""

    format: Literal[1] = 1
    created: str
    """UTC, ISO 8601."""
    command: tuple[str, ...]
    given: dict[str, Any] = Field(default_factory=dict)
    """Settings as given: on the command line, or in the sweep file."""
    scheduling: dict[str, Any] = Field(default_factory=dict)
    """How the cells are scheduled; only its asha settings can change a result."""
    packages: dict[str, str]
    git: Git | None
    host: dict[str, str | int]
    tables: dict[str, DistInfo] = Field(default_factory=dict)
    """Name of each table -> the distribution that its cells were scored on."""
    cells: dict[str, CellInfo] = Field(min_length=1)
    """By key, the name of the cell's folder, in the order of the table."""
    references: dict[str, CellInfo] = Field(default_factory=dict)
    """The measured reference lines, one entry per table, by key. Their policy, learner and seed are
    those of the cell whose tasks and seeds they are scored on."""

    @classmethod
    def create(
        cls,
        command: Sequence[str],
        cells: Mapping[str, CellInfo],
        *,
        tables: Mapping[str, DistInfo],
        references: Mapping[str, CellInfo] | None = None,
        given: Mapping[str, Any] | None = None,
        scheduling: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Describe a run that is about to start here and now."""
        git = git_revision()
        return cls(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(command),
            given=plain(given or {}),
            scheduling=plain(scheduling or {}),
            packages=package_versions(),
            git=Git(revision=git[0], dirty=git[1]) if git else None,
            host=host(),
            tables=dict(tables),
            cells=dict(cells),
            references=dict(references or {}),
        )

    @property
    def distributions(self) -> tuple[DistInfo, ...]:
        """The task distributions of the run, one per table."""
        return tuple(self.tables.values())

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the first cell; the cells of a table are all scored like it."""
        return next(iter(self.cells.values())).config

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, in order of appearance."""
        return tuple(dict.fromkeys(cell.seed for cell in self.cells.values()))

    @property
    def dist_name(self) -> str:
        """The task distribution of the first cell."""
        return next(iter(self.cells.values())).task_dist

    @property
    def config_hash(self) -> str:
        """The sha256 of everything that can change a number in a table."""
        cells = {key: cell.config_hash for key, cell in self.cells.items()}
        value = {"asha": self._asha, "cells": cells}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    @property
    def _asha(self) -> dict[str, Any] | None:
        names = ("scheduler", "metric", "grace_env_steps", "reduction_factor")
        asha = self.scheduling.get("scheduler") == "asha"
        return {name: self.scheduling.get(name) for name in names} if asha else None

    @property
    def resumable(self) -> bool:
        """Whether ``--resume`` can continue it: RLlib's runs and checkpoint scorings cannot."""
        return "harness.rllib" not in self.command[:3] and "checkpoint" not in self.given

    @property
    def entries(self) -> dict[str, CellInfo]:
        """Reference lines and cells by key: everything that has a folder below ``cells``."""
        return self.references | self.cells

    def ids(self, *statuses: Status) -> tuple[str, ...]:
        """Return the keys of the cells with one of ``statuses``, in table order."""
        return tuple(key for key, cell in self.cells.items() if cell.status in statuses)

    @property
    def failed_references(self) -> dict[str, str]:
        """Policy of each reference line that could not be scored (``zero-action``) -> why."""
        failed = [cell for cell in self.references.values() if cell.status == "failed"]
        return {line: cell.reason for cell in failed for line in REFERENCE_LINES}

    def elsewhere(self, key: str) -> str:
        """Return how this machine differs from the one that played a cell; empty if it does not."""
        return elsewhere(self.entries[key].cpu or self.host.get("cpu"), self.packages)

    def failures(self) -> dict[str, str]:
        """Return the reason of each failed cell, by key, and of each failed reference line."""
        lines = self.failed_references.items()
        cells = {key: self.cells[key].reason for key in self.ids("failed")}
        return cells | {f"reference {name}": reason for name, reason in lines}

    def with_states(self, states: Mapping[str, CellState]) -> Manifest:
        """Return the manifest with new states of some cells; unknown keys are ignored."""

        def updated(cells: Mapping[str, CellInfo]) -> dict[str, CellInfo]:
            return {
                key: cell.model_copy(update=states[key].model_dump()) if key in states else cell
                for key, cell in cells.items()
            }

        return self.model_copy(
            update={"cells": updated(self.cells), "references": updated(self.references)}
        )

    def part(self, table: str) -> Manifest:
        """Return the manifest of the cells of one table, their learners named as its rows are."""
        cells = {
            key: cell.model_copy(update={"learner": cell.row_learner})
            for key, cell in self.cells.items()
            if cell.table == table
        }
        references = {key: cell for key, cell in self.references.items() if cell.table == table}
        tables = {table: self.tables[table]}
        return self.model_copy(update={"cells": cells, "references": references, "tables": tables})

    def check_resume(self, other: Manifest) -> None:
        """Raise UsageError unless ``other`` is the same run.

        What cannot change a number may differ: workers, cells at once, checkpoint intervals.
        """
        if self.config_hash != other.config_hash:
            changes = "; ".join(self._changes(other)) or "the scheduler differs"
            raise UsageError(
                f"cannot resume with other settings ({changes}). Give the same settings as before, "
                "add cells with --extend, or start a new run with another --name"
            )
        self._check_tables(other)

    def extended(self, other: Manifest, longer: Collection[str] = ()) -> Manifest:
        """Return the run with the cells that ``other`` adds behind its own.

        Args:
            other: a run with all of these cells, and more.
            longer: keys of cells that ``other`` trains longer.

        Raises:
            UsageError: ``other`` lacks or changes a cell, adds none, or a scheduler compares cells.
        """
        refused = "; ".join(self._changes(other, added=False, but=longer))
        if not refused and self._asha != other._asha:
            refused = "the scheduler differs"
        if refused:
            raise UsageError(
                f"cannot extend with this file ({refused}). It must contain every earlier cell, "
                "unchanged but for a larger budget; or start a new run with another --name"
            )
        if self._asha:
            raise UsageError(
                "cannot extend: asha compares cells that are played together. Start a new run "
                "with another --name"
            )
        if self.config_hash == other.config_hash:
            raise UsageError("cannot extend: it adds no cell. Continue with --resume")
        self._check_tables(other)
        # The first run's reference lines stay the ones that are scored.
        known = {cell.table for cell in self.references.values()}
        added = {key: cell for key, cell in other.references.items() if cell.table not in known}
        return other.model_copy(
            update={
                "created": self.created,
                "host": self.host,  # of cells that name no processor; those that are added do
                "cells": self.cells
                | {k: c for k, c in other.cells.items() if k in longer or k not in self.cells},
                "references": self.references | added,
            }
        )

    def _check_tables(self, other: Manifest) -> None:
        for name, info in self.tables.items():
            again = other.tables.get(name, info)
            # How many tasks are scored while training changes no number of a table.
            if again.model_copy(update={"eval_line": info.eval_line}) != info:
                raise UsageError(
                    f"cannot continue: {info.name} was defined differently when the run began "
                    f"({info.protocol}). Start a new run with another --name"
                )

    def _changes(
        self, other: Manifest, *, added: bool = True, but: Collection[str] = ()
    ) -> Iterator[str]:
        """Yield which cells of ``other`` differ from these, and how the first changed one does."""
        then = {key: cell.config_hash for key, cell in self.cells.items()}
        now = {key: cell.config_hash for key, cell in other.cells.items()}
        changed = [key for key in then if now.get(key, then[key]) != then[key] and key not in but]
        kinds = {
            "missing": [key for key in then if key not in now],
            "added": [key for key in now if key not in then] if added else [],
            "changed": changed,
        }
        for word, keys in kinds.items():
            if keys:
                shown = f"{', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"
                yield f"{len(keys)} cells {word} ({shown})"
        if changed:
            yield from differences(self.cells[changed[0]].config, other.cells[changed[0]].config)

    def save(self, folder: Path) -> None:
        """Write ``run.json`` into the run's ``folder``."""
        self.write(folder / RUN_FILE)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the run in ``folder`` with the state of every cell.

        Raises:
            UsageError: there is none.
            ArtefactError: a file is not of this version or contradicts itself, or a link leads out
                of the folder.
        """
        path = run_file(folder)
        manifest = cls.read(path)
        try:
            for key, cell in manifest.entries.items():
                _check(key, cell, manifest.tables)
        except ValueError as error:
            raise ArtefactError(f"{path}: {brief(error)}") from error
        check_links(folder)
        paths = {key: folder / CELLS_DIR / key / STATE_FILE for key in manifest.entries}
        states = {key: CellState.read(state) for key, state in paths.items() if state.is_file()}
        return manifest.with_states(states)


def _check(key: str, cell: CellInfo, tables: Mapping[str, DistInfo]) -> None:
    """Raise ValueError unless what an entry says of itself fits together."""
    safe_name(key, "cell")
    own = label_of(str(cell.config.get("task_dist"))), cell.config.get("seed")
    if config_hash(cell.config) != cell.config_hash:
        raise ValueError(f"cell {key!r}: config_hash does not fit the configuration beside it")
    if own != (cell.task_dist, [cell.seed]):
        raise ValueError(f"cell {key!r} does not fit its configuration")
    if cell.table not in tables:
        raise ValueError(f"cell {key!r} is of the unknown table {cell.table!r}")
    if not isinstance(cell.config.get("evaluation", {}), dict):
        raise ValueError(f"cell {key!r}: evaluation is not a section of a configuration")


def changes_scoring(setting: str) -> bool:
    """Return whether the setting of this dotted name changes what is scored; see ``SCORING``."""
    return setting.partition(".")[0] in SCORING


def varied(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield dotted names of settings with their values as text."""
    for name, value in settings.items():
        yield name, _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):  # a component with settings of its own
        return " ".join(str(v) if k == "kind" else f"{k}={_as_text(v)}" for k, v in value.items())
    short = f"{value:g}" if isinstance(value, float) else ""
    return short if short and float(short) == value else str(value)


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
