"""Sweep files: strict YAML in, the list of cells out, all checked before any of them runs."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.config import precedence, strict_yaml, sweep_space, validation
from harness.config.distributions import open_distribution
from harness.config.precedence import CHOICES
from harness.config.presets import Layer
from harness.config.schema import STRICT, Count, LargeCount, Positive, RunConfig, config_as_dict
from harness.config.sweep_space import Axis
from harness.config.validation import KeyPath
from harness.errors import UsageError
from harness.reporting.store.files import NAME, safe_name
from harness.reporting.store.manifest import config_hash
from harness.types import Cell
from metarl_plugins import choose_from

MAX_CELLS = 10_000
SECTIONS = ("base", "sweep", "tune")
EXECUTION = (
    *("checkpoint_every", "eval_every", "eval_tasks"),
    *("job_timeout", "tensorboard", "wandb", "trackio"),
)
"""Settings of section execution that a sweep's base may give."""


@dataclass(frozen=True, config=STRICT)
class TuneConfig:
    """How a sweep is scheduled; only num_samples, seed and scheduler change its numbers."""

    max_concurrent: Positive | None = None
    """Cells at once; as many as the cluster has room for if not given."""
    workers_per_cell: Count | None = None
    """Rollout actors per cell; if not given, 0 with as many cells as CPUs or asha, else all CPUs.
    0: everything in the cell's own process on one CPU, which costs least, but nothing notices a
    hung environment."""
    num_samples: Positive = 1
    """Draws from the random spaces."""
    seed: Count = 0
    """Seed of those draws."""
    max_failures: Count = 2
    """Times a cell continues from its last checkpoint after its process died, before it fails."""
    scheduler: Literal["none", "asha"] = "none"
    """asha stops the worst cells early (arXiv 1810.05934)."""
    metric: Literal["validation_return", "post_return", "pre_return"] = "validation_return"
    """Quantity that asha compares, higher is better: mean return on validation tasks after the most
    shots, or that of a training iteration after or before adaptation."""
    grace_env_steps: LargeCount | None = None
    """Environment steps before asha may stop a cell."""
    reduction_factor: int = Field(default=3, ge=2)
    """asha keeps one cell in this many at every rung, at grace × 1, 3, 9, … steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell of a run or sweep."""

    key: str
    """Name of its folder, unique in the run."""
    cell: Cell
    config: RunConfig
    """Complete, with one policy, learner and seed."""
    given: Layer
    """The settings given for it; ``harness.run --config`` makes the same cell of them."""
    settings: dict[str, Any]
    """Swept settings by dotted name, without names of components and seed."""
    checkpoint: Path | None = None
    """Score this checkpoint instead of training."""
    factory: Callable[[], Any] | None = None
    """Makes the agent to score, in place of what its name stands for."""

    @property
    def trains(self) -> bool:
        """Whether it is trained before it is scored."""
        return self.checkpoint is None and not self.config.agent


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


