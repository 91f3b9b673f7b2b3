"""From nested settings to typed ones, and the checks that involve more than one setting.

Every message names where a value came from, the value, the choices and the remedy.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

import task_distributions
from harness.config import plugins
from harness.config.components import (
    AUTO,
    NAMES,
    Component,
    Family,
    fields,
    having,
    registry,
    settings_class,
    type_adapter,
)
from harness.config.distributions import open_distribution
from harness.config.protocol import EVERY_TASK, PROTOCOLS, has_classes, with_classes
from harness.config.schema import SECTIONS, ExecutionConfig, LargeCount, RunConfig
from harness.errors import UsageError
from harness.meta import adapters, learners
from harness.meta.rollouts.inputs import Goals
from harness.types import AGENT, REFERENCE
from metarl_plugins import LABEL, PluginError, choose_from, label_of, nearest
from task_distributions import Split, TaskDistribution

KeyPath = tuple[str, ...]
Origins = Mapping[KeyPath, str]
"""Path of a setting -> how messages name it: ``--epochs``, ``my.yaml:3: train.env_steps``."""

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_RESERVED_NAMES = ("published", "README.md")
_TOP = tuple(field.name for field in dataclasses.fields(RunConfig))
_PLAIN = ("preset", "seed", "train_tasks", "test_tasks", "envs_per_job", "min_jobs")


def origin_of(path: KeyPath, origins: Origins) -> str:
    """Return how messages name a setting: as it was given, or by its path."""
    return origins.get(path, ".".join(path))


def suggestion(value: str, allowed: Iterable[str], cutoff: float = 0.55) -> str:
    """Return ``; did you mean 'x'?`` for the nearest allowed value, or nothing if none is near."""
    near = nearest(value, allowed, cutoff)
    return f"; did you mean {near!r}?" if near else ""


# --- types ---------------------------------------------------------------------------------------


def build(settings: Mapping[str, Any], origins: Origins) -> RunConfig:
    """Return the typed configuration of complete nested settings.

    Raises:
        UsageError: a key or component is unknown, or a value is not of its type or range.
    """
    for key in settings:
        if key not in _TOP:
            where = _home(key) or choose_from(key, _TOP)
            raise UsageError(f"{origin_of((key,), origins)}: unknown key {key!r}{where}")
    task_dist = settings["task_dist"]
    check_kind("env", task_dist, ("task_dist",), origins)
    if not re.fullmatch(rf"{LABEL.pattern}(@\d+)?", label := label_of(task_dist)):
        raise UsageError(
            f"{origin_of(('task_dist',), origins)}: {label!r} cannot name a folder: give LABEL=NAME"
        )
    chosen = {
        family: {
            label: _component(family, given, (family, label), origins)
            for label, given in settings.get(family, {}).items()
        }
        for family in ("policy", "learner", "agent")
    }
    _check_labels(chosen, origins)
    adapter = _component("adapter", settings["adapter"], ("adapter",), origins)
    env = _section(settings, "env", origins)
    plain = {name: settings[name] for name in _PLAIN if name in settings}
    top: Any = typed(_Plain, plain, origins)
    return RunConfig(
        task_dist=task_dist,
        env=typed(settings_class("env", task_dist), env, origins, ("env",)),
        policy=chosen["policy"],
        learner=chosen["learner"],
        agent=chosen["agent"],
        adapter=adapter,
        **{name: getattr(top, name) for name in plain},
        **{
            name: typed(cls, _section(settings, name, origins), origins, (name,))
            for name, cls in SECTIONS.items()
        },
    )


def config_from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that ``config_as_dict`` made these values from.

    Raises:
        ValueError: a key is missing or unknown, or a value is not accepted.
        UsageError: a component from outside is not here.
    """
    missing = [name for name in ("task_dist", "policy", "learner", "adapter") if name not in values]
    if missing:
        raise ValueError(f"a configuration needs {', '.join(missing)}")
    own = dict(values)
    plugins.adopt(own.pop("plugins", {}))
    own["task_dist"] = task_distributions.stored(own["task_dist"])
    return build(own, {})


