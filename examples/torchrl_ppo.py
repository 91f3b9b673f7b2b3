"""PPO of TorchRL on the batched engine, through its GymWrapper; ``pip install torchrl``.

python examples/torchrl_ppo.py --steps 1000000
"""

import argparse

import gymnasium
import torch
from tensordict.nn import InteractionType, TensorDictModule
from tensordict.nn.distributions import NormalParamExtractor
from torch import nn
from torchrl.envs import Compose, DoubleToFloat, GymWrapper, RewardSum, TransformedEnv
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE


def main() -> None:
    """Train and print the mean return of finished episodes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--env", default="task_distributions:MetaRL/halfcheetah-vel-v1")
    parser.add_argument("--task", type=int, help="train on this task only")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--num-envs", type=int, default=50)
    parser.add_argument("--length", type=int, default=200, help="steps per environment and update")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--minibatches", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    options = {"task": args.task, "split": "train", "autoreset_mode": "SameStep"}
    envs = GymWrapper(gymnasium.make_vec(args.env, args.num_envs, **options))
    env = TransformedEnv(envs, Compose(DoubleToFloat(), RewardSum()))
    env.set_seed(args.seed)
    width = env.action_spec.shape[-1]
    net = nn.Sequential(
        MLP(out_features=2 * width, num_cells=[64, 64], activation_class=nn.Tanh),
        NormalParamExtractor(),
    )
    actor = ProbabilisticActor(
        TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
        default_interaction_type=InteractionType.RANDOM,
    )
    critic = ValueOperator(
        MLP(out_features=1, num_cells=[64, 64], activation_class=nn.Tanh), in_keys=["observation"]
    )
    start = env.reset()
    critic(actor(start))  # gives the lazy layers their sizes
    gae = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.0, normalize_advantage=True)
    optimizer = torch.optim.Adam(loss.parameters(), 3e-4)

    for update in range(max(1, args.steps // (args.num_envs * args.length))):
        with torch.no_grad():
            batch = env.rollout(args.length, actor, break_when_any_done=False)
            gae(batch)
        flat = batch.flatten(0, 1)
        for _ in range(args.epochs):
            for rows in torch.randperm(len(flat)).chunk(args.minibatches):
                losses = loss(flat[rows])
                optimizer.zero_grad()
                (losses["loss_objective"] + losses["loss_critic"]).backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()
        over = batch["next", "done"]
        if over.any():
            mean = batch["next", "episode_reward"][over].mean().item()
            print(f"{(update + 1) * flat.numel():>9} steps  return {mean:.1f}", flush=True)
    env.close()


if __name__ == "__main__":
    main()
