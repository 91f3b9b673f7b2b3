"""The command line: ``argv`` in, one checked configuration out.

Layers of settings are laid over each other (layers.py), the command line on top.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import tyro
from tyro.constructors import StructFieldSpec

from harness import flags, layers, strict_yaml, validation
from harness.config import EvaluateConfig, RunConfig, UsageError

KeyPath = tuple[str, ...]
PROG = "python -m harness.run"
CONFIG_FLAG = StructFieldSpec(
    name="config",
    type=cast(type, Annotated[Path, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]),
    default=Path(),
    helptext="YAML file of settings, in sections as below; flags win over it.",
)
TRAIN = flags.Command(
    RunConfig,
    PROG,
    f"""examples:
  {PROG} --task-dist ant-vel --few-shot 1 5 10 --preset smoke
  {PROG} evaluate --checkpoint PATH --few-shot 1 5

Meta-train policies on tasks; compare them before and after adaptation.

What wins: default < --preset < task-dist's recipe < --config FILE < flags.""",
    extra=(CONFIG_FLAG,),
)
EVALUATE = flags.Command(
    EvaluateConfig,
    f"{PROG} evaluate",
    f"""examples:
  {PROG} evaluate --checkpoint PATH
  {PROG} evaluate --checkpoint PATH --test-tasks 3 4

Score one checkpoint alone; settings not given are the checkpoint's own.""",
    omit=("resume", "checkpoint_every"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Invocation:
    """What the user asked for."""

    config: RunConfig | EvaluateConfig
    """Everything resolved and checked."""
    given: dict[str, Any]
    """Only what the YAML file and the flags said, nested as in the configuration."""


def parse(argv: Sequence[str]) -> Invocation:
    """Read the command line of ``python -m harness.run``: a run, or ``evaluate``.

    Raises:
        UsageError: bad input, named with the choices and the remedy.
        SystemExit: help was asked for (0), or a value is not of its flag's type (2).
    """
    command = argv[0] if argv and not argv[0].startswith("-") else "train"
    if command not in ("train", "evaluate"):
        hint = validation.suggestion(command, ("train", "evaluate"))
        raise UsageError(f"unknown command {command!r}; have: train (the default), evaluate{hint}")
    rest = argv[1:] if argv and argv[0] == command else argv
    return _parse_evaluate(rest) if command == "evaluate" else _parse_run(rest)


def load_config(argv: Sequence[str]) -> RunConfig:
    """Return the checked configuration of a run (never of ``evaluate``)."""
    return cast(RunConfig, _parse_run(argv).config)


def _parse_run(argv: Sequence[str]) -> Invocation:
    given = flags.given(TRAIN, argv)
    file = flags.value_of(argv, "--config")
    document = strict_yaml.read(Path(file)) if file else strict_yaml.Document({}, {})
    origins: dict[KeyPath, str] = dict(layers.ENVIRONMENT)
    origins |= {path: f"{line}: {'.'.join(path)}" for path, line in document.lines.items()}
    below = layers.below(_asked(document.values, argv))
    base = layers.merged(below, layers.settle_shots(document.values, origins))
    parsed = flags.read(TRAIN, argv, validation.typed(base, origins))
    origins |= given
    explicit = layers.settle_shots(_only(parsed, given), origins)
    settings = layers.merged(base, explicit)
    config = validation.typed(settings, origins)
    validation.check_run(config, origins)
    return Invocation(config, layers.merged(document.values, explicit))


def _parse_evaluate(argv: Sequence[str]) -> Invocation:
    given = flags.given(EVALUATE, argv)
    explicit = _only(flags.read(EVALUATE, argv, tyro.MISSING_NONPROP), given)
    origins = {("evaluation", *path): given[path] for path in given}
    layers.settle_shots({"evaluation": explicit}, origins)
    return Invocation(validation.evaluate_config(explicit, given), explicit)


def _asked(document: Mapping[str, Any], argv: Sequence[str]) -> layers.Asked:
    """Return what decides about the lower layers: flags win over the file."""
    given = {
        field.name: flags.value_of(argv, f"--{field.name.replace('_', '-')}")
        for field in dataclasses.fields(layers.Asked)
    }
    told = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(layers.Asked.in_settings(document), **told)


def _only(values: Mapping[str, Any], given: Mapping[KeyPath, str]) -> dict[str, Any]:
    """Return the given paths of nested ``values``; ``--config`` never: it is no setting."""
    chosen: dict[str, Any] = {}
    for path in given:
        if path == (CONFIG_FLAG.name,):
            continue
        source, target = values, chosen
        for key in path[:-1]:
            source, target = source[key], target.setdefault(key, {})
        target[path[-1]] = source[path[-1]]
    return chosen
