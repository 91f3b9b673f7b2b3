"""The command line: ``argv`` in, one checked configuration out.

Layers of settings are laid over each other (layers.py), the command line on top.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import tyro

from harness.cli import commands, flags
from harness.cli.commands import ADAPT, EVALUATE, EXPORT, PROG, TRAIN
from harness.config import aliases, precedence, strict_yaml, validation
from harness.config.adapt import AdaptCommandConfig
from harness.config.schema import EvaluateConfig, RunConfig
from harness.errors import UsageError

__all__ = ["PROG", "TRAIN", "Invocation", "load_config", "parse"]

KeyPath = tuple[str, ...]
WORDS = ("train", "eval", "evaluate", "adapt", "export")


@dataclasses.dataclass(frozen=True, slots=True)
class Invocation:
    """What the user asked for."""

    config: RunConfig | EvaluateConfig | commands.ExportConfig
    """Everything resolved and checked."""
    given: dict[str, Any]
    """Only what the YAML file and the flags said, nested as in the configuration."""


def parse(argv: Sequence[str]) -> Invocation:
    """Read the command line of ``python -m harness.run``: a run, or one of its other commands.

    Raises:
        UsageError: bad input, named with the choices and the remedy.
        SystemExit: help was asked for (0), or a value is not of its flag's type (2).
    """
    word = argv[0] if argv and not argv[0].startswith("-") else ""
    if word and word not in WORDS:
        hint = validation.suggestion(word, WORDS)
        raise UsageError(f"unknown command {word!r}; have: {', '.join(WORDS)}, or none{hint}")
    rest = argv[1:] if word else argv
    if word in ("eval", "evaluate"):
        return _parse_evaluate(rest, zero_shot=word == "eval")
    if word == "adapt":
        return _parse_adapt(rest)
    if word == "export":
        return _parse_export(rest)
    return _parse_run(rest, aliases.TRAIN_ONE if word else {})


def parse_run(argv: Sequence[str]) -> Invocation:
    """Read the flags of a run, without a command before them."""
    return _parse_run(argv, {})


def load_config(argv: Sequence[str]) -> RunConfig:
    """Return the checked configuration of a run (never of another command)."""
    return cast(RunConfig, _parse_run(argv, {}).config)


def _parse_run(argv: Sequence[str], word: Mapping[str, Any]) -> Invocation:
    given = flags.given(TRAIN, argv)
    document = _document(argv)
    origins: dict[KeyPath, str] = dict(precedence.ENVIRONMENT)
    origins |= {path: f"{line}: {'.'.join(path)}" for path, line in document.lines.items()}
    below = precedence.merged(precedence.below(_asked(document.values, argv)), word)
    mode = flags.value_of(argv, "--mode")
    if mode is not None:
        below = precedence.merged(below, aliases.mode(mode))
    base = precedence.merged(below, precedence.settle_shots(document.values, origins))
    parsed = flags.read(TRAIN, argv, validation.typed(base, origins))
    origins |= given
    explicit = precedence.settle_shots(_only(parsed, given), origins)
    mode_told = commands.adaptation_mode(parsed, given)
    if mode_told:
        explicit = precedence.merged(explicit, mode_told)
        origins["adapt", "adapter"] = given[("adaptation_mode",)]
    typed = validation.typed(precedence.merged(base, explicit), origins)
    short = {path[0]: parsed[path[0]] for path in given if path[0] in commands.SHORT}
    told = commands.spelt_out(short, typed, given)
    explicit = precedence.merged(explicit, told)
    origins |= {path: origins[(name,)] for name in short for path in commands.SHORT[name]}
    config = validation.typed(precedence.merged(base, explicit), origins)
    validation.check_run(config, origins)
    return Invocation(config, precedence.merged(document.values, explicit))


def _document(argv: Sequence[str]) -> strict_yaml.Document:
    """Return the file that ``--config`` names; nothing without."""
    name = flags.value_of(argv, "--config")
    if name is None:
        return strict_yaml.Document({}, {})
    document = strict_yaml.read(aliases.config_file(name))
    if "task_dist" in document.values:
        document.values["task_dist"] = aliases.environment(document.values["task_dist"])
    return document


def _parse_evaluate(argv: Sequence[str], *, zero_shot: bool) -> Invocation:
    given, explicit = _scoring(EVALUATE, argv)
    if zero_shot and not explicit.keys() & {"few_shot", "zero_shot"}:
        explicit["zero_shot"] = True
    return Invocation(validation.evaluate_config(explicit, given), explicit)


def _parse_adapt(argv: Sequence[str]) -> Invocation:
    given, explicit = _scoring(ADAPT, argv)
    few = explicit.pop("few_shot", None)
    explicit.pop("zero_shot", None)
    if few and "adapt_steps" not in explicit:
        explicit["adapt_steps"] = max(few)
    config = validation.evaluate_config(explicit, given, AdaptCommandConfig)
    assert isinstance(config, AdaptCommandConfig)
    config.check()
    return Invocation(config, explicit)


def _scoring(
    command: flags.Command, argv: Sequence[str]
) -> tuple[dict[KeyPath, str], dict[str, Any]]:
    """Return the flags given, and the settings that they and a file give to scoring."""
    given = flags.given(command, argv)
    explicit = _only(flags.read(command, argv, tyro.MISSING_NONPROP), given)
    origins = {("evaluation", *path): given[path] for path in given}
    precedence.settle_shots({"evaluation": explicit}, origins)
    document = _document(argv)
    lines = {path: f"{line}: {'.'.join(path)}" for path, line in document.lines.items()}
    validation.typed(document.values, lines)
    precedence.settle_shots(document.values, lines)
    known = {field.name for field in dataclasses.fields(command.cls)} - {"execution"}
    env, scoring = (dict(document.values.get(key, {})) for key in ("env", "evaluation"))
    named = {key: document.values[key] for key in ("task_dist",) if key in document.values}
    below = {key: value for key, value in {**env, **scoring, **named}.items() if key in known}
    if explicit.keys() & {"few_shot", "zero_shot"}:
        below = {key: below[key] for key in below.keys() - {"few_shot", "zero_shot"}}
    return given, below | explicit


def _parse_export(argv: Sequence[str]) -> Invocation:
    given = flags.given(EXPORT, argv)
    explicit = _only(flags.read(EXPORT, argv, tyro.MISSING_NONPROP), given)
    return Invocation(commands.export_config(explicit, given), explicit)


def _asked(document: Mapping[str, Any], argv: Sequence[str]) -> precedence.Asked:
    """Return what decides about the lower layers: flags win over the file."""
    spelt = flags.paths(TRAIN)
    told: dict[str, Any] = {}
    for field in dataclasses.fields(precedence.Asked):
        names = [flag for flag, path in spelt.items() if path[-1] == field.name]
        values = [value for flag in names if (value := flags.value_of(argv, flag)) is not None]
        if values:
            told[field.name] = aliases.environment(values[0])
    return dataclasses.replace(precedence.Asked.in_settings(document), **told)


def _only(values: Mapping[str, Any], given: Mapping[KeyPath, str]) -> dict[str, Any]:
    """Return the given paths of nested ``values``, without flags that are no settings."""
    chosen: dict[str, Any] = {}
    for path in given:
        if path[0] in commands.NO_SETTINGS:
            continue
        source, target = values, chosen
        for key in path[:-1]:
            source, target = source[key], target.setdefault(key, {})
        value = source[path[-1]]
        target[path[-1]] = str(value) if isinstance(value, Path) else value
    if "task_dist" in chosen:
        chosen["task_dist"] = aliases.environment(chosen["task_dist"])
    return chosen
