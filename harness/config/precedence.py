"""How layers of settings become one configuration: each is laid over the ones below it.

Default < preset < recipe of the distribution < environment < YAML < command line; in a sweep, its
axes stand where the command line stands.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import task_distributions
from harness.config import validation
from harness.config.presets import BUDGETS, PRESETS, RECIPES
from harness.config.protocol import EVERY_TASK, PROTOCOLS
from harness.config.schema import RunConfig
from harness.config.task_checks import Origins
from harness.errors import UsageError

XML_VARIABLE = "IMUJOCO_XML_DIR"
ENVIRONMENT: dict[tuple[str, ...], str] = {("env", "imujoco_xml"): XML_VARIABLE}
"""Setting that an environment variable may give -> that variable."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides about the layers below the settings themselves; ``None`` where not given."""

    preset: Any = None
    task_dist: Any = None
    protocol: Any = None
    test_tasks: Any = None

    @classmethod
    def in_settings(cls, settings: Mapping[str, Any]) -> Asked:
        """Return what nested ``settings`` ask for."""
        evaluation, env = (_section(settings, name) for name in ("evaluation", "env"))
        return cls(
            settings.get("preset"),
            settings.get("task_dist"),
            evaluation.get("protocol"),
            env.get("test_tasks"),
        )


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, dict) else {}  # another type is refused later


def resolve(settings: Mapping[str, Any], origins: Origins) -> RunConfig:
    """Return the checked configuration that ``settings`` alone ask for.

    Raises:
        UsageError: they make no run.
    """
    origins = ENVIRONMENT | dict(origins)
    base = merged(below(Asked.in_settings(settings)), settle_shots(settings, origins))
    config = validation.typed(base, origins)
    validation.check_run(config, origins)
    # Each number is hashed: another default later is another experiment.
    return replace(config, adapt=config.adapt.spelled_out())


def below(asked: Asked) -> dict[str, Any]:
    """Return what lies below the given settings: budget, recipe, environment, protocol."""
    preset = RunConfig.preset if asked.preset is None else asked.preset
    dist = RunConfig.task_dist if asked.task_dist is None else asked.task_dist
    preset = preset if isinstance(preset, str) else ""  # another type: refused later
    dist = dist if isinstance(dist, str) else RunConfig.task_dist
    budget = PRESETS.get(preset, {})
    lower = (RECIPES.get(dist, {}), BUDGETS.get((dist, preset), {}), _from_environment(dist))
    for layer in (*lower, _settle_protocol(asked)):
        budget = merged(budget, layer)
    return budget


def _from_environment(dist: str) -> dict[str, Any]:
    """Return what environment variables say of the distribution ``dist``, lowest in rank."""
    folder = os.environ.get(XML_VARIABLE)
    if folder and dist in task_distributions.names() and "xml" in task_distributions.options(dist):
        return {"env": {"imujoco_xml": folder}}
    return {}


def _settle_protocol(asked: Asked) -> dict[str, Any]:
    """Return what a protocol, or test tasks, asked for by name mean for the settings below them.

    A protocol brings its numbers of episodes; a list of test tasks undoes a preset's protocol.
    """
    if asked.protocol is not None:
        known = str(asked.protocol) in PROTOCOLS
        return {"evaluation": dict(PROTOCOLS[asked.protocol].fixed) if known else {}}
    if asked.test_tasks is not None:
        return {"evaluation": {"protocol": EVERY_TASK, "splits": ["test"]}}
    return {}


def settle_shots(layer: Mapping[str, Any], origins: Origins) -> dict[str, Any]:
    """Refuse a layer that asks for shots and for none; asking for shots undoes zero_shot below."""
    evaluation = layer.get("evaluation")
    if not isinstance(evaluation, dict) or "few_shot" not in evaluation:
        return dict(layer)
    if evaluation.get("zero_shot"):
        few, zero = (origins["evaluation", key] for key in ("few_shot", "zero_shot"))
        raise UsageError(f"{few} and {zero} contradict each other: give one (0 is always scored)")
    return {**layer, "evaluation": {**evaluation, "zero_shot": False}}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with ``above`` laid over ``below``."""
    result = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result
