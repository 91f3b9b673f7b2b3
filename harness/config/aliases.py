"""Alternative names: environments by Gymnasium's ids, flags, modes and built-in files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import task_distributions
from harness.errors import UsageError
from metarl_plugins import choose_from

ENVIRONMENTS: dict[str, str] = {
    "CartPole-v1": "cartpole",
    "HalfCheetah-v5": "halfcheetah",
    "MetaGymToy-v0": "point_goal",
}
"""Id of an environment -> the distribution with the same physics."""

FLAGS: dict[str, tuple[str, ...]] = {
    "task_dist": ("task", "env", "env-name"),
    "policy": ("method",),
    "seed": ("seeds",),
    "meta_iterations": ("epochs", "num-epochs", "outer-steps"),
    "meta_batch_size": ("tasks-per-batch", "tasks-per-epoch"),
    "learning_rate": ("lr",),
    "xml": ("imujoco-xml",),
}
"""Setting -> further flags for it."""

_SMALL: dict[str, Any] = {"episodes_per_iteration": 20, "tasks_per_iteration": 5}

MODES: dict[str, dict[str, Any]] = {
    # One pass over the data at ratio 1: the gradient is the policy gradient with a baseline.
    "policy_gradient": {
        "policy": ["ssm"],
        "learner": ["multitask"],
        "components": {
            "multitask": {**_SMALL, "update_epochs": 1, "minibatches": 1, "gae_lambda": 1.0}
        },
        "evaluation": {"zero_shot": True},
    },
    "meta_rl": {"policy": ["ssm"], "learner": ["maml"]},
    "improved": {
        "policy": ["ssm"],
        "learner": ["multitask"],
        "components": {"multitask": _SMALL},
        "evaluation": {"zero_shot": True},
    },
}
"""Value of ``--mode`` -> the layer it stands for, above a preset and below a file and flags."""

TRAIN: dict[str, Any] = {"policy": ["ssm"], "execution": {"ckpt_dir": "checkpoints"}}
"""The layer of the command ``train``: one policy, and checkpoints in a folder easily found."""

BUILT_IN = Path(__file__).parent / "builtin"


def environment(name: Any) -> Any:
    """Return the canonical name of a distribution, which an environment's id may stand for.

    What is no name of a distribution is returned unchanged, to be refused later.
    """
    if not isinstance(name, str):
        return name
    with contextlib.suppress(ValueError):
        return task_distributions.canonical(ENVIRONMENTS.get(name, name))
    return name


def mode(name: str) -> dict[str, Any]:
    """Return the layer of settings of a mode.

    Raises:
        UsageError: there is no such mode.
    """
    if name not in MODES:
        raise UsageError(f"--mode: unknown mode {name!r}{choose_from(name, MODES)}")
    return MODES[name]


def config_file(name: str) -> Path:
    """Return the file that ``--config`` names: a path, or a built-in one without its suffix."""
    built_in = BUILT_IN / f"{name}.yaml"
    if not Path(name).is_file() and Path(name).name == name and built_in.is_file():
        return built_in
    return Path(name)


def config_names() -> Iterable[str]:
    """Return the names of the built-in files."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))
