"""A sweep file: strict YAML in, the list of its cells out, all of them checked before any runs."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.config import precedence, strict_yaml, sweep_space, validation
from harness.config.schema import STRICT, Count, Positive, RunConfig, config_as_dict
from harness.config.sweep_space import Axis, nested
from harness.config.task_checks import KeyPath
from harness.errors import UsageError
from harness.meta.learners.traits import spelled_out
from harness.reporting.store.files import NAME
from harness.reporting.store.manifest import config_hash
from harness.types import Cell

MAX_CELLS = 10_000
SECTIONS = ("base", "sweep", "tune")
NAMES = ("policy", "learner", "seed")
"""Settings that hold a list of which every value makes a cell, in base as well as in sweep."""
KEPT = ("checkpoint_every", "job_timeout", "tensorboard", "wandb")
"""Settings of section execution that a sweep takes from base."""


@dataclass(frozen=True, config=STRICT)
class TuneConfig:
    """How a sweep is played; nothing here but num_samples, seed and scheduler changes a number."""

    max_concurrent: Positive | None = None
    """Cells at once; as many as the cluster has room for if not given."""
    workers_per_cell: Count | None = None
    """Rollout actors of a cell; the CPUs shared out if not given. 0: everything in the cell's own
    process on one CPU, which costs least, but a hung environment is noticed by nobody."""
    num_samples: Positive = 1
    """Draws from the random spaces."""
    seed: Count = 0
    """Seed of those draws."""
    max_failures: Count = 2
    """Times a cell goes on from its last checkpoint after its process died, before it fails."""
    scheduler: Literal["none", "asha"] = "none"
    """asha stops what does worst (arXiv 1810.05934), judged on training tasks."""
    metric: Literal["post_return", "pre_return"] = "post_return"
    """What asha compares, higher is better: mean return of a training iteration."""
    grace_env_steps: Positive | None = None
    """Environment steps before asha may stop a cell."""
    reduction_factor: int = Field(default=3, ge=2)
    """Of so many cells asha lets one go on, at grace × 1, 3, 9, … steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell of a sweep."""

    key: str
    """Name of its folder, unique in the sweep."""
    cell: Cell
    config: RunConfig
    """Complete, with one policy, learner and seed."""
    given: dict[str, Any]
    """What the file says of it, nested: ``harness.run --config`` makes the same of it."""
    settings: dict[str, Any]
    """The swept settings by dotted name, names of things and seed apart."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep file, read and expanded."""

    source: str
    values: dict[str, Any]
    tune: TuneConfig
    cells: tuple[PlannedCell, ...]


def load(path: Path) -> Sweep:
    """Read the sweep file at ``path``.

    Raises:
        UsageError: it is no sweep, or one of its cells is no run; with file and line.
    """
    return expand(strict_yaml.read(path), str(path))


def expand(document: strict_yaml.Document, source: str) -> Sweep:
    """Return the cells that a document describes, seed by seed so that a partial sweep compares."""
    values, lines = document.values, document.lines
    if not values:
        raise UsageError(f"{source} is empty: give base or sweep at least")
    for key in values:
        if key not in SECTIONS:
            hint = validation.suggestion(key, SECTIONS)
            have = ", ".join(SECTIONS)
            raise UsageError(f"{lines[key,]}: unknown section {key!r}; have: {have}{hint}")
    base, sweep, tune_values = (_section(values, lines, name, source) for name in SECTIONS)
    swept = sweep_space.axes(sweep, lines)
    tune = _tune(tune_values, lines, swept, source)
    _check_base(base, lines, swept)
    cells = list(_cells(base, swept, tune, lines))
    cells.sort(key=lambda planned: planned.cell.seed)
    if len(cells) > MAX_CELLS:
        raise UsageError(f"{source}: {len(cells)} cells; a sweep has at most {MAX_CELLS}")
    _check_asha(tune, cells, source)
    return Sweep(source, values, tune, _named(cells, source))


def _section(
    values: Mapping[str, Any], lines: Mapping[KeyPath, str], name: str, source: str
) -> dict[str, Any]:
    section = values.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise UsageError(f"{lines.get((name,), source)}: {name} is a section: indent what it holds")
    return section


