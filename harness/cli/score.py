"""``python -m harness.score AGENT``: any agent on the tasks of the benchmark, in its own row."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.agents.files import SUFFIXES
from harness.cli import flags
from harness.cli.flags import Flag
from harness.cli.parser import (
    NOT_WHEN_SCORING,
    Run,
    choice_flags,
    document_of,
    env_flags,
    given_layer,
    lines_of,
    special_flag,
    split_flags,
)
from harness.config import precedence
from harness.config.components import NAMES
from harness.config.presets import Layer
from harness.config.schema import EvalConfig, ExecutionConfig, RunConfig
from harness.config.sweep_file import planned_cells
from harness.config.validation import KeyPath
from harness.errors import UsageError, run_command
from harness.execution.preflight import preflight
from metarl_plugins import split

PROG = "python -m harness.score"
TRAINING = ("policy", "learner", "adapter")
"""Choices of a run that trains."""
OWN = (
    *("task_dist", "env", "policy", "learner", "agent", "adapter", "preset"),
    *("train", "evaluation", "execution", "envs_per_job", "min_jobs"),
)
"""Settings of a run that have flags of their own here, or none."""
_CHOICES = ", ".join(name for name in NAMES["agent"]() if name != "object")  # that is for Python
_DESCRIPTION = f"""examples:
  {PROG} my_agent.py:MyAgent --task-dist ant-vel --few-shot 1 5 10 --label mine
  {PROG} ppo_ant_vel.zip --task-dist ant-vel
  {PROG} expert random --task-dist metaworld-ml10 --protocol quick

Score agents by the common protocol: the same tasks, seeds, support and query episodes and records
as the policies of harness.run. Each AGENT is a name ({_CHOICES}),
module:factory, path/file.py:factory, LABEL=NAME, or a saved file: .zip of Stable-Baselines3,
.pt, .pth or .pt2 of torch, .safetensors or .npz of this harness.
{PROG.replace("score", "run")} --resume NAME continues an interrupted run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Score the agents that ``argv`` names; return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _main(given), hint=f"See {PROG} --help.")


def _main(argv: list[str]) -> int:
    request = parse(argv)
    preflight(request.config.execution)
    # Only now what takes seconds: bad input has been refused already.
    from harness.console.display import make_progress
    from harness.experiments.run import RunOptions, play

    config, given = request.config, request.given
    options = RunOptions.of_execution(
        config.execution,
        f"score-{config.label}",
        command=("python", "-m", "harness.score", *argv),
        given=given,
    )
    return play(planned_cells(config, given), options, make_progress())


def parse(argv: Sequence[str]) -> Run:
    """Read the command line.

    Raises:
        UsageError: bad input; names it with the choices and the remedy.
        SystemExit: help was asked for; the code is 0.
    """
    count = next((n for n, word in enumerate(argv) if word.startswith("-")), len(argv))
    names, rest = list(argv[:count]), list(argv[count:])
    selected = flags.select([*_SPECIAL, *_choices()], rest)
    special = {path[1]: v for path, v in selected.values.items() if path[0] == "special"}
    document = document_of(special.get("config"))
    origins = lines_of(document)
    choice: Layer = {path[0]: v for path, v in selected.values.items() if path[0] != "special"}
    named = {path: flag for path, flag in selected.origins.items() if path[0] != "special"}
    if names:
        choice["agent"] = chosen(names, special.get("label", ()))
        named["agent",] = "AGENT"
    elif "--help" not in rest and "-h" not in rest and not document.values.get("agent"):
        raise UsageError(f"AGENT is missing: name the agents first, such as {PROG} random")
    before = precedence.resolve([document.values, choice], origins | named, check=False)
    parsed = flags.read(
        score_flags(before), rest, prog=f"{PROG} AGENT ...", description=_DESCRIPTION
    )
    layer, overrides = split_flags(parsed, choice)
    found: dict[KeyPath, str] = {**origins, **parsed.origins, **named}
    config = precedence.resolve([document.values, layer], found, overrides=overrides)
    for label, part in config.agent.items():
        if part.kind in SUFFIXES.values() and part.settings.path is None:
            raise UsageError(f"--{label}.path is missing: name the file that {part.kind} loads")
    return Run(config, given_layer([document.values, layer], overrides, config))


def chosen(names: Sequence[str], labels: Sequence[str]) -> Layer:
    """Return the choice of agents that names, or the paths of saved ones, stand for.

    Raises:
        UsageError: there are more labels than agents, or two agents have one label.
    """
    if labels and len(labels) != len(names):
        raise UsageError(f"--label: give one for each agent, not {len(labels)} for {len(names)}")
    found: Layer = {}
    for number, name in enumerate(names):
        label, kind = split(name)
        part: dict[str, Any] = {"kind": kind}
        if (loader := SUFFIXES.get(Path(kind).suffix)) is not None and ":" not in kind:
            part = {"kind": loader, "path": kind}
            if label == kind or not label:
                label = re.sub(r"[^A-Za-z0-9_+-]+", "-", Path(kind).stem).strip("-_+")[:50]
        label = labels[number] if labels else label
        if label in found:
            raise UsageError(f"AGENT: two agents are called {label!r}: tell them apart by --label")
        found[label] = part
    return found


def score_flags(config: RunConfig) -> list[Flag]:
    """Return every flag with the agents and defaults of ``config``."""
    own = [*_choices(config), *_SPECIAL]
    own += flags.of_class(RunConfig, "run", defaults=config, omit=OWN)
    evaluation = flags.of_class(
        EvalConfig,
        "evaluation",
        path=("evaluation",),
        defaults=config.evaluation,
        omit=("deterministic",),  # an agent decides how it acts
    )
    execution = flags.of_class(
        ExecutionConfig,
        "execution",
        path=("execution",),
        defaults=config.execution,
        omit=NOT_WHEN_SCORING,
    )
    components = [
        flag
        for label, part in config.agent.items()
        for flag in flags.of_component("agent", label, part)
    ]
    own += [*evaluation, *execution]
    own += env_flags(config, {name for flag in own for name in flag.names})
    return [*own, *components, *flags.shared(components)]


def _choices(config: RunConfig | None = None) -> list[Flag]:
    return [flag for flag in choice_flags(config) if flag.paths[0][0] not in TRAINING]


_SPECIAL: list[Flag] = [
    special_flag("label", tuple[str, ...], "What tables call the agents, one label for each."),
    special_flag("config", str, "YAML file of settings, such as a cell's own; flags win."),
]
