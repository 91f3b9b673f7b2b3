"""Gymnasium ids of the registered distributions: ``task_distributions:MetaRL/<name>-v<version>``.

``gymnasium.make`` builds one task's environment, ``gymnasium.make_vec`` the batched engine. Both
also take the ``env_spec`` of a distribution from outside this project.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from task_distributions import registry
from task_distributions.base import Split, Task, TaskDistribution

if TYPE_CHECKING:
    from task_distributions.vector import TaskVectorEnv

__all__ = ["env_spec", "make_env", "make_vector_env", "register_all"]

UNLIMITED = sys.maxsize
"""Horizon of an environment whose episodes only Gymnasium's ``TimeLimit`` truncates."""
MUJOCO_MODES = ["human", "rgb_array", "depth_array"]
"""Render modes of all MuJoCo environments."""
_DEFAULT_STEPS = 200
_STEPS = {
    "halfcheetah": 1000,
    "metaworld-ml10": 500,
    "metaworld-ml45": 500,
    "point_goal": 25,
    "point_goal-sparse": 25,
}
"""Horizons other than the default: Gymnasium wants them before a distribution is imported."""
_NOT_RENDERED = ("point_goal", "point_goal-sparse", "cartpole")


def make_env(
    dist: str,
    *,
    version: int | None = None,
    split: Split = "test",
    task: int = 0,
    render_mode: str | None = None,
    **settings: Any,
) -> gymnasium.Env:
    """Build one task's environment, whose episodes ``gymnasium.make`` limits.

    Args:
        dist: name of the distribution.
        version: that of the id, which the settings must not change.
        split: ``train``, ``validation``, ``test`` or ``ood``.
        task: index into the split.
        render_mode: one of Gymnasium's, where the environment can be rendered.
        settings: other settings of the distribution.

    Raises:
        ValueError: there is no such split, task, setting or render mode.
    """
    distribution = _load(dist, version, UNLIMITED, settings)
    (chosen,) = _tasks(distribution, split, [task])
    if render_mode is None:
        return distribution.make_env(chosen)
    try:
        return distribution.make_env(chosen, render_mode=render_mode)  # type: ignore[call-arg]
    except TypeError as error:  # it takes no render_mode
        raise ValueError(f"{dist} cannot be rendered; leave render_mode out") from error


def make_mujoco_env(dist: str, **options: Any) -> gymnasium.Env:
    """Call ``make_env``, with render modes that Gymnasium can read beforehand."""
    return make_env(dist, **options)


# From these, gymnasium.make wraps environments for "rgb_array_list".
make_mujoco_env.metadata = {"render_modes": MUJOCO_MODES}  # type: ignore[attr-defined]


def make_vector_env(  # noqa: PLR0913 (Gymnasium passes them by name)
    dist: str,
    *,
    num_envs: int,
    version: int | None = None,
    split: Split = "test",
    task: int | None = None,
    tasks: Sequence[int] | None = None,
    max_episode_steps: int | None = None,
    autoreset_mode: str | gymnasium.vector.AutoresetMode = gymnasium.vector.AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **settings: Any,
) -> TaskVectorEnv:
    """Build a vector environment on the batched engine.

    Args:
        dist: name of the distribution.
        num_envs: number of environments B.
        version: that of the id, which the settings must not change.
        split: ``train``, ``validation``, ``test`` or ``ood``.
        task: index into the split of the task that all of them play.
        tasks: indices into the split; environment b plays ``tasks[b % len(tasks)]``. The whole
            split if neither is given.
        max_episode_steps: control steps after which episodes are truncated; the distribution's
            horizon if None, never if -1.
        autoreset_mode: when finished environments start again; Gymnasium's default is one step
            after the last.
        render_mode: ``rgb_array`` or ``depth_array``, where the environment can be rendered.
        settings: other settings of the distribution.

    Raises:
        ValueError: a value is out of range, or there is no such split, task, setting or mode.
    """
    from task_distributions.vector import TaskVectorEnv

    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if task is not None and tasks is not None:
        raise ValueError("give task or tasks, not both")
    horizon = UNLIMITED if max_episode_steps == -1 else max_episode_steps
    distribution = _load(dist, version, horizon, settings)
    if task is not None:
        tasks = [task]
    elif tasks is None:
        tasks = range(len(distribution.tasks(split)))
    elif isinstance(tasks, int):
        raise ValueError(f"tasks must be a sequence; for one task pass task={tasks}")
    elif len(tasks) == 0:
        raise ValueError("tasks is empty; leave it out to play the whole split")
    chosen = _tasks(distribution, split, tasks)
    played = [chosen[b % len(chosen)] for b in range(num_envs)]
    return TaskVectorEnv(distribution, played, autoreset_mode, render_mode)


def _load(
    dist: str, version: int | None, horizon: int | None, settings: dict[str, Any]
) -> TaskDistribution:
    if "horizon" in settings:
        raise ValueError(
            f"pass max_episode_steps={settings['horizon']!r} instead of horizon: Gymnasium limits "
            "the episodes"
        )
    loaded = registry.load(dist, horizon=horizon, **settings)
    if version not in (None, loaded.version):
        raise ValueError(
            f"with these settings {loaded.name} has version {loaded.version}, not {version}: make "
            f"its id, or task_distributions.env_spec({loaded.name!r}, ...) with these settings"
        )
    return loaded


def _tasks(dist: TaskDistribution, split: Split, indices: Sequence[int]) -> list[Task]:
    tasks = dist.tasks(split)
    if not tasks:
        raise ValueError(f"{dist.name} has no {split} tasks; choose another split")
    for index in indices:
        if not isinstance(index, int | np.integer):
            raise ValueError(f"a task is an index into the {split} split, got {index!r}")
        if not 0 <= index < len(tasks):
            raise ValueError(
                f"{dist.name} has no {split} task {index!r}; choose from 0 to {len(tasks) - 1}"
            )
    return [tasks[index] for index in indices]


def env_spec(name: str, **settings: Any) -> EnvSpec:
    """Return Gymnasium's specification of a distribution, for ``gymnasium.make`` and ``make_vec``.

    Args:
        name: a registered name, that of an entry point, ``module:factory`` or ``file.py:factory``.
        settings: of the distribution.

    Raises:
        ValueError: there is no such distribution or setting.
    """
    dist = registry.load(name, **settings)
    return EnvSpec(
        f"MetaRL/{dist.name}-v{dist.version}",
        entry_point=f"{__name__}:make_env",
        vector_entry_point=f"{__name__}:make_vector_env",
        max_episode_steps=dist.spec.horizon,
        kwargs={"dist": name, "version": dist.version}
        | {key: value for key, value in settings.items() if key != "horizon"},
    )


def register_all() -> None:
    """Register every distribution of the registry with Gymnasium."""
    for name in (key for key in registry.REGISTRY if "@" not in key):
        if name.startswith("metaworld-"):  # the version follows the reward
            _register(name, 1, reward_version="v1")
            _register(name, 2, reward_version="v2")
        else:
            for key in registry.versions(name) or (f"{name}@1",):
                _register(name, int(key.rpartition("@")[2]), dist=key)


def _register(name: str, version: int, **settings: Any) -> None:
    creator = "make_env" if name in _NOT_RENDERED else "make_mujoco_env"
    gymnasium.register(
        f"MetaRL/{name}-v{version}",
        entry_point=f"{__name__}:{creator}",
        vector_entry_point=f"{__name__}:make_vector_env",
        max_episode_steps=_STEPS.get(name, _DEFAULT_STEPS),
        kwargs={"dist": name, "version": version, **settings},
    )