def _tune(
    given: dict[str, Any], lines: Mapping[KeyPath, str], swept: Sequence[Axis], source: str
) -> TuneConfig:
    origins = {
        path[1:]: f"{line}: {'.'.join(path)}" for path, line in lines.items() if path[0] == "tune"
    }
    tune: TuneConfig = validation.built(TuneConfig, given, origins)
    random = any(axis.draw for axis in swept)
    for name in ("num_samples", "seed"):
        if name in given and not random:
            raise UsageError(
                f"{origins[name,]}: nothing is drawn at random in this sweep; leave it out"
            )
    for name in ("metric", "grace_env_steps", "reduction_factor"):
        if name in given and tune.scheduler == "none":
            raise UsageError(f"{origins[name,]}: only scheduler asha takes it; leave it out")
    if tune.scheduler == "asha" and tune.grace_env_steps is None:
        raise UsageError(
            f"{origins['scheduler',]}: asha needs grace_env_steps, the environment steps it gives "
            "every cell before it compares"
        )
    return tune


def _check_base(
    base: Mapping[str, Any], lines: Mapping[KeyPath, str], swept: Sequence[Axis]
) -> None:
    for axis in swept:
        place: Any = base
        for key in axis.path:
            place = place.get(key) if isinstance(place, dict) else None
        if place is not None:
            first = lines["base", *axis.path]
            raise UsageError(f"{axis.where}: it is set in base too ({first}): keep one")
    execution = base.get("execution")
    for key in execution if isinstance(execution, dict) else ():
        if key not in KEPT:
            raise UsageError(
                f"{lines['base', 'execution', key]}: a sweep takes {', '.join(KEPT)} of section "
                f"execution, not {key}; see section tune and python -m harness.sweep --help"
            )


def _cells(
    base: dict[str, Any], swept: Sequence[Axis], tune: TuneConfig, lines: Mapping[KeyPath, str]
) -> Iterator[PlannedCell]:
    origins = {
        path[1:]: f"{line}: {'.'.join(path)}" for path, line in lines.items() if path[0] == "base"
    }
    for axis in swept:
        for end in range(1, len(axis.path) + 1):
            origins.setdefault(axis.path[:end], axis.where)
    # Lists of names need no points of their own: one configuration is checked for all of them.
    lists = {axis.path: list(axis.values) for axis in swept if _names(axis) and not axis.draw}
    others = [axis for axis in swept if axis.path not in lists]
    for point in sweep_space.points(others, samples=tune.num_samples, seed=tune.seed):
        drawn = {path: [value] if path[0] in NAMES else value for path, value in point.items()}
        given = precedence.merged(base, nested(drawn | lists))
        config = precedence.resolve(given, origins)
        settings = {
            ".".join(path): value
            for path, value in point.items()
            if path[0] not in (*NAMES, "task_dist")
        }
        yield from _each(config, given, settings)


def _names(axis: Axis) -> bool:
    return axis.path[0] in NAMES and len(axis.path) == 1


def _each(
    config: RunConfig, given: Mapping[str, Any], settings: dict[str, Any]
) -> Iterator[PlannedCell]:
    for seed in config.seed:
        for learner in config.learner:
            for policy in config.policy:
                cell = Cell(config.task_dist, policy, learner, seed)
                own = {"policy": [policy], "learner": [learner], "seed": [seed]}
                one = dataclasses.replace(
                    config, policy=(policy,), learner=(learner,), seed=(seed,)
                )
                # Each number is hashed, and stands in the file that plays the cell again.
                one = spelled_out(one)
                yield PlannedCell(cell.id, cell, one, precedence.merged(given, own), settings)


def _check_asha(tune: TuneConfig, cells: Sequence[PlannedCell], source: str) -> None:
    dists = sorted({planned.cell.task_dist for planned in cells})
    if tune.scheduler == "asha" and len(dists) > 1:
        raise UsageError(
            f"{source}: asha compares returns of all cells, and those of {', '.join(dists)} have "
            "no common scale; make a sweep for each"
        )


def _named(cells: Sequence[PlannedCell], source: str) -> tuple[PlannedCell, ...]:
    """Return the cells with unique keys; refuse two that are the same experiment."""
    seen: dict[str, PlannedCell] = {}
    for planned in cells:
        twin = seen.setdefault(config_hash(config_as_dict(planned.config)), planned)
        if twin is not planned:
            raise UsageError(
                f"{source}: two cells are the same experiment: {planned.cell.id} with "
                f"{planned.settings} and with {twin.settings}; every value makes a cell of its own"
            )
    keys = [_key(planned) for planned in cells]
    often = Counter(keys)
    return tuple(
        dataclasses.replace(planned, key=f"{planned.cell.id}.{digest[:12]}")
        if often[key] > 1 or not NAME.fullmatch(key)
        else dataclasses.replace(planned, key=key)
        for planned, key, digest in zip(cells, keys, seen, strict=True)
    )


def _key(planned: PlannedCell) -> str:
    parts = [
        f"{name.rpartition('.')[2]}-{_spelled(value)}" for name, value in planned.settings.items()
    ]
    return ".".join([planned.cell.id, *parts])


def _spelled(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")