def matching(keys: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of cells that match any of the shell patterns; all without patterns.

    Raises:
        UsageError: a pattern matches none.
    """
    for pattern in patterns:
        if not fnmatch.filter(keys, pattern):
            raise UsageError(f"no cell matches {pattern!r}; --dry-run lists the cells")
    fits = any if patterns else all
    return tuple(key for key in keys if fits(fnmatch.fnmatch(key, p) for p in patterns))


def planned_cells(
    config: RunConfig, given: Layer, settings: Mapping[str, Any] | None = None
) -> list[PlannedCell]:
    """Return the cells of a run, each with its own configuration."""
    own = {key: value for key, value in given.items() if key != "match_params"}
    planned = []
    for cell in config.cells:
        try:
            safe_name(cell.id, "name of a cell")
        except ValueError as error:
            raise UsageError(f"{error}: give shorter labels, as --policy LABEL=NAME") from error
        one = config.one_cell(cell.policy, cell.learner, cell.seed)
        chosen = {
            **{
                family: {label: part.as_dict() for label, part in getattr(one, family).items()}
                for family in ("policy", "learner", "agent")
                if getattr(one, family)
            },
            "adapter": one.adapter.as_dict(),
            "seed": [cell.seed],
        }
        planned.append(PlannedCell(cell.id, cell, one, {**own, **chosen}, dict(settings or {})))
    return planned


def expand(document: strict_yaml.Document, source: str) -> Sweep:
    """Return the sweep that a document describes.

    Raises:
        UsageError: it is no sweep, or one of its cells is no run; with file and line.
    """
    values, lines = document.values, document.lines
    if not values:
        raise UsageError(f"{source} is empty: give base or sweep at least")
    for key in values:
        if key not in SECTIONS:
            choices = choose_from(key, SECTIONS)
            raise UsageError(f"{lines[key,]}: unknown section {key!r}{choices}")
    base, tune_values = (_section(values, lines, name, source) for name in ("base", "tune"))
    grids = sweep_space.grids(values.get("sweep"), lines, source)
    tune = _tune(tune_values, lines, [axis for grid in grids for axis in grid])
    cells: list[PlannedCell] = []
    seen: dict[str, PlannedCell] = {}
    for grid in grids:
        _check_base(base, lines, grid)
        cells += _distinct(_cells(base, grid, tune, lines), grid, seen, source)
    _check_labels(cells, source)
    if tune.scheduler == "asha" and tune.metric == "validation_return":
        cells = [_validated(planned, tune, source) for planned in cells]
    cells.sort(key=lambda planned: planned.cell.seed)
    if len(cells) > MAX_CELLS:
        raise UsageError(f"{source}: {len(cells)} cells; a sweep has at most {MAX_CELLS}")
    _check_asha(tune, cells, source)
    return Sweep(source, values, tune, named(cells))


def _section(
    values: Mapping[str, Any], lines: Mapping[KeyPath, str], name: str, source: str
) -> dict[str, Any]:
    section = values.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise UsageError(f"{lines.get((name,), source)}: {name} is a section: indent its settings")
    return section


def _below(lines: Mapping[KeyPath, str], section: str) -> dict[KeyPath, str]:
    """Return how messages name the settings of a section, by their path in it."""
    return {
        path[1:]: f"{line}: {'.'.join(path)}" for path, line in lines.items() if path[0] == section
    }


def _tune(given: dict[str, Any], lines: Mapping[KeyPath, str], swept: Sequence[Axis]) -> TuneConfig:
    origins = _below(lines, "tune")
    tune: TuneConfig = validation.typed(TuneConfig, given, origins)
    random = any(axis.draw for axis in swept)
    for name in ("num_samples", "seed"):
        if name in given and not random:
            raise UsageError(f"{origins[name,]}: has no effect: nothing is drawn at random here")
    for name in ("metric", "grace_env_steps", "reduction_factor"):
        if name in given and tune.scheduler == "none":
            raise UsageError(f"{origins[name,]}: has no effect without scheduler asha")
    if tune.scheduler == "asha" and tune.grace_env_steps is None:
        raise UsageError(
            f"{origins['scheduler',]}: asha needs grace_env_steps, the environment steps every "
            "cell gets before any is compared"
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
        if key not in EXECUTION:
            raise UsageError(
                f"{lines['base', 'execution', key]}: a sweep's base may give "
                f"{', '.join(EXECUTION)} in section execution, not {key}; see section tune"
            )


def _cells(
    base: dict[str, Any], swept: Sequence[Axis], tune: TuneConfig, lines: Mapping[KeyPath, str]
) -> Iterator[PlannedCell]:
    origins = _below(lines, "base")
    for axis in swept:
        for end in range(1, len(axis.path) + 1):
            origins.setdefault(axis.path[:end], axis.where)
    # Lists of names and seeds need no points of their own: planned_cells crosses them.
    lists = {axis.path[0]: list(axis.values) for axis in swept if _is_list(axis)}
    others = [axis for axis in swept if not _is_list(axis)]
    for point in sweep_space.points(others, samples=tune.num_samples, seed=tune.seed):
        single = {path[0]: _one(path[0], value) for path, value in point.items() if len(path) == 1}
        nested = {path: value for path, value in point.items() if len(path) > 1}
        layer = {**lists, **single}
        config = precedence.resolve([base, layer], origins, overrides=nested)
        settings = {
            ".".join(path): value
            for path, value in point.items()
            if path[0] not in ("seed", "task_dist") and (len(path) > 1 or path[0] not in CHOICES)
        }
        given = precedence.merged(base, sweep_space.nested(nested))
        yield from planned_cells(config, {**given, **layer}, settings)


def _is_list(axis: Axis) -> bool:
    return axis.draw is None and axis.path in {("policy",), ("learner",), ("seed",)}


def _one(name: str, value: Any) -> Any:
    return [value] if name in (*CHOICES, "seed") else value


def _distinct(
    cells: Iterator[PlannedCell],
    swept: Sequence[Axis],
    seen: dict[str, PlannedCell],
    source: str,
) -> Iterator[PlannedCell]:
    """Yield every experiment once, adding it to ``seen``: the cells so far by digest.

    An axis of one component, such as ``policy.gru.hidden_dim``, does not multiply the cells
    without that component.

    Raises:
        UsageError: two points of an axis that the cell does have, or two grids, give the same
            experiment.
    """
    earlier = set(seen)
    for planned in cells:
        foreign = [
            ".".join(axis.path)
            for axis in swept
            if len(axis.path) == 3
            and axis.path[1] not in (planned.cell.policy, planned.cell.learner)
        ]
        own = {key: value for key, value in planned.settings.items() if key not in foreign}
        digest = config_hash(config_as_dict(planned.config))
        first = seen.get(digest)
        if first is None:
            seen[digest] = dataclasses.replace(planned, settings=own)
            yield seen[digest]
        elif digest in earlier or first.settings != own or not foreign:
            raise UsageError(
                f"{source}: two cells are the same experiment: {planned.cell.id} with "
                f"{first.settings} and with {own}; every value must make a cell of its own"
            )


def _check_labels(cells: Sequence[PlannedCell], source: str) -> None:
    """Refuse two task distributions that tables would call the same."""
    names: dict[str, str] = {}
    for planned in cells:
        label, name = planned.config.label, planned.config.task_dist
        if names.setdefault(label, name) != name:
            raise UsageError(
                f"{source}: {names[label]} and {name} would both be called {label}: give one "
                "another label, as LABEL=NAME"
            )


def _check_asha(tune: TuneConfig, cells: Sequence[PlannedCell], source: str) -> None:
    dists = sorted({planned.cell.task_dist for planned in cells})
    if tune.scheduler == "asha" and len(dists) > 1:
        raise UsageError(
            f"{source}: asha compares the returns of all cells, and those of {', '.join(dists)} "
            "have no common scale; make a sweep for each"
        )


def _validated(planned: PlannedCell, tune: TuneConfig, source: str) -> PlannedCell:
    """Return the cell with scorings on validation tasks at every rung, unless it says when."""
    config = planned.config
    if not open_distribution(config.task_dist, config.env).tasks("validation"):
        raise UsageError(
            f"{source}: asha compares returns on validation tasks, and {config.label} has none: "
            "set tune.metric to post_return"
        )
    assert tune.grace_env_steps is not None  # asha needs it
    if isinstance(config.execution.eval_every, int):
        return planned
    execution = dataclasses.replace(config.execution, eval_every=tune.grace_env_steps)
    return dataclasses.replace(
        planned,
        config=dataclasses.replace(config, execution=execution),
    )


def named(cells: Sequence[PlannedCell]) -> tuple[PlannedCell, ...]:
    """Return the cells with unique keys, usable as names of folders."""
    keys = [_key(planned) for planned in cells]
    often = Counter(keys)
    named = []
    for planned, key in zip(cells, keys, strict=True):
        if often[key] > 1 or not NAME.fullmatch(key):
            # Names of folders have 128 characters at most.
            key = f"{planned.cell.id[:115]}.{config_hash(config_as_dict(planned.config))[:12]}"
        named.append(dataclasses.replace(planned, key=key))
    return tuple(named)


def _key(planned: PlannedCell) -> str:
    parts = [
        f"{name.rpartition('.')[2]}-{_readable(value)}" for name, value in planned.settings.items()
    ]
    return ".".join([planned.cell.id, *parts])


def _readable(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")
