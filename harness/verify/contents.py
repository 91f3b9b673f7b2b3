"""Checks that need no replay: the folder against itself, and against what the protocol plays."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from harness.config import precedence, strict_yaml, sweep_file
from harness.config.distributions import open_distribution
from harness.config.protocol import scored
from harness.config.schema import RunConfig, config_as_dict
from harness.errors import HarnessError
from harness.execution import checkpoint, scoring
from harness.execution.cell_setup import build_setup
from harness.experiments.planning import checkpoint_cell, describe_distribution, recorded
from harness.experiments.publishing import models_of
from harness.meta import learners
from harness.meta.learners.critic import acting_params
from harness.reporting.rebuild import rebuilt_texts
from harness.reporting.store.checksums import SUMS_FILE, changed_files
from harness.reporting.store.manifest import CELLS_DIR, CellInfo, Manifest, config_hash
from harness.reporting.store.records import read_events
from harness.reporting.store.schema import REWARDS
from harness.types import AGENT, REFERENCE_LINES, TASK_SHOWN
from harness.verify.findings import Findings
from harness.verify.opening import OpenCell, changed_models
from metarl_plugins import PluginError
from policies.params import num_params
from task_distributions import TaskDistribution

EPISODE = ("policy", "split", "task_index", "task", "shots", "query_episode")
"""Columns of records that the protocol fixes."""
AGENT_ADAPTERS = (
    *("none", "memory", "adapt"),
    *(TASK_SHOWN, f"{TASK_SHOWN}, memory", f"{TASK_SHOWN}, adapt"),
)
PLACES = ("execution", "pretrained")
"""Sections of settings whose paths name no code."""
ROUNDING = 1e-4
"""Largest share of an episode's absolute rewards by which its return may miss their sum."""


# --- the folder ----------------------------------------------------------------------------------


def check_folder(folder: Path, manifest: Manifest, found: Findings, *, run_code: bool) -> None:
    """Check checksums, tables, the plan of cells and what else lies in the folder.

    Without ``run_code``, settings that may name code are not read.
    """
    changed = changed_files(folder)
    if changed is None:
        found.unverified.append(f"checksums: there is no {SUMS_FILE}; harness.publish writes one")
    else:
        found.compare("every file has the sha256 that it was published with", changed)
    found.compare("tables and report are those of the records", list(_tables(folder)))
    settings = {key: value for key, value in manifest.given.items() if key not in PLACES}
    planned = planned_keys(manifest) if run_code or not _names_code(settings) else set()
    missing = [
        f"{key} was planned, and is not in the run" for key in planned - manifest.cells.keys()
    ]
    missing += list(_strangers(folder, manifest))
    if planned or missing:
        found.compare("the cells are those that were planned", sorted(missing))
    if not planned:
        found.unverified.append("the list of cells: the run's settings do not give it here")
    if manifest.git is None:
        found.unverified.append("the code that ran: its git revision is unknown")
    elif manifest.git.dirty:
        found.unverified.append("the code that ran: it differed from its git revision")


def _tables(folder: Path) -> Iterator[str]:
    """Yield which tables are not those of the records."""
    for name, text in rebuilt_texts(folder).items():
        path = folder / name
        stored = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if _unplaced(stored) != _unplaced(text):
            yield f"{name} is not what its records give; harness.tables rebuilds it"


def _unplaced(text: str) -> str:
    """Return a table without the place of its folder, which commands to play cells again name."""
    place = r"--config (?:'[^'\n]*?cells/([^'\n]*)'|\S*?cells/(\S*))"
    return re.sub(place, lambda found: f"--config cells/{found[1] or found[2]}", text)


def planned_keys(manifest: Manifest) -> set[str]:
    """Return the keys of the cells that the settings as given ask for; none if that is unknown."""
    given = dict(manifest.given)
    if "harness.rllib" in manifest.command[:3] or "checkpoint" in given or not given:
        return set()
    try:
        for label, part in (given.get("agent") or {}).items():
            known = [info for info in manifest.cells.values() if info.policy == label]
            lost = {name for info in known for name in _model_settings(info, label)}
            own = {name: value for name, value in part.items() if name not in lost}
            given["agent"] = {**given["agent"], label: own}
        if given.keys() <= set(sweep_file.SECTIONS):
            text = yaml.safe_dump(given, sort_keys=False)
            cells = list(sweep_file.expand(strict_yaml.parse(text, "run.json"), "run.json").cells)
        else:
            cells = sweep_file.planned_cells(precedence.resolve(given), given)
    except (HarnessError, PluginError, ValueError, TypeError, AttributeError):
        return set()
    return {cell.key for cell in cells}


def _names_code(given: Any) -> bool:
    """Return whether settings may name a file or a module: ``place:factory``, or a path."""
    if isinstance(given, Mapping):
        return any(map(_names_code, (*given.keys(), *given.values())))
    if isinstance(given, list):
        return any(map(_names_code, given))
    return isinstance(given, str) and (":" in given or "/" in given or given.endswith(".py"))


