"""Several agents at once, in sequence or one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from harness.toolkit.agents import Agent, ModuleAgent
from harness.toolkit.online import reset_env, step_env

MODES: tuple[str, ...] = ("sequence", "threads")


class AgentCoordinator:
    """Runs the registered agents side by side; results are in the order of registration.

    Args:
        mode: ``sequence``, or ``threads`` for one thread per agent (torch and MuJoCo release the
            GIL while they compute). As each agent has its own random generator, both modes give
            the same numbers.

    Raises:
        ValueError: the mode is unknown.
    """

    def __init__(self, mode: str = "sequence") -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; choose from: {', '.join(MODES)}")
        self.mode = mode
        self.agents: dict[str, Agent] = {}

    def register_agent(self, agent: Agent, agent_id: str) -> None:
        """Add ``agent`` under a unique name.

        Raises:
            ValueError: the name is taken, or in mode ``threads`` another agent has the same module.
        """
        if agent_id in self.agents:
            raise ValueError(f"agent id {agent_id!r} is taken; give each agent its own")
        if self.mode == "threads" and isinstance(agent, ModuleAgent):
            for other_id, other in self.agents.items():
                if isinstance(other, ModuleAgent) and other.model is agent.model:
                    raise ValueError(
                        f"agents {other_id!r} and {agent_id!r} have the same module, which is not "
                        "thread-safe; give each a copy (copy.deepcopy), or use mode 'sequence'"
                    )
        self.agents[agent_id] = agent

    def run_step_all(self, observations: Sequence[Any] | np.ndarray) -> list[Any]:
        """Return each agent's action for its observation.

        Raises:
            ValueError: there is not one observation per agent.
        """
        self._check_one_each("observations", observations)
        return self._run_all(lambda agent, obs: agent.act(obs), observations)

    def adapt_all(self, **arguments: Any) -> dict[str, dict[str, float]]:
        """Let every agent adapt; return their statistics by agent."""
        return self._by_agent(self._run_all(lambda agent, _: agent.adapt(**arguments), self.agents))

    def run_episodes(
        self,
        envs: Any,
        num_episodes: int = 1,
        max_steps: int | None = None,
        adapt_between: bool = False,
    ) -> dict[str, list[float]]:
        """Play episodes; return each agent's returns.

        Args:
            envs: a sequence of environments, one per agent, played independently; or one batched
                environment with a row per agent, stepped for all agents at once.
            num_episodes: per agent.
            max_steps: truncates episodes.
            adapt_between: adapt after every episode but the last.

        Raises:
            ValueError: there is not one environment, or one row, per agent.
        """
        if isinstance(envs, Sequence):
            self._check_one_each("environments", envs)

            def play(agent: Agent, env: Any) -> list[float]:
                return _play(agent, env, num_episodes, max_steps, adapt_between)

            return self._by_agent(self._run_all(play, envs))
        returns: dict[str, list[float]] = {agent_id: [] for agent_id in self.agents}
        for episode in range(num_episodes):
            for agent_id, total in zip(returns, self._play_batch(envs, max_steps), strict=True):
                returns[agent_id].append(total)
            if adapt_between and episode + 1 < num_episodes:
                self.adapt_all()
        return returns

    def _play_batch(self, env: Any, max_steps: int | None) -> list[float]:
        """Return each agent's return in one episode of a batched environment."""
        result = env.reset()
        observations = result[0] if isinstance(result, tuple) else result
        self._check_one_each("rows of observations", observations)
        for agent in self.agents.values():
            agent.reset()
        totals, done = [0.0] * len(self.agents), [False] * len(self.agents)
        step = 0
        while not all(done) and (max_steps is None or step < max_steps):
            actions = self.run_step_all(observations)
            observations, rewards, *ends = env.step(np.stack(actions))
            terminated = np.asarray(ends[0], dtype=bool).reshape(-1)
            info = ends[-1] if isinstance(ends[-1], Mapping) else {}
            if len(ends) == 3:
                truncated = np.asarray(ends[1], bool)
            else:
                truncated = terminated & np.asarray(info.get("truncated", False), bool)
                terminated = terminated & ~truncated
            step += 1
            for row, agent in enumerate(self.agents.values()):
                if done[row]:
                    continue
                reward = float(rewards[row])
                totals[row] += reward
                end = bool(terminated[row]), bool(truncated[row]) or step == max_steps
                obs = observations[row]
                if any(end) and "final_obs" in info and info["final_obs"][row] is not None:
                    obs = info["final_obs"][row]  # ``observations`` has the next episode's first
                agent.observe(obs, actions[row], reward, *end)
                done[row] = any(end)
        return totals

    def _run_all(self, call: Callable[[Agent, Any], Any], arguments: Iterable[Any]) -> list[Any]:
        """Return ``call(agent, argument)`` for each agent and its argument."""

        def run(agent_id: str, argument: Any) -> Any:
            try:
                return call(self.agents[agent_id], argument)
            except Exception as error:
                error.add_note(f"in agent {agent_id!r}")
                raise

        if self.mode == "sequence" or len(self.agents) < 2:
            return [run(*pair) for pair in zip(self.agents, arguments, strict=True)]
        with ThreadPoolExecutor(len(self.agents)) as pool:
            return list(pool.map(run, self.agents, arguments))

    def _by_agent(self, results: list[Any]) -> dict[str, Any]:
        return dict(zip(self.agents, results, strict=True))

    def _check_one_each(self, name: str, items: Any) -> None:
        if len(items) != len(self.agents):
            raise ValueError(
                f"{len(items)} {name} for {len(self.agents)} agents "
                f"({', '.join(self.agents)}); pass one per agent, in this order"
            )


def _play(
    agent: Agent, env: Any, num_episodes: int, max_steps: int | None, adapt_between: bool
) -> list[float]:
    """Return the agent's returns in its own environment."""
    returns = []
    for episode in range(num_episodes):
        obs = reset_env(env)
        agent.reset()
        total, step, done = 0.0, 0, False
        while not done:
            action = agent.act(np.asarray(obs))
            obs, reward, terminated, truncated = step_env(env, np.asarray(action))
            total, step = total + reward, step + 1
            truncated = truncated or step == max_steps
            agent.observe(obs, action, reward, terminated, truncated)
            done = terminated or truncated
        returns.append(total)
        if adapt_between and episode + 1 < num_episodes:
            agent.adapt()
    return returns
