"""Other names for what a run is told: environments by Gymnasium's ids, modes, built-in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.errors import UsageError

ENVIRONMENTS: dict[str, str] = {
    "CartPole-v1": "cartpole",
    "HalfCheetah-v5": "halfcheetah",
    "MetaGymToy-v0": "point_goal",
}
"""Id of an environment -> the distribution that has its physics."""

_SMALL: dict[str, Any] = {"meta_batch_size": 5, "episodes_per_task": 2}
"""20 episodes an iteration: training budgets in hundreds of episodes come out whole."""

MODES: dict[str, dict[str, Any]] = {
    # One pass over the data at ratio 1: the gradient is the policy gradient with a baseline.
    "policy_gradient": {
        "policy": ["ssm"],
        "learner": ["multitask"],
        "train": _SMALL,
        "ppo": {"ppo_passes": 1, "ppo_minibatches": 1, "ppo_gae_lambda": 1.0},
        "evaluation": {"zero_shot": True},
    },
    "meta_rl": {"policy": ["ssm"], "learner": ["maml"]},
    "improved": {
        "policy": ["ssm"],
        "learner": ["multitask"],
        "train": _SMALL,
        "evaluation": {"zero_shot": True},
    },
}
"""Mode -> what it sets, over a preset and below a file and the flags."""

TRAIN_ONE: dict[str, Any] = {"policy": ["ssm"], "execution": {"ckpt_dir": "checkpoints"}}
"""What the word ``train`` sets: one policy, and checkpoints where they are easily found."""

CONFIGS = Path(__file__).parent / "builtin"


def environment(name: Any) -> Any:
    """Return the distribution an environment's id stands for; anything else as it is."""
    return ENVIRONMENTS.get(name, name) if isinstance(name, str) else name


def mode(name: str) -> dict[str, Any]:
    """Return what a mode sets.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in MODES:
        raise UsageError(f"--mode: unknown mode {name!r}; have: {', '.join(MODES)}")
    return MODES[name]


def config_file(name: str) -> Path:
    """Return the file that ``--config`` names: a path, or a built-in one without its suffix."""
    built_in = CONFIGS / f"{name}.yaml"
    if not Path(name).exists() and Path(name).name == name and built_in.is_file():
        return built_in
    return Path(name)


def config_names() -> Iterable[str]:
    """Return the names of the built-in files."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))