def typed(cls: type, values: Mapping[str, Any], origins: Origins, path: KeyPath = ()) -> Any:
    """Return an instance of the dataclass ``cls`` made from JSON values, strictly.

    Raises:
        UsageError: a key is unknown or a value is not of its type or range.
    """
    known = fields(cls)
    for key in values:
        if key not in known:
            origin = origin_of((*path, key), origins)
            where = _home(key) or choose_from(key, known)
            raise UsageError(f"{origin}: unknown setting {key!r}{where}")
        if isinstance(values[key], float) and not math.isfinite(values[key]):
            raise UsageError(f"{origin_of((*path, key), origins)}: {values[key]} is no number")
    try:
        text = json.dumps(dict(values), default=str)
        # Strict through JSON alone takes lists for tuples; "no" is no bool there, "3" no int.
        return type_adapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        raise UsageError(_message(error, path, origins)) from error


def _message(error: ValidationError, path: KeyPath, origins: Origins) -> str:
    """Return pydantic's first complaint as one readable line."""
    first = error.errors(include_url=False)[0]
    keys = (*path, *(str(key) for key in first["loc"] if not isinstance(key, int)))
    at = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in origins), keys)
    if not first["loc"] and (given := _given_below(path, str(first["msg"]), origins)):
        return f"{', '.join(given)}: {plain_words(first)}"
    message, hint = plain_words(first), ""
    if first["type"] == "tuple_type":
        message, hint = "must be a list", f"; write [{first['input']}]"
    elif first["type"] == "too_short":
        message = "needs at least one value"
    value = json.dumps(first["input"], default=str)
    got = "" if isinstance(first["input"], dict) else f"got {value}: "
    return f"{origin_of(at, origins)}: {got}{message}{hint}"


def _given_below(path: KeyPath, message: str, origins: Origins) -> list[str]:
    """Return the flags or lines that gave settings of one component, if a message is about them."""
    below = {at[-1]: name for at, name in origins.items() if at[:-1] == path and path}
    named = [name for setting, name in below.items() if re.search(rf"\b{setting}\b", message)]
    return named or list(below.values())


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "finite": "a finite number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


