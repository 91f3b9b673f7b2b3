"""From layers of settings to one checked configuration.

Default < preset < recipe of the distribution < environment variable < mode < YAML < command line.
In a sweep, its axes stand where the command line stands.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import metarl_plugins
import policies
import task_distributions
from harness.config import aliases, validation
from harness.config.components import AUTO, fields, selection, settings_class
from harness.config.distributions import open_distribution
from harness.config.presets import PRESETS, Layer
from harness.config.protocol import EVERY_TASK, PROTOCOLS
from harness.config.schema import RunConfig
from harness.config.validation import KeyPath, Origins, origin_of
from harness.errors import UsageError
from metarl_plugins import PluginError

XML_VARIABLE = "IMUJOCO_XML_DIR"
DEFAULTS: Layer = {
    "task_dist": "halfcheetah-vel",
    "policy": list(policies.COMPARED),
    "learner": ["maml"],
    "agent": {},
    "adapter": AUTO,
    "preset": "quick",
}
REPLACES: dict[KeyPath, tuple[str, Any]] = {
    ("train", "env_steps"): ("meta_iterations", None),
    ("train", "meta_iterations"): ("env_steps", None),
    ("evaluation", "few_shot"): ("zero_shot", False),
}
"""Setting -> the setting in its section that it resets, with the value, in the layers below."""
CHOICES = ("policy", "learner", "agent")


def resolve(
    given: Layer | Sequence[Layer],
    origins: Origins | None = None,
    *,
    overrides: Mapping[KeyPath, Any] | None = None,
    below: Sequence[Layer] = (),
    check: bool = True,
) -> RunConfig:
    """Return the checked configuration that layers of settings ask for.

    Args:
        given: one or more layers by the user, the highest last.
        origins: how messages name a setting, by its path: a flag, or file and line.
        overrides: values by path, above all layers; they choose no component.
        below: layers above the preset and below ``given``, such as a mode's.
        check: also check settings against each other and the task lists, not types alone.

    Raises:
        UsageError: the settings make no valid run.
    """
    metarl_plugins.reread()
    layers = [given] if isinstance(given, Mapping) else list(given)
    found = labelled(origins or {})
    for layer in layers:
        if "components" in layer:
            raise UsageError(f"{origin_of(('components',), found)}: unknown key 'components'")
    found.setdefault(("env", "xml"), XML_VARIABLE)
    layers = [prepared(layer, found) for layer in layers]
    settings: Layer = {}
    for layer in (*_lower(layers), *(prepared(layer, found) for layer in below), *layers):
        settings = merged(settings, layer)
    if settings["agent"]:
        settings |= _only_agents(layers, found)
    settings = _complete_components(settings, overrides or {}, found)
    count = settings.pop("match_params", None)
    config = validation.build(settings, found)
    if count is not None:
        config = _match_params(config, count, found)
    if check:
        validation.check(config, found)
    return config


def _only_agents(layers: Sequence[Layer], origins: Origins) -> Layer:
    """Return the layer without policies and learners; refuse any that the user gave."""
    for name in ("policy", "learner"):
        if any(layer.get(name) for layer in layers):
            given = [origin_of((key,), origins) for key in (name, "agent")]
            raise UsageError(f"{given[0]} and {given[1]} contradict each other: give one")
    return {"policy": {}, "learner": {}}


def prepared(layer: Layer, origins: Origins) -> Layer:
    """Return a layer with choices in one form and settings that replace each other resolved.

    Raises:
        UsageError: two of them contradict each other, or a choice has another form.
    """
    result = dict(layer)
    if "task_dist" in result:
        result["task_dist"] = aliases.environment(result["task_dist"])
    for name in CHOICES:
        if name in result:
            result[name] = _chosen(name, result[name], origins)
    if isinstance(result.get("adapter"), str):
        result["adapter"] = {"kind": result["adapter"]}
    for (section, name), (other, unset) in REPLACES.items():
        values = result.get(section)
        if not isinstance(values, dict) or values.get(name) is None:
            continue
        if values.get(other) not in (None, False):
            names = [origin_of((section, key), origins) for key in (name, other)]
            raise UsageError(f"{names[0]} and {names[1]} contradict each other: give one")
        result[section] = {**values, other: unset}
    return result


def labelled(origins: Origins) -> dict[KeyPath, str]:
    """Return origins by the labels of components, which a file may have named in full."""
    return {
        (path[0], metarl_plugins.label_of(path[1]), *path[2:])
        if len(path) > 1 and path[0] in CHOICES
        else path: origin
        for path, origin in origins.items()
    }


def _chosen(name: str, value: Any, origins: Origins) -> dict[str, dict[str, Any]]:
    try:
        return selection(value)
    except ValueError as error:
        raise UsageError(f"{origin_of((name,), origins)}: {error}") from error


def _lower(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers below the user's: defaults, budget, recipe, environment, protocol."""
    top: Layer = {}
    for layer in (DEFAULTS, *layers):
        top = merged(top, layer)
    preset = top["preset"] if isinstance(top["preset"], str) else ""  # refused later
    dist = top["task_dist"] if isinstance(top["task_dist"], str) else ""
    recipe = dict(task_distributions.recipe(dist)) if _exists(dist) else {}
    budgets = recipe.pop("presets", {})
    lower = [DEFAULTS, PRESETS.get(preset, {}), recipe, budgets.get(preset, {})]
    folder = os.environ.get(XML_VARIABLE)
    if folder and _takes_xml(dist):
        lower.append({"env": {"xml": folder}})
    lower.append(_protocol_layer(layers))
    return [prepared(layer, {}) for layer in lower]