def _model_settings(info: CellInfo, label: str) -> list[str]:
    """Return the settings of an agent that name a model."""
    part = info.config.get("agent", {}).get(label, {})
    return [name for name, value in part.items() if value in models_of(info)]


def unfinished(manifest: Manifest) -> Iterator[str]:
    """Yield which cells have no result."""
    for key, info in manifest.entries.items():
        if info.status in ("pending", "running"):
            yield f"{key} was planned, and has no result ({info.status})"


def _strangers(folder: Path, manifest: Manifest) -> Iterator[str]:
    for path in sorted((folder / CELLS_DIR).glob("*")):
        if path.name not in manifest.entries:
            yield f"{CELLS_DIR}/{path.name} is no cell of the run"
    for event in read_events(folder):
        key = event.get("cell")
        if isinstance(key, str) and key not in manifest.entries:
            yield f"events.jsonl has {event.get('kind')} of {key[:130]!r}, which is not in the run"


# --- what the code of today plays ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What the protocol plays of a cell."""

    cell: OpenCell
    config: RunConfig

    @cached_property
    def dist(self) -> TaskDistribution:
        """The distribution of the cell."""
        return open_distribution(self.config.task_dist, self.config.env)

    @cached_property
    def setup(self) -> Any:
        """The ``CellSetup``, of a cell with a policy of ours."""
        return build_setup(self.cell.info.cell, self.config)

    def query_episodes(self) -> dict[str, int]:
        """Return the query episodes of a task, by the name of the row."""
        evaluation, spec = self.config.evaluation, self.dist.spec
        if self.cell.reference:
            zero, random = REFERENCE_LINES
            once = 1 if spec.fixed_start else evaluation.query_episodes
            return {zero: once, random: evaluation.query_episodes}
        if self.cell.kind == AGENT:
            return {self.cell.info.policy: evaluation.query_episodes}
        adapter = self.setup.scoring_adapter()
        return {self.cell.info.policy: scoring.query_episodes(spec, evaluation, adapter)}

    def episodes(self) -> set[tuple[Any, ...]]:
        """Return the scored episodes, in the columns ``EPISODE``."""
        shots = (0,) if self.cell.reference else self.config.evaluation.shots
        return {
            (row, split, task.index, task.name, count, episode)
            for row, episodes in self.query_episodes().items()
            for split, tasks in scored(self.config).items()
            for task in tasks
            for count in shots
            for episode in range(episodes)
        }


def check_table(info: CellInfo, config: RunConfig, manifest: Manifest) -> list[str]:
    """Return how the distribution that a table cites differs from the one of this code."""
    then, now = manifest.tables[info.table], describe_distribution(config)
    problems = [
        f"{name} of {then.name} is {getattr(then, name)!r}, and {getattr(now, name)!r} in this code"
        for name in ("name", "version", "protocol", "has_success")
        if getattr(then, name) != getattr(now, name)
    ]
    lines = {"test": now.references, **now.other_references}
    stored = {"test": then.references, **then.other_references}
    if not _close(lines, stored):
        problems.append(f"reference lines of {then.name} are {stored}, and {lines} in this code")
    return problems


def _close(a: Mapping[str, Mapping[str, float]], b: Mapping[str, Mapping[str, float]]) -> bool:
    flat = [{(s, n): v for s, lines in x.items() for n, v in lines.items()} for x in (a, b)]
    return flat[0].keys() == flat[1].keys() and all(
        math.isclose(flat[0][key], flat[1][key], rel_tol=1e-9) for key in flat[0]
    )


def scored_alike(cells: Mapping[str, OpenCell]) -> Iterator[str]:
    """Yield which cells are not scored like the first one of their table."""
    first: dict[str, OpenCell] = {}
    for key, cell in cells.items():
        other = first.setdefault(cell.info.table, cell)
        for name in ("task_dist", "env", "evaluation", "test_tasks"):
            a, b = (each.info.config.get(name) for each in (other, cell))
            if a != b:
                yield f"{key} and {other.key} share a table, but differ in {name}"


# --- one cell ------------------------------------------------------------------------------------


def check_cell(cell: OpenCell, found: Findings) -> None:
    """Check the configuration, the records, the curve and the model of a cell."""
    if cell.wrong:
        found.wrong.append(cell.wrong)
        return
    if cell.info.status in ("failed", "stopped"):
        found.unverified.append(f"it is {cell.info.status}: {cell.info.reason}")
        return
    if cell.info.status != "ok" or not cell.folder.records.is_file():
        if cell.info.status == "ok":
            found.wrong.append("it is complete, and has no records")
        return
    records = cell.folder.read_records().to_pandas()
    if cell.config is None:
        found.unverified.append(f"records and settings: {cell.obstacle}")
    else:
        try:
            expectation = Expectation(cell, cell.config)
            found.compare(
                f"{len(records)} records are the episodes that the protocol plays",
                list(_record_problems(expectation, records)),
            )
        except (HarnessError, ImportError, PluginError) as error:
            found.unverified.append(f"records and settings: {error}")
    found.wrong += changed_models(cell.folder.path.parents[1], cell.info)
    if cell.kind == "policy" and cell.config is not None:
        _check_training(cell, cell.config, records, found)
    if cell.kind == AGENT:
        found.unverified.append("its training, and what it says of its size and training")


