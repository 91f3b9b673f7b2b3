"""Meta-World throughput on mixed classes, compared with metaworld's ``step`` and AsyncVectorEnv.

Random actions, episodes of 500 control steps, resets included. The raw loop does the least that
metaworld's physics needs: five ``mj_step`` and one ``mj_forward``, of models without visual geoms.

    python benchmarks/metaworld_mix.py [--seconds 10] [--mixes ml10]
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from common import OURS, RAW, Contender, Running, parser, print_contest
from numpy.typing import NDArray

SIMULATIONS = {"ml10": 50, "ml45": 90}
"""Simulations in a process of ours: 5 goals of each ML10 class, 2 of each ML45 class."""
ASYNC_PROCESSES = {"ml10": 10, "ml45": 15}
"""One environment per process, 0.2 GB each: all ML10 classes, every third ML45 class."""


def _tasks(mix: str, count: int) -> list[Any]:
    """Return ``count`` training tasks, spread evenly over the classes of ``mix``."""
    from task_distributions import load

    tasks = load(f"metaworld-{mix}").tasks("train")
    classes = len(tasks) // 50
    if count < classes:
        return [tasks[50 * k] for k in range(0, classes, classes // count)]
    return [tasks[50 * k + goal] for k in range(classes) for goal in range(count // classes)]


def _metaworld_env(task: Any) -> Any:
    """Return metaworld's own environment for ``task``, as its users create it."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.types import Task

    name = task.name.partition("/")[0]
    env = ALL_V3_ENVIRONMENTS[name](reward_function_version="v2")
    vector = np.array([value for _, value in task.params])
    content = {"rand_vec": vector, "partially_observable": True, "env_cls": type(env)}
    env.set_task(Task(name, pickle.dumps(content)))
    return env


def _actions(count: int) -> Iterator[NDArray[np.float32]]:
    """Yield actions [B, 4] drawn beforehand: drawing them is not measured."""
    table = np.random.default_rng(0).uniform(-1, 1, (997, count, 4)).astype(np.float32)
    return itertools.cycle(table)


def ours(mix: str) -> Running:
    """Our batched engine."""
    from task_distributions import load

    tasks = _tasks(mix, SIMULATIONS[mix])
    batch = load(f"metaworld-{mix}").make_batch(tasks, 1)
    actions, seeds = _actions(len(tasks)), range(len(tasks))
    batch.reset(seeds)

    def advance() -> int:
        if batch.step(next(actions)).truncated.all():
            batch.reset(seeds)
        return len(tasks)

    return Running(advance)


def raw(mix: str) -> Running:
    """The physics alone, one simulation per class, without rewards and observations."""
    import mujoco

    from task_distributions.metaworld.single_env import OriginalEnv

    envs = []
    for task in _tasks(mix, 10 if mix == "ml10" else 45):
        original = OriginalEnv(task.class_name, "v2", physics_only=True)
        original.start(task)
        envs.append(original.env)
    actions = _actions(len(envs))

    def advance() -> int:
        for env, action in zip(envs, next(actions), strict=True):
            model, data = env.model, env.data
            moved = data.mocap_pos[0] + 0.01 * action[:3]
            data.mocap_pos[0] = np.minimum(np.maximum(moved, env.mocap_low), env.mocap_high)
            data.ctrl[0], data.ctrl[1] = action[3], -action[3]
            mujoco.mj_step(model, data, nstep=5)
            mujoco.mj_forward(model, data)
        return len(envs)

    return Running(advance)


def metaworld_step(mix: str) -> Running:
    """Metaworld's environments stepped one by one, one per class."""
    envs = [_metaworld_env(task) for task in _tasks(mix, 10 if mix == "ml10" else 45)]
    for env in envs:
        env.reset()
    actions = _actions(len(envs))

    def advance() -> int:
        for env, action in zip(envs, next(actions), strict=True):
            if env.step(action)[3]:
                env.reset()
        return len(envs)

    return Running(advance)


def async_vector(mix: str) -> Running:
    """Gymnasium's AsyncVectorEnv over metaworld's environments, one class per process."""
    import gymnasium

    tasks = _tasks(mix, ASYNC_PROCESSES[mix])
    makers = [partial(_metaworld_env, task) for task in tasks]
    env = gymnasium.vector.AsyncVectorEnv(makers)
    actions = _actions(len(tasks))
    env.reset()

    def advance() -> int:
        env.step(next(actions))
        return len(tasks)

    return Running(advance, env.close)


CONTENDERS = [
    (RAW, raw, 1, 1),
    (OURS, ours, 1, 1),
    ("metaworld step", metaworld_step, 1, 1),
    (RAW, raw, 2, 2),
    (OURS, ours, 2, 2),
    ("AsyncVectorEnv", async_vector, 2, 1),
]
"""Name, start function, cores, processes."""


def main() -> None:
    """Measure and print the table."""
    args = parser(__doc__)
    args.add_argument("--seconds", type=float, default=5.0, help="per contender and mix")
    args.add_argument("--mixes", nargs="+", choices=SIMULATIONS, default=list(SIMULATIONS))
    options = args.parse_args()
    groups = {
        mix: [
            Contender(name, partial(start, mix), cores, processes)
            for name, start, cores, processes in CONTENDERS
        ]
        for mix in options.mixes
    }
    print_contest(groups, options.seconds)


if __name__ == "__main__":
    main()
