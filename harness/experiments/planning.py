"""From settings to the plan of a run: its cells, tables, reference lines and shared trainings."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.config import aliases, plugins, validation
from harness.config.components import Component, fields
from harness.config.distributions import open_distribution
from harness.config.protocol import scored
from harness.config.schema import RunConfig, config_as_dict
from harness.config.sweep_file import PlannedCell, named
from harness.config.validation import config_from_dict
from harness.errors import ArtefactError, UsageError
from harness.execution import checkpoint, heldout
from harness.execution.cell_setup import planned_iterations
from harness.meta import learners
from harness.reporting.store.files import NAME
from harness.reporting.store.json_io import brief
from harness.reporting.store.manifest import (
    RUN_FILE,
    CellInfo,
    DistInfo,
    Manifest,
    changes_scoring,
    config_hash,
    relevant,
    varied,
)
from harness.reporting.store.provenance import elsewhere
from harness.types import REFERENCE, Cell
from metarl_plugins import split
from task_distributions import TaskDistribution

MAY_DIFFER = "single episodes may differ from those recorded there"
PRETRAINED = "pretrained-"
"""Prefix of the policy label of a checkpoint that is scored beside trained cells."""


def checkpoint_cell(path: Path, task_dist: str | None = None) -> tuple[Cell, RunConfig]:
    """Return the cell of a checkpoint, and its configuration for that cell alone.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
        UsageError: it was trained on another distribution than ``task_dist``.
    """
    saved = checkpoint.read(path)
    try:
        cell, stored = checkpoint.stored_cell(path, saved)
        config = stored.one_cell(cell.policy, cell.learner, cell.seed)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{path} does not name its cell: {error}") from error
    known = (cell.task_dist, split(config.task_dist)[1])
    if task_dist is not None and split(aliases.environment(task_dist))[1] not in known:
        raise UsageError(
            f"{path} was trained on {cell.task_dist}, not on {task_dist}: leave one of the two out"
        )
    return cell, config


def changed_components(path: Path) -> list[str]:
    """Return a sentence for each component from outside that has changed since a checkpoint."""
    stored = checkpoint.read(path).run.get("config")
    return plugins.changes(stored.get("plugins", {})) if isinstance(stored, dict) else []


def trained_elsewhere(path: Path) -> str:
    """Return how the machine that trained a checkpoint differs from this one, as a sentence.

    An empty text if it does not, or if neither the file nor a run around it says.

    Raises:
        CheckpointError: the file is not a whole checkpoint.
    """
    found = checkpoint.read(path).run.get("machine")
    if not isinstance(found, dict):
        runs = [parent for parent in path.resolve().parents[:4] if (parent / RUN_FILE).is_file()]
        if not runs:
            return ""
        manifest = Manifest.read(runs[0] / RUN_FILE)
        found = {"cpu": manifest.host.get("cpu"), "packages": manifest.packages}
    differs = elsewhere(found.get("cpu"), found.get("packages", {}))
    return f"{path} was trained elsewhere ({differs}): {MAY_DIFFER}" if differs else ""


def pretrained_cells(paths: Sequence[Path], config: RunConfig) -> list[PlannedCell]:
    """Return cells that score checkpoints as the cells of ``config`` are scored.

    Checkpoints that differ in their seeds alone share the row ``pretrained-POLICY``; others of the
    same policy and learner have ``pretrained-POLICY-2`` and so on.

    Raises:
        CheckpointError: a file is not a whole checkpoint.
        UsageError: one was trained on another distribution or on other settings of it, or cannot
            be scored so.
    """
    cells: list[PlannedCell] = []
    rows: dict[tuple[str, str], tuple[RunConfig, set[int]]] = {}
    for path in paths:
        named, stored = checkpoint_cell(path, config.task_dist)
        if stored.env != config.env:
            raise UsageError(
                f"--pretrained: {path} was trained with other settings of its distribution"
            )
        policy = f"{PRETRAINED}{named.policy}"
        own = dataclasses.replace(
            config,
            policy={policy: stored.policy[named.policy]},
            learner=stored.learner,
            adapter=stored.adapter,
            seed=(0,),
            train=stored.train,
        )
        validation.check(own, {})
        for number in itertools.count(1):
            label = policy if number == 1 else f"{policy}-{number}"
            first, seeds = rows.setdefault((label, named.learner), (own, set()))
            if label not in config.policy and first == own and named.seed not in seeds:
                break
        seeds.add(named.seed)
        cell = dataclasses.replace(named, task_dist=config.label, policy=label)
        own = dataclasses.replace(own, policy={label: own.policy[policy]}, seed=(cell.seed,))
        cells.append(PlannedCell(cell.id, cell, own, {}, {}, path.absolute()))
    return cells


def plan(
    planned: Sequence[PlannedCell],
    command: Sequence[str],
    given: Mapping[str, Any],
    scheduling: Mapping[str, Any],
) -> Manifest:
    """Return the manifest of a run of these cells."""
    infos = {cell.key: _info(cell) for cell in planned}
    tables: dict[str, DistInfo] = {}
    references: dict[str, CellInfo] = {}
    for cell in planned:
        info = infos[cell.key]
        if info.table not in tables:
            tables[info.table] = describe_distribution(cell.config)
            references[_reference_key(info)] = info.model_copy(update={"iterations": 0})
    return Manifest.create(
        command, infos, tables=tables, references=references, given=given, scheduling=scheduling
    )


def _info(planned: PlannedCell) -> CellInfo:
    config, cell = config_as_dict(recorded(planned.config)), planned.cell
    scoring = [(n, v) for n, v in varied(planned.settings) if changes_scoring(n)]
    shown = (f"{name.rpartition('.')[2]}={value}" for name, value in scoring)
    return CellInfo(
        task_dist=cell.task_dist,
        policy=cell.policy,
        learner=cell.learner,
        seed=cell.seed,
        settings=planned.settings,
        table=", ".join([cell.task_dist, *shown]),
        iterations=planned_iterations(cell, planned.config) if planned.trains else 0,
        checkpoint=str(planned.checkpoint or ""),
        observes_task=_observes_task(planned),
        config=config,
        config_hash=config_hash(config),
    )


def _observes_task(planned: PlannedCell) -> bool:
    parts = planned.config.learner.values()
    return any(learners.spec(part.kind).feeds_task for part in parts)


def recorded(config: RunConfig) -> RunConfig:
    """Return a cell's configuration with defaults that depend on its policy filled in.

    Another revision of the code with other defaults then continues the same experiment.
    """
    if config.agent:
        return config
    (policy,) = config.policy.values()
    ((label, learner),) = config.learner.items()
    resolve = getattr(learner.settings, "resolved_for", None)
    if resolve is None:
        return config
    resolved = Component(learner.kind, resolve(policy.kind))
    return dataclasses.replace(config, learner={label: resolved})


def _reference_key(info: CellInfo) -> str:
    """Return the name of the folder for the reference lines of a table."""
    words = info.table.partition(", ")[2].replace("=", "-").split(", ")
    key = ".".join(filter(None, [f"{info.task_dist}.{REFERENCE}.s{info.seed}", *words]))
    safe = re.sub(r"[^A-Za-z0-9._@-]", "-", key)
    if NAME.fullmatch(key) and safe == key:
        return key
    return f"{safe[:100]}.{config_hash({'table': info.table})[:12]}"


def describe_distribution(config: RunConfig) -> DistInfo:
    """Return a run's task distribution as tables cite it."""
    dist = open_distribution(config.task_dist, config.env)
    lines = {split: dist.non_adaptive_return(tasks) for split, tasks in scored(config).items()}
    if not all(math.isfinite(line) for line in lines.values() if line is not None):
        raise UsageError(f"{config.task_dist}: its non_adaptive_return is not finite")
    known: dict[str, dict[str, float]] = {
        split: {"non-adaptive": line} for split, line in lines.items() if line is not None
    }
    return DistInfo(
        name=config.label,
        version=dist.version,
        protocol=dist.protocol,
        references=known.pop("test", {}),
        other_references=known,
        eval_line=_eval_line(dist, config),
        has_success=dist.spec.has_success,
    )