def _record_problems(expected: Expectation, records: pd.DataFrame) -> Iterator[str]:
    spec = expected.dist.spec
    due = expected.episodes()
    present = set(records[list(EPISODE)].itertuples(index=False, name=None))
    for name, rows in (("missing", due - present), ("not part of the protocol", present - due)):
        if rows:
            shown = ", ".join(f"{n} {v}" for n, v in zip(EPISODE, min(rows), strict=True))
            yield f"{len(rows)} episodes are {name}, such as {shown}"
    if set(records["dist_version"]) != {expected.dist.version}:
        yield (
            f"records are of version {sorted(set(records['dist_version']))} of "
            f"{expected.dist.name}, which is at {expected.dist.version}"
        )
    bounds = records["length_steps"].between(1, spec.horizon)
    if not bounds.all():
        yield f"{int((~bounds).sum())} episodes are longer than {spec.horizon} steps, or empty"
    if records["success"].any() and not spec.has_success:
        yield "episodes succeed, but these tasks have no success"
    yield from _constants(expected, records)
    apart = _apart_from_rewards(records, spec.horizon)
    if len(apart):
        task, shots = apart.iloc[0][["task", "shots"]]
        yield f"{len(apart)} returns are not the sum of rewards, such as {task}, {shots} shots"


def _constants(expected: Expectation, records: pd.DataFrame) -> Iterator[str]:
    """Yield which columns differ from what is fixed for the whole cell."""
    cell, found = expected.cell, set(records["adapter"])
    if cell.kind == "policy":
        adapter = expected.setup.scoring_adapter()
        if found != {adapter.name}:
            yield f"the adapter is {sorted(found)}, not {adapter.name}"
        steps = records["shots"] * adapter.steps_per_shot
        if (records["adaptation_steps"] != steps).any():
            yield "adaptation_steps are not those of the adapter"
    elif not found <= set(AGENT_ADAPTERS):
        yield f"the adapter is {sorted(found)}"
    for name in ("num_params", "train_env_steps"):
        if records[name].nunique() != 1:
            yield f"{name} differs between records"


def _apart_from_rewards(records: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Return the first episodes whose return is not the sum of their rewards."""
    first = records[(records["query_episode"] == 0) & ~records["invalid"]]
    parts = min(scoring.REWARD_PARTS, horizon)
    bounds = np.arange(parts + 1) * horizon // parts
    wrong = []
    for length, means, total in zip(
        first["length_steps"], first[REWARDS], first["return_"], strict=True
    ):
        steps = np.clip(length - bounds[:-1], 0, np.diff(bounds))
        steps = steps[steps > 0]
        sums = np.asarray(means, float) * steps if len(means) == len(steps) else np.array([np.inf])
        slack = ROUNDING * float(np.abs(sums).sum()) + 1e-6
        wrong.append(not abs(float(sums.sum()) - total) <= slack or not np.isfinite(sums).all())
    return first[wrong]


def _check_training(
    cell: OpenCell, config: RunConfig, records: pd.DataFrame, found: Findings
) -> None:
    """Check that curve, policy and records of a cell tell of the same training."""
    steps = int(records["train_env_steps"].max())
    problems: list[str] = []
    if cell.info.iterations:
        curve = cell.folder.read_curve()
        if not curve:
            problems.append("it has no curve of its training")
        elif (len(curve), steps) != (curve[-1].iteration, curve[-1].env_steps):
            problems.append(
                f"its curve ends after {len(curve)} iterations with {curve[-1].env_steps} "
                f"environment steps, and its records tell of {steps}"
            )
    if cell.model is None:
        if cell.info.iterations:
            found.unverified.append(f"its policy: {cell.obstacle}")
        found.wrong += problems
        return
    try:
        problems += _model_problems(cell, config, cell.model, records)
    except HarnessError as error:
        problems.append(str(error))
    found.compare("curve, policy and records tell of the same training", problems)


def _model_problems(
    cell: OpenCell, config: RunConfig, model: Path, records: pd.DataFrame
) -> Iterator[str]:
    if not cell.info.checkpoint:
        own, trained = checkpoint_cell(model)
        if own != cell.info.cell:
            yield f"{model.name} is the policy of {own.id}"
            return
        if config_hash(config_as_dict(recorded(trained))) != config_hash(
            config_as_dict(recorded(config))
        ):
            yield f"{model.name} was trained with other settings"
    setup = build_setup(cell.info.cell, config)
    snapshot = checkpoint.restore(model, learners.build(setup)).snapshot()
    told = {
        "train_env_steps": snapshot.env_steps,
        "num_params": num_params(acting_params(snapshot.params)),
    }
    for name, value in told.items():
        recorded_values = sorted(set(records[name]))
        if recorded_values != [value]:
            yield f"{name} is {value} by {model.name}, and {recorded_values} in the records"
