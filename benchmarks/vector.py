"""Our VectorEnv against its engine and against other vectors of our environments.

The peers are Gymnasium's and SB3's vectors of our single environments. All play the same tasks with
random controls and start finished episodes again.

    python benchmarks/vector.py [--seconds 10] [--dist ant-vel ...] [--no-peers]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from common import Contender, Running, parser, print_contest
from numpy.typing import NDArray

ENGINE, VECTOR = "engine", "VectorEnv"
HORIZON = 200
OUR_ENVS = 64
PEER_ENVS = 16
DISTRIBUTIONS = ["halfcheetah-vel", "ant-vel", "walker2d-vel", "metaworld-ml10"]


def _id(name: str) -> str:
    from task_distributions import load

    return f"task_distributions:MetaRL/{name}-v{load(name).version}"


def controls(name: str, envs: int) -> Callable[[], NDArray[np.float32]]:
    """Return a source of controls [envs, A], drawn beforehand: drawing them is not measured."""
    from task_distributions import load

    width = load(name).spec.action_dim
    table = np.random.default_rng(0).uniform(-1, 1, (997, envs, width)).astype(np.float32)
    cursor = 0

    def act() -> NDArray[np.float32]:
        nonlocal cursor
        cursor = (cursor + 1) % len(table)
        return table[cursor]

    return act


def engine(name: str) -> Running:
    """The engine alone, with as many restarts of finished episodes as the vector has."""
    from task_distributions import load

    dist = load(name, horizon=HORIZON)
    tasks = dist.tasks("train")
    batch = dist.make_batch([tasks[b % len(tasks)] for b in range(OUR_ENVS)], 1)
    rngs = [np.random.default_rng(b) for b in range(OUR_ENVS)]
    act = controls(name, OUR_ENVS)
    batch.restart(np.arange(OUR_ENVS), rngs)

    def advance() -> int:
        out = batch.step(act())
        over = out.terminated | out.truncated
        if over.any():
            rows = np.flatnonzero(over)
            batch.restart(rows, [rngs[b] for b in rows])
        return OUR_ENVS

    return Running(advance)


def vector(mode: str, name: str) -> Running:
    """Our VectorEnv; the steps with which NEXT_STEP starts episodes are not counted."""
    import gymnasium

    env = gymnasium.make_vec(
        _id(name), OUR_ENVS, split="train", max_episode_steps=HORIZON, autoreset_mode=mode
    )
    act, over = controls(name, OUR_ENVS), np.zeros(OUR_ENVS, np.bool_)
    env.reset(seed=0)

    def advance() -> int:
        nonlocal over
        moved = OUR_ENVS - (np.count_nonzero(over) if mode == "NextStep" else 0)
        _, _, terminated, truncated, _ = env.step(act())
        over = terminated | truncated
        return moved

    return Running(advance)


def sb3_adapter(name: str) -> Running:
    """Our VectorEnv behind ``SB3VecEnv``."""
    import gymnasium

    from task_distributions.sb3 import SB3VecEnv

    options = {"max_episode_steps": HORIZON, "autoreset_mode": "SameStep"}
    env = SB3VecEnv(gymnasium.make_vec(_id(name), OUR_ENVS, split="train", **options))
    act = controls(name, OUR_ENVS)
    env.reset()

    def advance() -> int:
        env.step(act())
        return OUR_ENVS

    return Running(advance)


def _makers(name: str) -> list[Callable]:
    import gymnasium

    options = {"split": "train", "max_episode_steps": HORIZON}
    return [partial(gymnasium.make, _id(name), task=b, **options) for b in range(PEER_ENVS)]


def gymnasium_vector(kind: str, name: str) -> Running:
    """A vector environment of Gymnasium over our single environments."""
    import gymnasium

    env = getattr(gymnasium.vector, kind)(_makers(name))
    act = controls(name, PEER_ENVS)
    env.reset(seed=0)

    def advance() -> int:
        env.step(act())
        return PEER_ENVS

    return Running(advance, env.close)


def sb3_subproc(name: str) -> Running:
    """The SubprocVecEnv of stable-baselines3 over our single environments."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    env = SubprocVecEnv(_makers(name))
    act = controls(name, PEER_ENVS)
    env.reset()

    def advance() -> int:
        env.step(act())
        return PEER_ENVS

    return Running(advance, env.close)


OURS: list[tuple[str, Callable[[str], Running], int, int]] = [
    (ENGINE, engine, 1, 1),
    (VECTOR, partial(vector, "SameStep"), 1, 1),
    (f"{VECTOR} NextStep", partial(vector, "NextStep"), 1, 1),
    (f"{VECTOR} for SB3", sb3_adapter, 1, 1),
    (ENGINE, engine, 2, 2),
    (VECTOR, partial(vector, "SameStep"), 2, 2),
]
PEERS: list[tuple[str, Callable[[str], Running], int, int]] = [
    ("SyncVectorEnv", partial(gymnasium_vector, "SyncVectorEnv"), 1, 1),
    ("AsyncVectorEnv", partial(gymnasium_vector, "AsyncVectorEnv"), 2, 1),
    ("SubprocVecEnv", sb3_subproc, 2, 1),
]
"""Name, start function, cores, processes."""


def main() -> None:
    """Print the table."""
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=10.0, help="seconds per contender")
    options.add_argument("--dist", nargs="+", default=DISTRIBUTIONS)
    options.add_argument("--no-peers", action="store_true", help="the engine and VectorEnv only")
    args = options.parse_args()
    chosen = OURS if args.no_peers else OURS + PEERS
    contenders = {
        name: [
            Contender(label, partial(start, name), cores, processes)
            for label, start, cores, processes in chosen
        ]
        for name in args.dist
    }
    print_contest(contenders, args.seconds, ENGINE, VECTOR)


if __name__ == "__main__":
    main()
