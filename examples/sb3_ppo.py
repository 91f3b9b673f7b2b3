"""PPO of Stable-Baselines3 on ant-vel, with the batched engine; ``pip install stable-baselines3``.

    python examples/sb3_ppo.py --steps 1000000 --out ant_vel_ppo.zip

The model learns one policy for all training tasks, without seeing which task it plays.
"""

import argparse

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from task_distributions.sb3 import SB3VecEnv


def main() -> None:
    """Train and save a model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--env", default="task_distributions:MetaRL/ant-vel-v1")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--num-envs", type=int, default=50)
    parser.add_argument("--n-steps", type=int, default=200, help="per environment and iteration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="ant_vel_ppo.zip")
    args = parser.parse_args()

    envs = gymnasium.make_vec(args.env, args.num_envs, split="train", autoreset_mode="SameStep")
    model = PPO(
        "MlpPolicy",
        VecMonitor(SB3VecEnv(envs)),
        n_steps=args.n_steps,
        batch_size=args.n_steps * args.num_envs // 10,
        seed=args.seed,
        device="cpu",
        verbose=1,
    )
    model.learn(args.steps)
    model.save(args.out)
    envs.close()


if __name__ == "__main__":
    main()