def _eval_line(dist: TaskDistribution, config: RunConfig) -> float | None:
    """Return ``non-adaptive`` on the tasks that are scored while training, if there are any."""
    tasks = dist.tasks("validation")
    if config.execution.eval_every == "never" or not tasks:
        return None
    chosen = heldout.tasks_of(dist, config.execution.eval_tasks)
    return dist.non_adaptive_return([tasks[index] for index in chosen])


def cells_of(manifest: Manifest, execution: Mapping[str, Any]) -> list[PlannedCell]:
    """Return the cells of a stored run, with other execution settings where given.

    Raises:
        ArtefactError: a configuration is not one of this version.
    """
    found = []
    for key, info in manifest.cells.items():
        try:
            config = config_from_dict(info.config)
        except ValueError as error:
            raise ArtefactError(
                f"cell {key}: not a valid configuration ({brief(error)})"
            ) from error
        changed = dataclasses.replace(config.execution, **execution)
        own = dataclasses.replace(config, execution=changed)
        source = Path(info.checkpoint) if info.checkpoint else None
        found.append(PlannedCell(key, info.cell, own, {}, info.settings, source))
    return found


def completed(stored: Manifest) -> Manifest:
    """Return a stored run whose cells have the settings that are newer than it, at their defaults.

    The default of a new setting is what the code did before it.
    """
    cells = {}
    for planned in cells_of(stored, {}):
        config = config_as_dict(recorded(planned.config))
        more = {"config": config, "config_hash": config_hash(config)}
        cells[planned.key] = stored.cells[planned.key].model_copy(update=more)
    return stored.model_copy(update={"cells": cells})


