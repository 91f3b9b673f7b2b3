"""Rollout throughput as a share of raw ``mj_step``, compared with Gymnasium and SB3.

Every contender plays episodes of at most 200 control steps with the same robots and controls.

    python benchmarks/rollouts.py [--seconds 10] [--robots ant] [--policies ssm gru]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
from common import OURS, RAW, Contender, Running, parser, print_contest
from numpy.typing import NDArray

HORIZON = 200
RAW_SIMULATIONS = 16
"""Few enough to stay in the processor's cache, which is best for the raw loop."""
OUR_SIMULATIONS = 64
PEER_SIMULATIONS = 16

DISTRIBUTIONS = {
    "halfcheetah": "halfcheetah-vel",
    "ant": "ant-vel",
    "walker2d": "walker2d-vel",
}
GYM_IDS = {"halfcheetah": "HalfCheetah-v5", "ant": "Ant-v5", "walker2d": "Walker2d-v5"}

Controller = Callable[[NDArray[np.floating]], NDArray[np.floating]]
"""Observations [B, O] -> actions [B, A]."""


def random_controller(robot: str, simulations: int) -> Controller:
    """Return controls from a table drawn beforehand: drawing them is not measured."""
    action_dim = 8 if robot == "ant" else 6
    table = np.random.default_rng(0).uniform(-1, 1, (997, simulations, action_dim))
    table = table.astype(np.float32)
    cursor = 0

    def act(obs: NDArray[np.floating]) -> NDArray[np.floating]:
        nonlocal cursor
        cursor = (cursor + 1) % len(table)
        return table[cursor]

    return act


def raw(robot: str) -> Running:
    """A Python loop over ``mujoco.mj_step``; nothing else is computed."""
    import mujoco

    from task_distributions import load
    from task_distributions.locomotion.robots import template

    body = load(DISTRIBUTIONS[robot]).family.robot
    start = template(body)
    fallen: dict[str, Callable[[NDArray], bool]] = {
        "halfcheetah": lambda qpos: False,
        "ant": lambda qpos: not 0.2 <= qpos[2] <= 1.0,
        "walker2d": lambda qpos: not (0.8 < qpos[1] < 2.0 and -1.0 < qpos[2] < 1.0),
    }
    qpos, qvel = body.reset_state([np.random.default_rng(b) for b in range(RAW_SIMULATIONS)])
    datas = [mujoco.MjData(start.model) for _ in range(RAW_SIMULATIONS)]
    ages = [HORIZON] * RAW_SIMULATIONS
    act, has_fallen, model = random_controller(robot, RAW_SIMULATIONS), fallen[robot], start.model

    def advance() -> int:
        for b, (data, control) in enumerate(zip(datas, act(qpos), strict=True)):
            if ages[b] == HORIZON or has_fallen(data.qpos):
                mujoco.mj_resetData(model, data)
                data.qpos[:], data.qvel[:] = qpos[b], qvel[b]
                mujoco.mj_forward(model, data)
                ages[b] = 0
            data.ctrl[:] = control
            mujoco.mj_step(model, data, nstep=start.frame_skip)
            ages[b] += 1
        return RAW_SIMULATIONS

    return Running(advance)


