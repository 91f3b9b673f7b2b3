"""Whether settings make sense, asked before Ray or torch are imported.

Every complaint names where the value came from, the value, what is allowed and the remedy.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

import policies
import task_distributions
from harness.config import EnvConfig, EvaluateConfig, ExecutionConfig, RunConfig, UsageError
from harness.distributions import OPTIONS, open_distribution, takers
from harness.meta import learners
from harness.meta.learners.traits import traits
from harness.protocol import EVERY_TASK, PROTOCOLS, has_classes, with_classes
from task_distributions import Split, TaskDistribution

KeyPath = tuple[str, ...]
Origins = Mapping[KeyPath, str]
"""Path of keys -> how a message calls that setting: ``--epochs``, ``my.yaml:3: train.epochs``."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED_NAMES = ("published", "README.md")


def suggestion(value: str, allowed: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest allowed value, or nothing if none is near."""
    by_lower = {choice.lower(): choice for choice in allowed}
    near = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=0.55)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


def typed(settings: dict[str, Any], origins: Origins) -> RunConfig:
    """Build the configuration of a run from merged nested settings: keys and types only.

    Raises:
        UsageError: a key is unknown or a value is not of its type or range.
    """
    _check_keys(settings, RunConfig, (), origins)
    config: RunConfig = _build(RunConfig, settings, origins)
    return config


def check_run(config: RunConfig, origins: Origins) -> None:
    """Check a configuration against the registries, the task lists and itself.

    Raises:
        UsageError: a name or task does not exist, or values repeat or contradict each other.
    """
    _check_name(config.task_dist, "task_dist", task_distributions.names(), origins)
    for policy in config.policy:
        _check_name(policy, "policy", policies.names(), origins)
    for learner in config.learner:
        _check_name(learner, "learner", learners.names(), origins)
    for key in ("policy", "learner", "seed"):
        _refuse_duplicates(getattr(config, key), (key,), origins)
    _refuse_duplicates(config.evaluation.splits, ("evaluation", "splits"), origins)
    _check_adapter(config, origins)
    if config.train.outer == "trpo" and config.train.baseline == "value":
        raise UsageError(
            f"{_origin(('train', 'baseline'), origins)}: the trpo outer step fits no value head. "
            "Take --baseline linear, or --outer ppo"
        )
    _check_tasks(config, origins)
    _check_execution(config.execution, origins)


def _check_adapter(config: RunConfig, origins: Origins) -> None:
    """Refuse an adapter that the policy of a chosen learner cannot be scored with."""
    adapter = config.adapt.adapter
    for learner in config.learner:
        kind = traits(learner)
        fits = {"gradient": not (kind.context or kind.goal), "memory": kind.context}
        if not fits.get(adapter, True):
            needs = {
                "gradient": "a policy that is fed the observation alone",
                "memory": "a policy that is fed what happened before (--learner rl2)",
            }
            raise UsageError(
                f"{_origin(('adapt', 'adapter'), origins)}: {adapter!r} needs {needs[adapter]}, "
                f"and that of {learner!r} is not; leave it to auto"
            )


def evaluate_config(settings: dict[str, Any], origins: Origins) -> EvaluateConfig:
    """Build and check what ``evaluate`` was asked; the checkpoint itself is not opened.

    Raises:
        UsageError: the checkpoint is missing, a value not accepted, or values contradict.
    """
    if "checkpoint" not in settings:
        raise UsageError("--checkpoint is missing: name the checkpoint to score")
    config: EvaluateConfig = _build(EvaluateConfig, settings, origins)
    if not config.checkpoint.exists():
        raise UsageError(
            f"--checkpoint: {str(config.checkpoint)!r} does not exist; "
            "checkpoints lie in results/<run>/checkpoints/"
        )
    if config.test_tasks is not None:
        _refuse_duplicates(config.test_tasks, ("test_tasks",), origins)
    _check_execution(config.execution, origins)
    return config


def check_task_indices(
    dist: TaskDistribution,
    split: Split,
    indices: Sequence[int],
    origin: str,
) -> None:
    """Refuse indices beyond the fixed list of ``split``; ``origin`` is what the message names."""
    count = len(dist.tasks(split))
    for index in indices:
        if not 0 <= index < count:
            raise UsageError(
                f"{origin}: {dist.name} has no {split} task {index}; "
                f"have: 0 to {count - 1} ({count} {split} tasks)"
            )


def _build(cls: type, settings: dict[str, Any], origins: Origins) -> Any:
    """Validate settings strictly, turning pydantic's first error into one readable line."""
    try:
        return TypeAdapter(cls).validate_json(json.dumps(settings, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        keys = tuple(str(key) for key in first["loc"] if not isinstance(key, int))
        path = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in origins), keys)
        message = first["msg"].replace("Input should be", "must be")
        hint = ""
        if first["type"] == "tuple_type":
            message, hint = "must be a list", f"; write [{first['input']}]"
        elif first["type"] == "too_short":
            message = "needs at least one value"
        value = json.dumps(first["input"], default=str)
        raise UsageError(f"{_origin(path, origins)}: got {value}: {message}{hint}") from error


def _check_keys(settings: dict[str, Any], cls: type, path: KeyPath, origins: Origins) -> None:
    """Refuse keys that ``cls`` does not have, saying where the nearest known one lives."""
    known = _sections(cls)
    for key, value in settings.items():
        origin = _origin((*path, key), origins)
        if key not in known:
            hint = _home(key) or suggestion(key, known)
            raise UsageError(f"{origin}: unknown key {key!r}; have: {', '.join(known)}{hint}")
        section = known[key]
        if section is None:
            continue
        if not isinstance(value, dict):
            raise UsageError(
                f"{origin}: {key} is a section: write its settings indented below it "
                f"({', '.join(_sections(section))})"
            )
        _check_keys(value, section, (*path, key), origins)


def _sections(cls: type) -> dict[str, type | None]:
    """Return the fields of a configuration class; a section's class beside its name."""
    hints = typing.get_type_hints(cls)
    return {
        name: typing.cast(type, hint) if dataclasses.is_dataclass(hint) else None
        for name, hint in hints.items()
    }


def _home(key: str) -> str | None:
    """Return a hint where ``key`` is declared, if anywhere: a setting put in the wrong section."""
    top = _sections(RunConfig)
    if key in top:
        return f"; {key} belongs at the top level"
    for name, section in top.items():
        if section is not None and key in _sections(section):
            return f"; {key} belongs in section {name}"
    return None


def _check_name(value: str, key: str, allowed: Sequence[str], origins: Origins) -> None:
    if value not in allowed:
        raise UsageError(
            f"{_origin((key,), origins)}: unknown {key} {value!r}; "
            f"have: {', '.join(allowed)}{suggestion(value, allowed)}"
        )


def _refuse_duplicates(values: Sequence[object], path: KeyPath, origins: Origins) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UsageError(
                f"{_origin(path, origins)}: {value!r} is given twice; every value makes one cell "
                "or task of its own: give it once"
            )


def _check_tasks(config: RunConfig, origins: Origins) -> None:
    """Check task indices and options; opens the distribution (no torch, no Ray) for them only."""
    _check_options(config, origins)
    if config.env == EnvConfig() and config.evaluation.protocol == EVERY_TASK:
        return
    try:
        dist = open_distribution(config.task_dist, config.env)
    except ValueError as error:
        given = [key for key in OPTIONS if getattr(config.env, key) is not None]
        named = ", ".join(_origin(("env", key), origins) for key in given)
        raise UsageError(f"{named}: {error}") from error
    _check_protocol(config, dist, origins)
    for split in task_distributions.SPLITS:
        path = ("env", f"{split}_tasks")
        indices = getattr(config.env, path[1])
        if indices is not None:
            _refuse_duplicates(indices, path, origins)
            check_task_indices(dist, split, indices, _origin(path, origins))


def _check_protocol(config: RunConfig, dist: TaskDistribution, origins: Origins) -> None:
    """Refuse a protocol where there are no classes, or beside settings that it fixes."""
    name, evaluation = config.evaluation.protocol, config.evaluation
    if name == EVERY_TASK:
        return
    origin = _origin(("evaluation", "protocol"), origins)
    if not has_classes(dist):
        raise UsageError(
            f"{origin}: {name!r} counts goals of classes, and {dist.name} has none; it is for "
            f"{' and '.join(with_classes())}. Leave it out"
        )
    if config.env.test_tasks is not None:
        tasks = _origin(("env", "test_tasks"), origins)
        raise UsageError(f"{tasks} and {origin} {name} contradict each other: give one")
    for key, value in PROTOCOLS[name].fixed.items():
        if getattr(evaluation, key) != value:
            raise UsageError(
                f"{_origin(('evaluation', key), origins)}: got {getattr(evaluation, key)}, but the "
                f"{name} protocol takes {value}: leave it out, or take --protocol quick or all"
            )


def _check_options(config: RunConfig, origins: Origins) -> None:
    """Refuse an option that the distribution does not take."""
    taken = None
    for setting, keyword in OPTIONS.items():
        if getattr(config.env, setting) is None:
            continue
        taken = taken or task_distributions.options(config.task_dist)
        if keyword not in taken:
            raise UsageError(
                f"{_origin(('env', setting), origins)}: {config.task_dist} has no such option; "
                f"it is for {' and '.join(takers(setting))}. Leave it out"
            )


def _check_execution(execution: ExecutionConfig, origins: Origins) -> None:
    name, origin = execution.name, _origin(("execution", "name"), origins)
    if name is not None and (not _PLAIN_NAME.fullmatch(name) or name in _RESERVED_NAMES):
        raise UsageError(
            f"{origin}: {name!r} is not a run name; allowed: letters, digits, '.', '_', '-', "
            f"starting with a letter or digit, no folders, not {' or '.join(_RESERVED_NAMES)}"
        )
    if execution.resume and name is None:
        raise UsageError(
            f"{_origin(('execution', 'resume'), origins)}: which run? "
            "Add --name NAME, a folder below results/"
        )
    if execution.address is not None and execution.backend == "local":
        raise UsageError(
            f"{_origin(('execution', 'address'), origins)}: {execution.address!r} is a Ray "
            "cluster, but --backend local runs without Ray: drop one of them"
        )


def _origin(path: KeyPath, origins: Origins) -> str:
    return origins.get(path, ".".join(path))