def plain_words(error: ErrorDetails) -> str:
    """Return what a value must be, from one of pydantic's complaints about it."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context[name]:g}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        return choose_from(error["input"], allowed).removeprefix("; ")
    if (word := _TYPES.get(kind.partition("_")[0])) is not None:
        return f"must be {word}"
    message = error["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "must be")


def large_count(value: Any, origin: str) -> int:
    """Return the whole number that ``value`` (5M, 100k, 2500000) stands for.

    Raises:
        UsageError: it stands for none.
    """
    try:
        number: int = TypeAdapter(LargeCount).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{origin}: got {value!r}: {message}") from error
    return number


_Plain = dataclasses.make_dataclass(
    "_Plain",
    [
        (field.name, fields(RunConfig)[field.name], dataclasses.field(default=field.default))
        for field in dataclasses.fields(RunConfig)
        if field.name in _PLAIN
    ],
    frozen=True,
)


def _section(settings: Mapping[str, Any], name: str, origins: Origins) -> Mapping[str, Any]:
    section = settings.get(name) or {}
    if not isinstance(section, Mapping):
        raise UsageError(
            f"{origin_of((name,), origins)}: {name} is a section: indent its settings below it"
        )
    return section


def _component(family: Family, given: Any, path: KeyPath, origins: Origins) -> Component:
    if not isinstance(given, Mapping) or "kind" not in given:
        raise UsageError(f"{origin_of(path, origins)}: got {given!r}: give a {family} by its name")
    kind = given["kind"]
    check_kind(family, kind, path, origins)
    values = {key: value for key, value in given.items() if key != "kind"}
    cls = settings_class(family, kind)
    for key in values:
        if key not in fields(cls):
            origin = origin_of((*path, key), origins)
            raise UsageError(f"{origin}: {no_setting(family, kind, key)}")
    return Component(kind, typed(cls, values, origins, path))


def no_setting(family: Family, kind: str, key: str) -> str:
    """Return the message for a setting that a component does not have."""
    own = fields(settings_class(family, kind))
    others = having(family, key)
    home = f"; it belongs to {', '.join(others)}" if others else suggestion(key, own)
    end = "" if home.endswith("?") else "."
    return (
        f"{kind} has no setting {key!r}{home}{end} Settings of {kind}: {', '.join(own) or 'none'}"
    )


def check_kind(family: Family, kind: Any, path: KeyPath, origins: Origins) -> None:
    """Refuse a name that stands for no component.

    Raises:
        UsageError: there is no such component, or one from outside cannot be used.
    """
    origin = next(
        (origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins),
        ".".join(path),
    )
    name = "task distribution" if family == "env" else family
    if not isinstance(kind, str):
        raise UsageError(f"{origin}: got {kind!r}: give a {name} by its name")
    if family == "env":
        try:
            kind = task_distributions.canonical(kind)
        except ValueError as error:
            raise UsageError(f"{origin}: {error}") from error
    known = registry(family)
    if (family, kind) == ("adapter", AUTO) or known.is_built_in(kind):
        return
    try:
        known.target(kind)
    except ValueError as error:
        choices = choose_from(kind, NAMES[family](), "or module:factory, or path/file.py:factory")
        raise UsageError(f"{origin}: unknown {name} {kind!r}{choices}") from error
    except PluginError as error:
        raise UsageError(f"{origin}: {error}") from error
    try:
        settings_class(family, kind)
    except PluginError as error:
        raise UsageError(f"{origin}: {error}") from error


def _check_labels(chosen: Mapping[str, Mapping[str, Component]], origins: Origins) -> None:
    for family, components in chosen.items():
        if not components and family != "agent" and not chosen["agent"]:
            raise UsageError(f"{origin_of((family,), origins)}: needs at least one value")
        for label in components:
            if not LABEL.fullmatch(label):
                raise UsageError(
                    f"{origin_of((family,), origins)}: {label!r} is not a label; allowed: letters, "
                    "digits, '_', '-' and '+'"
                )
    for label in (AGENT, REFERENCE):
        if label in chosen["learner"]:
            raise UsageError(f"learner {label!r}: tables use this name for other rows: rename it")
    labels = [label for components in chosen.values() for label in components]
    flags = [label.replace("_", "-") for label in labels]
    for label, flag in zip(labels, flags, strict=True):
        if flags.count(flag) > 1:
            raise UsageError(f"label {label!r} is not unique in flags, where '_' is '-': rename it")


def _home(key: str) -> str | None:
    """Return a hint where ``key`` is declared, for a setting in the wrong section."""
    if key in _TOP:
        return f"; {key} belongs at the top level"
    for name, section in SECTIONS.items():
        if key in fields(section):
            return f"; {key} belongs in section {name}"
    for family in ("learner", "policy", "adapter"):
        if kinds := having(family, key):
            return f"; {key} is a setting of the {family} {', '.join(kinds)}"
    return None


# --- checks between settings ---------------------------------------------------------------------


def check(config: RunConfig, origins: Origins) -> None:
    """Check a typed configuration against the task lists and itself.

    Raises:
        UsageError: a task does not exist, or settings repeat, contradict or have no effect.
    """
    _refuse_duplicates(config.seed, ("seed",), origins)
    _refuse_duplicates(config.evaluation.splits, ("evaluation", "splits"), origins)
    _check_adapter(config, origins)
    _check_tasks(config, origins)
    _check_effect(config, origins)
    check_execution(config.execution, origins)


def _check_adapter(config: RunConfig, origins: Origins) -> None:
    """Refuse an adapter that a chosen learner's policy cannot be scored with."""
    kind = config.adapter.kind
    if config.agent and kind != AUTO:
        raise UsageError(
            f"{origin_of(('adapter',), origins)}: has no effect on agents, which adapt themselves"
        )
    for label, part in config.learner.items():
        spec = learners.spec(part.kind)
        allowed = [name for name in adapters.names() if spec.fits(adapters.spec(name))]
        if kind != AUTO and not spec.fits(adapters.spec(kind)):
            raise UsageError(
                f"{origin_of(('adapter',), origins)}: learner {label!r} cannot be scored with "
                f"adapter {kind!r}; choose from: auto, {', '.join(allowed)}"
            )
    scored = config.evaluation
    if kind == "memory+gradient" and scored.query_episodes > scored.episodes_per_shot:
        raise UsageError(
            f"{origin_of(('evaluation', 'query_episodes'), origins)}: each query episode continues "
            f"a support episode: give at most --episodes-per-shot ({scored.episodes_per_shot})"
        )