def ours(robot: str) -> Running:
    """Our batched engine including tasks, rewards, flags and resets."""
    from task_distributions import load

    dist = load(DISTRIBUTIONS[robot], horizon=HORIZON)
    batch = dist.make_batch(dist.tasks("train")[:8], OUR_SIMULATIONS // 8)
    act, seeds = random_controller(robot, OUR_SIMULATIONS), range(OUR_SIMULATIONS)
    obs, moving = batch.reset(seeds), OUR_SIMULATIONS

    def advance() -> int:
        nonlocal obs, moving
        if moving == 0:
            obs, moving = batch.reset(seeds), OUR_SIMULATIONS
        moved = moving
        out = batch.step(act(obs))
        obs = out.obs
        moving -= int(np.count_nonzero(out.terminated | out.truncated)) - (OUR_SIMULATIONS - moving)
        return moved

    return Running(advance)


def ours_with_policy(policy_name: str, shared: bool, robot: str) -> Running:
    """Complete training rollouts: the engine and a policy.

    Its parameters are shared by the tasks, as in rl2, or each task has its own, as in maml.
    """
    import torch

    import policies
    from harness.meta.rollouts.actor import Actor, rollout
    from harness.meta.rollouts.episode_loop import Clock, draw_noise
    from harness.meta.rollouts.inputs import Inputs
    from harness.meta.rollouts.normalizer import Normalizer
    from policies.params import repeat
    from task_distributions import load

    torch.set_num_threads(1)
    dist = load(DISTRIBUTIONS[robot], horizon=HORIZON)
    spec, tasks, episodes = dist.spec, dist.tasks("train")[:8], OUR_SIMULATIONS // 8
    policy = policies.build(policy_name, obs_dim=spec.obs_dim, action_dim=spec.action_dim)
    params = repeat(policy.init_params(0), 1 if shared else len(tasks))
    actor = Actor(policy, params, Normalizer.identity(spec.obs_dim), 0.1, Inputs(spec))
    generators = [np.random.default_rng(task.index) for task in tasks]
    seeds = list(range(OUR_SIMULATIONS))

    def advance() -> int:
        noise = draw_noise(generators, spec, episodes)
        env = dist.make_batch(tasks, episodes)
        return rollout(env, actor, seeds, noise, Clock())[0].env_steps

    return Running(advance, warm_up=1)


def _gymnasium_makers(robot: str) -> list[Callable]:
    import gymnasium

    options = {"include_cfrc_ext_in_observation": False} if robot == "ant" else {}
    return [
        lambda: gymnasium.make(GYM_IDS[robot], max_episode_steps=HORIZON, **options)
        for _ in range(PEER_SIMULATIONS)
    ]


def gymnasium_vector(kind: str, robot: str) -> Running:
    """A vector environment of Gymnasium."""
    import gymnasium

    env = getattr(gymnasium.vector, kind)(_gymnasium_makers(robot))
    act = random_controller(robot, PEER_SIMULATIONS)
    obs, _ = env.reset(seed=0)

    def advance() -> int:
        nonlocal obs
        obs = env.step(act(obs))[0]
        return PEER_SIMULATIONS

    return Running(advance, env.close)


def sb3_subproc(robot: str) -> Running:
    """The SubprocVecEnv of stable-baselines3."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    env = SubprocVecEnv(_gymnasium_makers(robot))
    act = random_controller(robot, PEER_SIMULATIONS)
    obs = env.reset()

    def advance() -> int:
        nonlocal obs
        obs = env.step(act(obs))[0]
        return PEER_SIMULATIONS

    return Running(advance, env.close)


CONTENDERS: list[tuple[str, Callable[[str], Running], int, int]] = [
    (RAW, raw, 1, 1),
    (OURS, ours, 1, 1),
    ("SyncVectorEnv", partial(gymnasium_vector, "SyncVectorEnv"), 1, 1),
    (RAW, raw, 2, 2),
    (OURS, ours, 2, 2),
    ("AsyncVectorEnv", partial(gymnasium_vector, "AsyncVectorEnv"), 2, 1),
    ("SubprocVecEnv", sb3_subproc, 2, 1),
]
"""Name, start function, cores, processes."""


def contenders(robot: str, peers: bool, policies: list[str]) -> list[Contender]:
    """Return the contenders on ``robot``; stable-baselines3 takes part where it is installed."""
    chosen = [one for one in CONTENDERS if peers or one[0] in (RAW, OURS)]
    if find_spec("stable_baselines3") is None:
        chosen = [one for one in chosen if one[1] is not sb3_subproc]
    for name in policies:
        for shared, whose in ((True, "shared"), (False, "per task")):
            start = partial(ours_with_policy, name, shared)
            chosen.append((f"{OURS}+{name}, {whose}", start, 1, 1))
    return [
        Contender(name, partial(start, robot), cores, processes)
        for name, start, cores, processes in chosen
    ]


def main() -> None:
    """Measure and print the table."""
    args = parser(__doc__)
    args.add_argument("--seconds", type=float, default=5.0, help="per contender and robot")
    args.add_argument("--robots", nargs="+", choices=DISTRIBUTIONS, default=list(DISTRIBUTIONS))
    args.add_argument("--no-peers", action="store_true", help="only raw physics and ours")
    args.add_argument("--policies", nargs="*", default=[], help="also rollouts with these policies")
    options = args.parse_args()
    print_contest(
        {
            robot: contenders(robot, not options.no_peers, options.policies)
            for robot in options.robots
        },
        options.seconds,
    )


if __name__ == "__main__":
    main()
