"""The outer loops: how meta-training improves a policy from its adapted query episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.meta.registry import load

if TYPE_CHECKING:  # names() must answer without the second that importing torch takes
    from harness.meta.cell_setup import CellSetup, LearnerSpec
    from harness.meta.learners.base import Learner

__all__ = ["REGISTRY", "build", "names", "spec"]

REGISTRY: dict[str, str] = {
    "maml": "harness.meta.learners.maml:MAML",
    "rl2": "harness.meta.learners.ppo:RL2",
    "multitask": "harness.meta.learners.ppo:MULTITASK",
    "finetune": "harness.meta.learners.ppo:FINETUNE",
    "scratch": "harness.meta.learners.ppo:SCRATCH",
    "oracle": "harness.meta.learners.ppo:ORACLE",
}
"""Name -> ``module:LearnerSpec``."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order."""
    return tuple(REGISTRY)


def spec(name: str) -> LearnerSpec:
    """Return the spec registered as ``name``.

    Raises:
        ValueError: the name is not registered.
    """
    found: LearnerSpec = load("learner", REGISTRY, name)
    return found


def build(setup: CellSetup) -> Learner[Any]:
    """Build the learner of ``setup``."""
    return setup.learner.build(setup)
