"""metarl-harness: a Ray-distributed benchmark harness for meta-reinforcement learning.

The library is loaded on first use: ``import harness`` imports neither torch nor Ray.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from harness.errors import refuse_shadows

if TYPE_CHECKING:
    from harness.api import (
        LoadedPolicy,
        Run,
        compare,
        evaluate,
        load_policy,
        load_pretrained,
        load_run,
        make,
        make_vec,
        register,
        score,
        train,
    )

__all__ = [
    "LoadedPolicy",
    "Run",
    "compare",
    "evaluate",
    "load_policy",
    "load_pretrained",
    "load_run",
    "make",
    "make_vec",
    "register",
    "score",
    "train",
]

refuse_shadows()
try:
    __version__ = version("metarl-harness")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


if not TYPE_CHECKING:  # type checkers know the names from above

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'harness' has no attribute {name!r}")
        from harness import api

        return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