def _unused(family: Family, part: Component, config: RunConfig) -> Mapping[str, str]:
    """Return the settings of a component that have no effect in this run, with the reason."""
    variants = [part.settings]
    if hasattr(part.settings, "resolved_for"):
        variants = [part.settings.resolved_for(policy.kind) for policy in config.policy.values()]
    first, *others = (dict(getattr(settings, "unused", dict)()) for settings in variants)
    unused = {key: why for key, why in first.items() if all(key in other for other in others)}
    if family == "learner":
        dist = open_distribution(config.task_dist, config.env)
        if dist.spec.discrete:
            unused |= dict.fromkeys(("action_scale", "init_std"), "the actions are discrete")
        if not Goals.of_distribution(dist).dim:
            unused |= dict.fromkeys(("task_coef", "task_critic"), "the tasks have no parameters")
    return unused


def _check_effect(config: RunConfig, origins: Origins) -> None:
    """Refuse settings that the user gave although other settings leave them without effect."""
    families: tuple[Family, ...] = ("policy", "learner", "agent")
    for family in families:
        for label, part in getattr(config, family).items():
            unused = _unused(family, part, config)
            default = settings_class(family, part.kind)()
            for name, reason in unused.items():
                origin = origins.get((family, label, name), "")
                changed = getattr(part.settings, name) != getattr(default, name)
                # A file that lists every setting, such as a cell's own, may list defaults.
                if origin.startswith("--") or (origin and changed):
                    raise UsageError(f"{origin}: has no effect: {reason}")
    _check_adapter_settings(config, origins)
    if config.train.env_steps is None and config.train.meta_iterations is None:
        origin = origin_of(("train", "env_steps"), origins)
        raise UsageError(f"{origin}: training needs an end: give env_steps or meta_iterations")
    origin = origins.get(("execution", "eval_tasks"), "")
    if config.execution.eval_every == "never" and origin.startswith("--"):
        raise UsageError(f"{origin}: has no effect without --eval-every: leave one out")
    if not config.evaluation.zero_shot and not any(config.evaluation.few_shot):
        origin = origin_of(("evaluation", "few_shot"), origins)
        raise UsageError(
            f"{origin}: 0 shots are always scored: give a number above 0, or --zero-shot"
        )
    origin = origins.get(("evaluation", "episodes_per_shot"), "")
    if config.evaluation.zero_shot and origin.startswith("--"):
        raise UsageError(f"{origin}: has no effect with zero_shot: leave one out")


def _check_adapter_settings(config: RunConfig, origins: Origins) -> None:
    """Refuse a learner's settings for its own adapter where another component was chosen."""
    kind = config.adapter.kind
    for label, part in config.learner.items():
        cls = adapters.settings_class(learners.spec(part.kind).adapter)
        if kind == AUTO or not isinstance(part.settings, cls):
            continue
        for name in fields(cls):
            origin = origins.get(("learner", label, name), "")
            # One flag may set both.
            if origin.startswith("--") and origin != origins.get(("adapter", name)):
                remedy = f"--{kind}.{name.replace('_', '-')}, or leave out --adapter"
                raise UsageError(f"{origin}: has no effect with --adapter {kind}: give {remedy}")


def check_execution(execution: ExecutionConfig, origins: Origins) -> None:
    """Refuse a run name that is not a plain folder name, and settings of Ray without it.

    Raises:
        UsageError: names the setting.
    """
    for setting in ("num_workers", "job_timeout", "start_timeout"):
        flag = origins.get(("execution", setting), "")
        # A file that lists every setting may list the time limits.
        counts = flag if setting == "num_workers" else flag.startswith("--")
        if execution.backend == "local" and counts:
            raise UsageError(f"{flag}: has no effect with backend local: leave one out")
    name, origin = execution.name, origin_of(("execution", "name"), origins)
    if name is not None and (not _RUN_NAME.fullmatch(name) or name in _RESERVED_NAMES):
        raise UsageError(
            f"{origin}: {name!r} is not a run name; allowed: letters, digits, '.', '_', '@', '-', "
            f"starting with a letter or digit, no folders, not {' or '.join(_RESERVED_NAMES)}"
        )
    if execution.address is not None and execution.backend == "local":
        raise UsageError(
            f"{origin_of(('execution', 'address'), origins)}: {execution.address!r} is a Ray "
            "cluster, but --backend local runs without Ray: drop one of them"
        )