def _takes_xml(dist: str) -> bool:
    return _exists(dist) and "xml" in fields(settings_class("env", dist))


def _exists(dist: str) -> bool:
    try:
        task_distributions.settings_class(dist)
    except (ValueError, PluginError):  # refused later, with a message
        return False
    return True


def _protocol_layer(layers: Sequence[Layer]) -> Layer:
    """Return the settings that a protocol, or test tasks, asked for by the user imply.

    A protocol brings its numbers of episodes; a list of test tasks undoes a preset's protocol.
    """
    for layer in reversed(layers):
        evaluation = layer.get("evaluation")
        name = evaluation.get("protocol") if isinstance(evaluation, dict) else None
        if name is not None:
            known = isinstance(name, str) and name in PROTOCOLS
            return {"evaluation": dict(PROTOCOLS[name].fixed) if known else {}}
    if any(layer.get("test_tasks") is not None for layer in layers):
        return {"evaluation": {"protocol": EVERY_TASK, "splits": ["test"]}}
    return {}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Layer:
    """Return nested settings with ``above`` laid over ``below``.

    A choice of policies or learners replaces the one below it; a label in both keeps the settings
    from below that ``above`` does not give. A section without content changes nothing.
    """
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if key in CHOICES and isinstance(value, dict) and isinstance(old, dict):
            result[key] = {
                label: {**old[label], **given}
                if label in old and old[label].get("kind") == given.get("kind")
                else given
                for label, given in value.items()
            }
        elif key == "adapter" and isinstance(value, dict) and isinstance(old, dict):
            same = value.get("kind", old.get("kind")) == old.get("kind")
            result[key] = {**old, **value} if same else value
        elif isinstance(value, dict) and isinstance(old, dict):
            result[key] = merged(old, value)
        elif not (value is None and isinstance(old, dict)):
            result[key] = value
    return result


def _complete_components(
    settings: Layer, overrides: Mapping[KeyPath, Any], origins: Origins
) -> Layer:
    """Return settings whose components carry those given by kind, and the overrides."""
    result = dict(settings)
    by_kind = result.pop("components", {})
    for name in CHOICES:
        result[name] = {
            label: {**by_kind.get(str(given["kind"]), {}), **given}
            for label, given in result[name].items()
        }
    for path, value in overrides.items():
        target = result
        for depth, key in enumerate(path[:-1]):
            if path[0] in CHOICES and depth == 1 and key not in target:
                raise UsageError(
                    f"{origin_of(path, origins)}: {path[0]} {key!r} is not chosen; "
                    f"chosen: {', '.join(target)}"
                )
            inner = target.get(key) or {}
            if not isinstance(inner, Mapping):
                raise UsageError(f"{origin_of(path, origins)}: {key} is no section, but {inner!r}")
            target[key] = dict(inner)
            target = target[key]
        target[path[-1]] = value
    return result


def _match_params(config: RunConfig, count: Any, origins: Origins) -> RunConfig:
    """Return the configuration with every policy as wide as ``count`` parameters make it."""
    origin = origin_of(("match_params",), origins)
    for label in config.policy:
        path = ("policy", label, "hidden_dim")
        if path in origins:
            raise UsageError(f"{origin} and {origins[path]} contradict each other: give one")
    number = validation.large_count(count, origin)
    spec = open_distribution(config.task_dist, config.env).spec
    sized = {}
    for label, part in config.policy.items():
        try:
            settings = policies.match_params(
                part.kind,
                number,
                obs_dim=spec.obs_dim,
                action_dim=spec.action_dim,
                discrete=spec.discrete,
                settings=part.settings,
            )
        except ValueError as error:
            raise UsageError(f"{origin}: {label}: {error}") from error
        sized[label] = dataclasses.replace(part, settings=settings)
    return dataclasses.replace(config, policy=sized)
