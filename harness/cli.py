"""The command line: ``argv`` in, one checked configuration out.

Layers of settings are laid over each other: default < preset < recipe of the distribution < YAML <
command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import tyro
from tyro.constructors import StructFieldSpec

import task_distributions
from harness import flags, strict_yaml, validation
from harness.config import EvaluateConfig, RunConfig, UsageError
from harness.presets import BUDGETS, PRESETS, RECIPES
from harness.protocol import EVERY_TASK, PROTOCOLS

KeyPath = tuple[str, ...]
XML_VARIABLE = "IMUJOCO_XML_DIR"
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


@dataclass(frozen=True, slots=True)
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
    origins: dict[KeyPath, str] = {("env", "imujoco_xml"): XML_VARIABLE}
    origins |= {path: f"{line}: {'.'.join(path)}" for path, line in document.lines.items()}
    preset = flags.value_of(argv, "--preset") or document.values.get("preset", RunConfig.preset)
    preset = preset if isinstance(preset, str) else ""  # another type: refused below
    budget = PRESETS.get(preset, {})
    dist = flags.value_of(argv, "--task-dist") or document.values.get("task_dist")
    dist = dist if isinstance(dist, str) else RunConfig.task_dist
    for layer in (RECIPES.get(dist, {}), BUDGETS.get((dist, preset), {}), _from_environment(dist)):
        budget = _merged(budget, layer)
    below = _merged(budget, _settle_protocol(document.values, argv))
    base = _merged(below, _settle_shots(document.values, origins))
    parsed = flags.read(TRAIN, argv, validation.typed(base, origins))
    origins |= given
    explicit = _settle_shots(_only(parsed, given), origins)
    settings = _merged(base, explicit)
    config = validation.typed(settings, origins)
    validation.check_run(config, origins)
    return Invocation(config, _merged(document.values, explicit))


def _parse_evaluate(argv: Sequence[str]) -> Invocation:
    given = flags.given(EVALUATE, argv)
    explicit = _only(flags.read(EVALUATE, argv, tyro.MISSING_NONPROP), given)
    _settle_shots({"evaluation": explicit}, {("evaluation", *path): given[path] for path in given})
    return Invocation(validation.evaluate_config(explicit, given), explicit)


def _from_environment(dist: str) -> dict[str, Any]:
    """Return what environment variables say of the distribution ``dist``, lowest in rank."""
    folder = os.environ.get(XML_VARIABLE)
    if folder and dist in task_distributions.names() and "xml" in task_distributions.options(dist):
        return {"env": {"imujoco_xml": folder}}
    return {}


def _settle_protocol(document: Mapping[str, Any], argv: Sequence[str]) -> dict[str, Any]:
    """Return what a protocol, or test tasks, asked for by name mean for the settings below them.

    A protocol brings its numbers of episodes; a list of test tasks undoes a preset's protocol.
    """
    evaluation, env = document.get("evaluation"), document.get("env")
    asked = flags.value_of(argv, "--protocol")
    if asked is None and isinstance(evaluation, dict):
        asked = evaluation.get("protocol")
    if asked is not None:
        return {"evaluation": dict(PROTOCOLS[asked].fixed) if str(asked) in PROTOCOLS else {}}
    listed = flags.value_of(argv, "--test-tasks") is not None
    if listed or (isinstance(env, dict) and env.get("test_tasks") is not None):
        return {"evaluation": {"protocol": EVERY_TASK, "splits": ["test"]}}
    return {}


def _settle_shots(layer: dict[str, Any], origins: Mapping[KeyPath, str]) -> dict[str, Any]:
    """Refuse a layer that asks for shots and for none; asking for shots undoes zero_shot below."""
    evaluation = layer.get("evaluation")
    if not isinstance(evaluation, dict) or "few_shot" not in evaluation:
        return layer
    if evaluation.get("zero_shot"):
        few, zero = (origins["evaluation", key] for key in ("few_shot", "zero_shot"))
        raise UsageError(f"{few} and {zero} contradict each other: give one (0 is always scored)")
    return {**layer, "evaluation": {**evaluation, "zero_shot": False}}


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


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with ``above`` laid over ``below``."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
