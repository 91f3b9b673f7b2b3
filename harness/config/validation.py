"""Whether settings make sense, asked before Ray or torch are imported.

Every complaint names where the value came from, the value, what is allowed and the remedy.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

import policies
import task_distributions
from harness.config.schema import REPLAY, EvaluateConfig, ExecutionConfig, RunConfig
from harness.config.task_checks import KeyPath, Origins, check_tasks, origin_of, refuse_duplicates
from harness.errors import UsageError
from harness.meta import learners
from harness.meta.learners.traits import traits

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
    config: RunConfig = built(RunConfig, settings, origins)
    return config


def built(cls: type, settings: dict[str, Any], origins: Origins) -> Any:
    """Build the configuration class ``cls`` from nested settings: keys and types only.

    Raises:
        UsageError: a key is unknown or a value is not of its type or range.
    """
    _check_keys(settings, cls, (), origins)
    return _build(cls, settings, origins)


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
        refuse_duplicates(getattr(config, key), (key,), origins)
    refuse_duplicates(config.evaluation.splits, ("evaluation", "splits"), origins)
    _check_adapter(config, origins)
    _check_context(config, origins)
    if config.train.outer == "trpo" and config.train.baseline == "value":
        raise UsageError(
            f"{origin_of(('train', 'baseline'), origins)}: the trpo outer step fits no value head. "
            "Take --baseline linear, or --outer ppo"
        )
    if not config.benchmark_mode:
        raise UsageError(
            f"{origin_of(('benchmark_mode',), origins)}: held-out tasks are always scored, that is "
            "what this program does: leave it out"
        )
    check_tasks(config, origins)
    _check_execution(config.execution, origins)


def _check_context(config: RunConfig, origins: Origins) -> None:
    """Refuse sequences that are longer than an iteration."""
    train, length = config.train, config.ppo.episodes_in_context
    batches = 1 + config.adapt.adaptation_steps
    most = min(config.ppo.ppo_episodes, train.meta_batch_size * train.episodes_per_task * batches)
    if length > most and any(traits(learner).context for learner in config.learner):
        origin = origin_of(("ppo", "episodes_in_context"), origins)
        raise UsageError(
            f"{origin}: {length} episodes do not fit an iteration of {most}; lower it, or raise "
            "--ppo-episodes or --episodes-per-task"
        )


def _check_adapter(config: RunConfig, origins: Origins) -> None:
    """Refuse an adapter that the policy of a chosen learner cannot be scored with."""
    adapter = config.adapt.adapter
    for name in REPLAY:
        if getattr(config.adapt, name) is not None and adapter != "hybrid":
            raise UsageError(
                f"{origin_of(('adapt', name), origins)}: acts with --adapter hybrid "
                "(--adaptation-mode hybrid) only: add that, or leave this out"
            )
    for learner in config.learner:
        kind = traits(learner)
        fits = {
            "gradient": not (kind.context or kind.goal),
            "memory": kind.context,
            "memory+gradient": not kind.ppo,
            "hybrid": not (kind.context or kind.goal),
        }
        if not fits.get(adapter, True):
            needs = {
                "gradient": "a policy that is fed the observation alone",
                "memory": "a policy that is fed what happened before (--learner rl2)",
                "memory+gradient": "a policy trained to adapt by both (--learner maml)",
                "hybrid": "a policy that is fed the observation alone",
            }
            raise UsageError(
                f"{origin_of(('adapt', 'adapter'), origins)}: {adapter!r} needs {needs[adapter]}, "
                f"and that of {learner!r} is not; leave it to auto"
            )
    scored = config.evaluation
    if adapter == "memory+gradient" and scored.query_episodes > scored.episodes_per_shot:
        raise UsageError(
            f"{origin_of(('evaluation', 'query_episodes'), origins)}: every query episode goes on "
            f"from a support episode: give at most --episodes-per-shot ({scored.episodes_per_shot})"
        )


def evaluate_config(
    settings: dict[str, Any], origins: Origins, cls: type[EvaluateConfig] = EvaluateConfig
) -> EvaluateConfig:
    """Build and check what scoring was asked; the checkpoint itself is not opened.

    Raises:
        UsageError: the checkpoint is missing, a value not accepted, or values contradict.
    """
    if "checkpoint" not in settings:
        raise UsageError("--checkpoint is missing: name the checkpoint to score")
    config: EvaluateConfig = _build(cls, settings, origins)
    if config.task_dist is not None:
        _check_name(config.task_dist, "task_dist", task_distributions.names(), origins)
    if not config.checkpoint.exists():
        raise UsageError(
            f"--checkpoint: {str(config.checkpoint)!r} does not exist; "
            "checkpoints lie in results/<run>/checkpoints/"
        )
    if config.test_tasks is not None:
        refuse_duplicates(config.test_tasks, ("test_tasks",), origins)
    _check_execution(config.execution, origins)
    return config


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
        raise UsageError(f"{origin_of(path, origins)}: got {value}: {message}{hint}") from error


def _check_keys(settings: dict[str, Any], cls: type, path: KeyPath, origins: Origins) -> None:
    """Refuse keys that ``cls`` does not have, saying where the nearest known one lives."""
    known = _sections(cls)
    for key, value in settings.items():
        origin = origin_of((*path, key), origins)
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
            f"{origin_of((key,), origins)}: unknown {key} {value!r}; "
            f"have: {', '.join(allowed)}{suggestion(value, allowed)}"
        )


def _check_execution(execution: ExecutionConfig, origins: Origins) -> None:
    name, origin = execution.name, origin_of(("execution", "name"), origins)
    if name is not None and (not _PLAIN_NAME.fullmatch(name) or name in _RESERVED_NAMES):
        raise UsageError(
            f"{origin}: {name!r} is not a run name; allowed: letters, digits, '.', '_', '-', "
            f"starting with a letter or digit, no folders, not {' or '.join(_RESERVED_NAMES)}"
        )
    if execution.resume and name is None:
        raise UsageError(
            f"{origin_of(('execution', 'resume'), origins)}: which run? "
            "Add --name NAME, a folder below results/"
        )
    if execution.address is not None and execution.backend == "local":
        raise UsageError(
            f"{origin_of(('execution', 'address'), origins)}: {execution.address!r} is a Ray "
            "cluster, but --backend local runs without Ray: drop one of them"
        )
