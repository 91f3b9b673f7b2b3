"""Whether the tasks, options and protocol that were asked for exist in the distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import task_distributions
from harness.config.distributions import OPTIONS, open_distribution, takers
from harness.config.protocol import EVERY_TASK, PROTOCOLS, has_classes, with_classes
from harness.config.schema import EnvConfig, RunConfig
from harness.errors import UsageError
from task_distributions import Split, TaskDistribution

KeyPath = tuple[str, ...]
Origins = Mapping[KeyPath, str]
"""Path of keys -> how a message calls that setting: ``--epochs``, ``my.yaml:3: train.epochs``."""


def check_tasks(config: RunConfig, origins: Origins) -> None:
    """Check task indices and options; opens the distribution (no torch, no Ray) for them only."""
    _check_options(config, origins)
    if config.env == EnvConfig() and config.evaluation.protocol == EVERY_TASK:
        return
    try:
        dist = open_distribution(config.task_dist, config.env)
    except ValueError as error:
        given = [key for key in OPTIONS if getattr(config.env, key) is not None]
        named = ", ".join(origin_of(("env", key), origins) for key in given)
        raise UsageError(f"{named or config.task_dist}: {error}") from error
    _check_protocol(config, dist, origins)
    for split in task_distributions.SPLITS:
        path = ("env", f"{split}_tasks")
        indices = getattr(config.env, path[1])
        if indices is not None:
            refuse_duplicates(indices, path, origins)
            _check_indices(dist, split, indices, origin_of(path, origins))


def _check_options(config: RunConfig, origins: Origins) -> None:
    """Refuse an option that the distribution does not take."""
    taken = None
    for setting, keyword in OPTIONS.items():
        if getattr(config.env, setting) is None:
            continue
        taken = taken or task_distributions.options(config.task_dist)
        if keyword not in taken:
            raise UsageError(
                f"{origin_of(('env', setting), origins)}: {config.task_dist} has no such option; "
                f"it is for {' and '.join(takers(setting))}. Leave it out"
            )


def _check_protocol(config: RunConfig, dist: TaskDistribution, origins: Origins) -> None:
    """Refuse a protocol where there are no classes, or beside settings that it fixes."""
    name, evaluation = config.evaluation.protocol, config.evaluation
    if name == EVERY_TASK:
        return
    origin = origin_of(("evaluation", "protocol"), origins)
    if not has_classes(dist):
        raise UsageError(
            f"{origin}: {name!r} counts goals of classes, and {dist.name} has none; it is for "
            f"{' and '.join(with_classes())}. Leave it out"
        )
    if config.env.test_tasks is not None:
        tasks = origin_of(("env", "test_tasks"), origins)
        raise UsageError(f"{tasks} and {origin} {name} contradict each other: give one")
    for key, value in PROTOCOLS[name].fixed.items():
        if getattr(evaluation, key) != value:
            raise UsageError(
                f"{origin_of(('evaluation', key), origins)}: got {getattr(evaluation, key)}, but "
                f"the {name} protocol takes {value}: leave it out, or take --protocol quick or all"
            )


def _check_indices(
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


def refuse_duplicates(values: Sequence[object], path: KeyPath, origins: Origins) -> None:
    """Refuse values of which one appears twice."""
    for value in values:
        if values.count(value) > 1:
            raise UsageError(
                f"{origin_of(path, origins)}: {value!r} is given twice; every value makes one cell "
                "or task of its own: give it once"
            )


def origin_of(path: KeyPath, origins: Origins) -> str:
    """Return how a message calls a setting: as it was given, or by its keys."""
    return origins.get(path, ".".join(path))
