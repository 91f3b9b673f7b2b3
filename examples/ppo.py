"""PPO in one file, in the manner of CleanRL, on a Gymnasium vector environment of this project.

    python examples/ppo.py --steps 1000000
    python examples/ppo.py --env task_distributions:MetaRL/point_goal-v1 --history

``--history`` appends the previous action, the previous reward and the episode boundary to the
observation, which a policy with memory would need to infer its task.
"""

import argparse
import itertools

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import Tensor, nn
from torch.distributions import Normal

from task_distributions.history import HistoryObservation


class Agent(nn.Module):
    """A Gaussian policy and a value function, each with two hidden layers."""

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        super().__init__()
        self.value = self._network(obs_dim, 1, scale=1.0)
        self.mean = self._network(obs_dim, action_dim, scale=0.01)
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    @staticmethod
    def _network(inputs: int, outputs: int, scale: float) -> nn.Sequential:
        widths, layers = [inputs, 64, 64, outputs], []
        for depth, (before, after) in enumerate(itertools.pairwise(widths)):
            layer = nn.Linear(before, after)
            nn.init.orthogonal_(layer.weight, scale if depth == 2 else np.sqrt(2))
            nn.init.zeros_(layer.bias)
            layers += [layer] if depth == 2 else [layer, nn.Tanh()]
        return nn.Sequential(*layers)

    def policy(self, obs: Tensor) -> Normal:
        """Return the distribution of actions."""
        return Normal(self.mean(obs), self.log_std.exp())


def advantages(
    rewards: Tensor, values: Tensor, next_values: Tensor, over: Tensor, gamma: float, decay: float
) -> Tensor:
    """Return generalised advantages [T, B] (arXiv 1506.02438).

    Args:
        rewards: [T, B]
        values: [T, B]
        next_values: [T, B] value of the observation after each step; 0 where the MDP ended.
        over: [T, B] the episode is over after the step.
        gamma: discount.
        decay: lambda.
    """
    deltas = rewards + gamma * next_values - values
    result, running = torch.zeros_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        running = deltas[t] + gamma * decay * ~over[t] * running
        result[t] = running
    return result


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
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--history", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    # SameStep: every step counts, and final_obs holds the observation to bootstrap from.
    options = {"task": args.task, "split": "train", "autoreset_mode": "SameStep"}
    envs = gymnasium.make_vec(args.env, args.num_envs, **options)
    recorded = RecordEpisodeStatistics(envs, buffer_length=args.num_envs)
    envs = HistoryObservation(recorded) if args.history else recorded
    obs_dim, action_dim = (
        space.shape[0] for space in (envs.single_observation_space, envs.single_action_space)
    )
    agent = Agent(obs_dim, action_dim)
    optimizer = torch.optim.Adam(agent.parameters(), args.learning_rate, eps=1e-5)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32)

    obs = tensor(envs.reset(seed=args.seed)[0])
    for update in range(max(1, args.steps // (args.num_envs * args.length))):
        batch: dict[str, list[Tensor]] = {
            key: [] for key in ("obs", "action", "log_prob", "reward", "next_value", "over")
        }
        for _ in range(args.length):
            with torch.no_grad():
                policy = agent.policy(obs)
                action = policy.sample()
                log_prob = policy.log_prob(action).sum(-1)
            result, reward, terminated, truncated, infos = envs.step(action.numpy())
            over, after = terminated | truncated, np.array(result)
            if over.any():
                after[over] = np.stack(infos["final_obs"][over])
            with torch.no_grad():
                next_value = agent.value(tensor(after))[:, 0] * ~torch.from_numpy(terminated)
            step = (obs, action, log_prob, tensor(reward), next_value, torch.from_numpy(over))
            for column, value in zip(batch.values(), step, strict=True):
                column.append(value)
            obs = tensor(result)

        data = {key: torch.stack(column) for key, column in batch.items()}
        with torch.no_grad():
            values = agent.value(data["obs"])[..., 0]
            gains = advantages(
                data["reward"], values, data["next_value"], data["over"], args.gamma, 0.95
            )
        flat = {key: data[key].flatten(0, 1) for key in ("obs", "action", "log_prob")}
        flat |= {"gain": gains.flatten(), "target": (gains + values).flatten()}
        for _ in range(args.epochs):
            for rows in torch.randperm(len(flat["gain"])).chunk(args.minibatches):
                part = {key: column[rows] for key, column in flat.items()}
                policy = agent.policy(part["obs"])
                ratio = (policy.log_prob(part["action"]).sum(-1) - part["log_prob"]).exp()
                gain = (part["gain"] - part["gain"].mean()) / (part["gain"].std() + 1e-8)
                surrogate = torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
                error = (agent.value(part["obs"])[:, 0] - part["target"]).square().mean()
                optimizer.zero_grad()
                (0.5 * error - surrogate).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        if recorded.return_queue:
            steps = (update + 1) * args.num_envs * args.length
            print(f"{steps:>9} steps  return {np.mean(recorded.return_queue):.1f}", flush=True)
    envs.close()


if __name__ == "__main__":
    main()
