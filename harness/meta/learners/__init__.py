"""The outer loops: how meta-training improves a policy from its adapted query episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metarl_plugins import Registry, check_spec

if TYPE_CHECKING:  # names() must answer without the second that importing torch takes
    from harness.meta.cell_setup import CellSetup, LearnerSpec
    from harness.meta.learners.base import Learner

__all__ = ["REGISTRY", "build", "names", "spec"]

REGISTRY = Registry(
    "learner",
    "metarl_harness.learners",
    {
        "maml": "harness.meta.learners.maml:MAML",
        "rl2": "harness.meta.learners.ppo:RL2",
        "rsac": "harness.meta.learners.rsac:RSAC",
        "multitask": "harness.meta.learners.ppo:MULTITASK",
        "finetune": "harness.meta.learners.ppo:FINETUNE",
        "scratch": "harness.meta.learners.ppo:SCRATCH",
        "oracle": "harness.meta.learners.ppo:ORACLE",
    },
)
"""Name -> ``module:LearnerSpec``."""


def names() -> tuple[str, ...]:
    """Return the registered names, in registry order, then those of installed packages."""
    return REGISTRY.names()


def spec(name: str) -> LearnerSpec:
    """Return the spec that ``name`` stands for.

    Raises:
        ValueError: the name is not registered.
        PluginError: it stands for something that is no ``LearnerSpec``.
    """
    found: LearnerSpec = REGISTRY.load(name)
    if not REGISTRY.is_built_in(name):
        from harness.meta import cell_setup

        check_spec(name, found, cell_setup.LearnerSpec)
    return found


def build(setup: CellSetup) -> Learner[Any]:
    """Build the learner of ``setup``."""
    return setup.learner.build(setup)
