"""Opening the distribution a configuration names, with the options it was given and no others."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import task_distributions
from harness.config.schema import EnvConfig
from task_distributions import TaskDistribution

OPTIONS = {"horizon": "horizon", "reward_version": "reward_version", "imujoco_xml": "xml"}
"""Setting of ``EnvConfig`` -> keyword of the factories that take it."""


def takers(setting: str) -> tuple[str, ...]:
    """Return the distributions whose factory takes ``setting``."""
    keyword = OPTIONS[setting]
    return tuple(
        name for name in task_distributions.names() if keyword in task_distributions.options(name)
    )


def open_distribution(name: str, env: EnvConfig) -> TaskDistribution:
    """Return the distribution ``name`` with the options of ``env``, opened once per process.

    Raises:
        ValueError: the name is not registered, or the factory refuses an option's value.
        TypeError: the factory does not take an option; ``validation.check_run`` asks before.
    """
    given = {keyword: getattr(env, setting) for setting, keyword in OPTIONS.items()}
    return _opened(name, tuple((key, value) for key, value in given.items() if value is not None))


@lru_cache(maxsize=4)
def _opened(name: str, options: tuple[tuple[str, Any], ...]) -> TaskDistribution:
    return task_distributions.load(name, **dict(options))
