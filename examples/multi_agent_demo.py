"""Several agents side by side, each on its own task and with its own way of adapting.

    python examples/multi_agent_demo.py [--task-dist point_goal] [--episodes 4] [--mode threads]

The policies are untrained, so that the script finishes in seconds; the returns are not meaningful.
Use ``python -m harness.run`` for meta-training.
"""

from __future__ import annotations

import argparse
from statistics import fmean

import gymnasium
import torch

from harness.toolkit import (
    AdaptationAgent,
    AdaptationConfig,
    Adapter,
    Agent,
    AgentCoordinator,
    MetaMAML,
    MetaMAMLAgent,
)
from policies.modules import PolicyModule


def make_agent(number: int, policy: str, env: gymnasium.Env) -> tuple[str, Agent]:
    """Return a name and an agent: one using MAML for even numbers, an adapter for odd ones."""
    torch.manual_seed(number)
    model = PolicyModule(
        policy, obs_dim=env.observation_space.shape[0], action_dim=env.action_space.shape[0]
    )
    if number % 2:
        adapter = Adapter(model, AdaptationConfig(lr=3e-3, num_steps=10, trust_radius=1.0))
        return f"{policy} / adapter", AdaptationAgent(adapter, seed=number)
    return f"{policy} / maml", MetaMAMLAgent(MetaMAML(model, inner_lr=0.05), seed=number)


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Play and print the episodes; return each agent's returns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task-dist", default="point_goal")
    parser.add_argument("--policies", nargs="+", default=["ssm", "gru", "lstm", "transformer"])
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--max-steps", type=int, default=None)
    parser.add_argument("--mode", choices=["sequence", "threads"], default="threads")
    options = parser.parse_args(arguments)
    coordinator, envs = AgentCoordinator(options.mode), []
    for number, policy in enumerate(options.policies):
        name = f"task_distributions:MetaRL/{options.task_dist}-v1"
        env = gymnasium.make(name, split="test", task=number)
        env.reset(seed=number)
        agent_id, agent = make_agent(number, policy, env)
        coordinator.register_agent(agent, agent_id)
        envs.append(env)
    returns = coordinator.run_episodes(
        envs, options.episodes, options.max_steps, adapt_between=True
    )
    print(f"{options.task_dist}, test tasks 0 to {len(envs) - 1}, adapting after every episode")
    for agent_id, each in returns.items():
        episodes = " ".join(f"{value:8.1f}" for value in each)
        print(f"{agent_id:22}{episodes}   mean {fmean(each):8.1f}")
    return returns


if __name__ == "__main__":
    main()