def _check_learners(config: RunConfig, dist: TaskDistribution, origins: Origins) -> None:
    """Refuse learners that cannot learn this distribution."""
    for label, part in config.learner.items():
        spec = learners.spec(part.kind)
        reason = spec.refuses_discrete
        if not dist.tasks("train"):
            raise UsageError(f"{config.task_dist}: {dist.name} has no training tasks")
        if spec.feeds_task and not Goals.of_distribution(dist).dim:
            raise UsageError(
                f"{origin_of(('learner',), origins)}: learner {label!r} observes the task, and the "
                f"tasks of {dist.name} have no parameters. Choose another learner"
            )
        if dist.spec.discrete and reason:
            raise UsageError(
                f"{origin_of(('learner',), origins)}: learner {label!r} cannot learn {dist.name}, "
                f"whose actions are discrete: {reason}. Choose another learner"
            )


def _check_tasks(config: RunConfig, origins: Origins) -> None:
    """Check the distribution's settings, the protocol and the indices; opens the distribution."""
    try:
        dist = open_distribution(config.task_dist, config.env)
    except ValueError as error:
        given = [name for path, name in origins.items() if path[:1] == ("env",) and len(path) == 2]
        given = [name for name in given if name.startswith("--") or ":" in name] or given
        named = ", ".join(given) or config.task_dist
        raise UsageError(f"{named}: {error}") from error
    for split in task_distributions.SPLITS:
        names = [task.name for task in dist.tasks(split)]
        if len(set(names)) < len(names):
            raise UsageError(f"{config.task_dist}: two {split} tasks have the same name")
        if any(task.version != dist.version for task in dist.tasks(split)):
            raise UsageError(
                f"{config.task_dist}: its {split} tasks are not of version {dist.version}"
            )
    _check_learners(config, dist, origins)
    _check_protocol(config, dist, origins)
    for split in config.evaluation.splits:
        if not dist.tasks(split):
            full = ", ".join(each for each in task_distributions.SPLITS if dist.tasks(each))
            raise UsageError(
                f"{origin_of(('evaluation', 'splits'), origins)}: {dist.name} has no {split} "
                f"tasks; choose from: {full}"
            )
    if isinstance(config.execution.eval_every, int) and not dist.tasks("validation"):
        origin = origin_of(("execution", "eval_every"), origins)
        raise UsageError(f"{origin}: {dist.name} has no validation tasks: leave it out")
    own: tuple[Split, ...] = ("train", "test")
    for split in own:
        path = (f"{split}_tasks",)
        indices = getattr(config, path[0])
        if indices is not None:
            _refuse_duplicates(indices, path, origins)
            _check_indices(dist, split, indices, origin_of(path, origins))


def _check_protocol(config: RunConfig, dist: TaskDistribution, origins: Origins) -> None:
    """Refuse a protocol where there are no classes, or beside settings that it fixes."""
    name, evaluation = config.evaluation.protocol, config.evaluation
    if name == EVERY_TASK:
        return
    origin = origin_of(("evaluation", "protocol"), origins)
    if not has_classes(dist):
        raise UsageError(
            f"{origin}: {name!r} counts goals per class, and {dist.name} has no classes; it is for "
            f"{' and '.join(with_classes())}. Leave it out"
        )
    if config.test_tasks is not None:
        tasks = origin_of(("test_tasks",), origins)
        raise UsageError(f"{tasks} and {origin} {name} contradict each other: give one")
    for key, value in PROTOCOLS[name].fixed.items():
        if getattr(evaluation, key) != value:
            raise UsageError(
                f"{origin_of(('evaluation', key), origins)}: got {getattr(evaluation, key)}, but "
                f"the {name} protocol fixes {value}: leave it out, or use --protocol quick or all"
            )


def _check_indices(
    dist: TaskDistribution, split: Split, indices: Sequence[int], origin: str
) -> None:
    count = len(dist.tasks(split))
    for index in indices:
        if not 0 <= index < count:
            raise UsageError(
                f"{origin}: {dist.name} has no {split} task {index}; "
                f"choose from: 0 to {count - 1} ({count} {split} tasks)"
            )


def _refuse_duplicates(values: Sequence[object], path: KeyPath, origins: Origins) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"{origin_of(path, origins)}: {value!r} is given twice: give it once")
