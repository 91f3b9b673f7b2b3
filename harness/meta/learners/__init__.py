"""The outer loops: what meta-training does with adapted policies and their query episodes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names() must answer without the second that importing torch takes
    from harness.meta.cell_setup import CellSetup
    from harness.meta.learners.base import Learner

__all__ = ["REGISTRY", "build", "names"]

REGISTRY: dict[str, str] = {
    "maml": "harness.meta.learners.maml:build",
    "rl2": "harness.meta.learners.rl2:build",
    "multitask": "harness.meta.learners.controls:multitask",
    "finetune": "harness.meta.learners.controls:finetune",
    "scratch": "harness.meta.learners.controls:scratch",
    "oracle": "harness.meta.learners.controls:oracle",
}
"""Name -> ``module:factory``. A factory takes a ``CellSetup`` and returns a ``Learner``."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order."""
    return tuple(REGISTRY)


def build(problem: CellSetup) -> Learner:
    """Build the learner that the problem's cell names.

    Raises:
        ValueError: the name is not registered.
    """
    name = problem.cell.learner
    if name not in REGISTRY:
        raise ValueError(
            f"unknown learner {name!r}; have: {', '.join(names())}. "
            "Register it in harness/meta/learners/__init__.py"
        )
    module, _, attribute = REGISTRY[name].partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    learner: Learner = factory(problem)
    return learner