def extended(
    planned: Sequence[PlannedCell], seeds: Sequence[int], budget: Mapping[str, Any]
) -> list[PlannedCell]:
    """Return the cells of a run with ``budget``, and each of them for every one of ``seeds``.

    Args:
        planned: the run's cells.
        seeds: those that a cell has already are not added again.
        budget: settings of section ``train``; empty to keep theirs.

    Raises:
        UsageError: nothing in the run trains, or an agent was given in Python.
    """
    cells = [_with_budget(cell, budget) for cell in planned]
    if budget and cells == list(planned) and not any(map(_learns, planned)):
        raise UsageError("cannot train on: nothing in this run trains")
    experiments: dict[str, dict[int, PlannedCell]] = {}
    for cell in cells:
        if cell.checkpoint is None:
            own = config_as_dict(dataclasses.replace(cell.config, seed=(0,)))
            experiments.setdefault(config_hash(own), {})[cell.cell.seed] = cell
    for seed in dict.fromkeys(seeds):
        cells += [
            _with_seed(next(iter(known.values())), seed)
            for known in experiments.values()
            if seed not in known
        ]
    return [*cells[: len(planned)], *named(cells)[len(planned) :]]


def _with_seed(cell: PlannedCell, seed: int) -> PlannedCell:
    if any(part.kind == "object" for part in cell.config.agent.values()):
        raise UsageError(
            f"cannot add seeds: {cell.cell.policy} was given in Python: score it from there again"
        )
    config = dataclasses.replace(cell.config, seed=(seed,))
    return dataclasses.replace(cell, cell=dataclasses.replace(cell.cell, seed=seed), config=config)


def _learns(cell: PlannedCell) -> bool:
    parts = cell.config.learner.values()
    return cell.trains and all(learners.spec(part.kind).trains for part in parts)


def _with_budget(cell: PlannedCell, budget: Mapping[str, Any]) -> PlannedCell:
    if not budget or not _learns(cell):
        return cell
    train = dataclasses.replace(cell.config.train, **budget)
    return dataclasses.replace(cell, config=dataclasses.replace(cell.config, train=train))


def trained_longer(stored: Manifest, planned: Sequence[PlannedCell]) -> list[str]:
    """Return the keys of the cells that differ from those stored by a larger budget alone.

    Raises:
        UsageError: the budget is smaller, or a cell cannot train on beyond its own.
    """
    found = []
    for cell in planned:
        before = stored.cells.get(cell.key)
        own = config_as_dict(recorded(cell.config))
        if before is None or not cell.trains or own["train"] == before.config["train"]:
            continue
        if _without_budget(own) != _without_budget(before.config):
            continue
        (part,) = cell.config.learner.values()
        if reason := learners.spec(part.kind).tied_to_budget:
            raise UsageError(
                f"cannot train on: {cell.key}: {reason}. Start a new run with another --name"
            )
        now = planned_iterations(cell.cell, cell.config)
        if now < before.iterations:
            raise UsageError(
                f"cannot train on: {cell.key} was to train for {before.iterations} iterations "
                f"already, and this budget has {now}: give a larger one"
            )
        found.append(cell.key)
    return found


def _without_budget(config: Mapping[str, Any]) -> dict[str, Any]:
    budget = dict.fromkeys(("env_steps", "meta_iterations"))
    return relevant({**config, "train": {**config["train"], **budget}})


def shared_training(planned: Mapping[str, PlannedCell]) -> dict[str, str]:
    """Return cell -> the cell whose training is the same to the last bit, both by key.

    finetune is multitask with another scoring, so it takes over the weights of its multitask.
    """
    shared = {}
    for key, cell in planned.items():
        if not cell.config.learner:  # an agent
            continue
        part = cell.config.learner[cell.cell.learner]
        kind = learners.spec(part.kind).shared_training
        if kind is None:
            continue
        cls = learners.spec(kind).settings
        settings = cls(**{name: getattr(part.settings, name) for name in fields(cls)})
        same = Component(kind, settings)
        for other_key, other in planned.items():
            if dataclasses.replace(cell.config, learner={other.cell.learner: same}) == other.config:
                shared[key] = other_key
    return shared


def write_cell_config(path: Path, config: RunConfig) -> None:
    """Write every setting of a cell that changes a number, as ``harness.run --config`` reads it.

    The settings as given would not do, because defaults and presets differ in other revisions.
    """
    settings = relevant(config_as_dict(recorded(config)))
    settings.pop("plugins", None)  # run.json holds where they came from
    # Both keys are always present in a resolved configuration, and giving both is refused.
    unused = "few_shot" if settings["evaluation"]["zero_shot"] else "zero_shot"
    del settings["evaluation"][unused]
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
