"""The task distribution of a run, opened once per process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import task_distributions
from harness.errors import UsageError
from task_distributions import TaskDistribution


@lru_cache(maxsize=4)
def open_distribution(name: str, settings: Any = None) -> TaskDistribution:
    """Return the distribution ``name`` with ``settings``, an instance of its settings class.

    Raises:
        ValueError: the name is not registered, or the distribution refuses a setting.
        UsageError: a package that the distribution needs is not installed.
    """
    try:
        return task_distributions.load(name, settings)
    except ImportError as error:
        raise UsageError(str(error)) from error
