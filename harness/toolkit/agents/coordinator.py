"""Several agents at once, in sequence or in threads of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from harness.toolkit.agents.base import Agent
from harness.toolkit.online import step_env

MODES: tuple[str, ...] = ("sequence", "threads")


class AgentCoordinator:
    """Runs registered agents side by side; results come in the order of registration.

    Args:
        mode: ``sequence``, or ``threads`` for a thread per agent: torch and MuJoCo work outside
            Python's lock. Agents draw from generators of their own, so both give the same numbers.

    Raises:
        ValueError: unknown mode.
    """

    def __init__(self, mode: str = "sequence") -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; have: {', '.join(MODES)}. Pick one")
        self.mode = mode
        self.agents: dict[str, Agent] = {}

    def register_agent(self, agent: Agent, agent_id: str) -> None:
        """Add ``agent`` under a name of its own.

        Raises:
            ValueError: the name is taken.
        """
        if agent_id in self.agents:
            raise ValueError(f"agent id {agent_id!r} is taken; give each agent an id of its own")
        self.agents[agent_id] = agent

    def run_step_all(self, observations: Sequence[Any] | np.ndarray) -> list[Any]:
        """Return the action of every agent for its observation.

        Raises:
            ValueError: not one observation each.
        """
        self._one_each("observations", observations)
        return self._each(lambda agent, obs: agent.act(obs), observations)

    def adapt_all(self, **arguments: Any) -> dict[str, dict[str, float]]:
        """Let every agent adapt; return what happened, by agent."""
        return self._named(self._each(lambda agent, _: agent.adapt(**arguments), self.agents))

    def update_all(self, **arguments: Any) -> dict[str, dict[str, float]]:
        """Let every agent learn across tasks; return what happened, by agent."""
        return self._named(self._each(lambda agent, _: agent.update(**arguments), self.agents))

    def run_episodes(
        self,
        envs: Any,
        num_episodes: int = 1,
        max_steps: int | None = None,
        adapt_between: bool = False,
    ) -> dict[str, list[float]]:
        """Play episodes; return every agent's returns.

        Args:
            envs: a sequence of Gymnasium environments, one per agent, which plays on its own; or
                one batched environment with a row per agent, stepped for all at once.
            num_episodes: per agent.
            max_steps: cuts episodes short.
            adapt_between: agents adapt to what they did, after every episode but the last.

        Raises:
            ValueError: not one environment, or one row, per agent.
        """
        if isinstance(envs, Sequence):
            self._one_each("environments", envs)
            played = self._each(
                lambda agent, env: _play(agent, env, num_episodes, max_steps, adapt_between), envs
            )
            return self._named(played)
        returns: dict[str, list[float]] = {agent_id: [] for agent_id in self.agents}
        for episode in range(num_episodes):
            for agent_id, total in zip(returns, self._play_batch(envs, max_steps), strict=True):
                returns[agent_id].append(total)
            if adapt_between and episode + 1 < num_episodes:
                self.adapt_all()
        return returns

    def _play_batch(self, env: Any, max_steps: int | None) -> list[float]:
        result = env.reset()
        observations = result[0] if isinstance(result, tuple) else result
        self._one_each("rows of observations", observations)
        for agent in self.agents.values():
            agent.reset()
        totals, over = [0.0] * len(self.agents), [False] * len(self.agents)
        step = 0
        while not all(over) and (max_steps is None or step < max_steps):
            actions = self.run_step_all(observations)
            observations, rewards, *ended = env.step(np.stack(actions))
            done = np.asarray(ended[0], dtype=bool).reshape(-1)
            cut = np.asarray(ended[1], dtype=bool) if len(ended) == 3 else np.zeros_like(done)
            step += 1
            for row, agent in enumerate(self.agents.values()):
                if not over[row]:
                    totals[row] += float(rewards[row])
                    last = step == max_steps
                    agent.observe(
                        observations[row],
                        actions[row],
                        float(rewards[row]),
                        bool(done[row]),
                        bool(cut[row]) or last,
                    )
                    over[row] = bool(done[row] or cut[row])
        return totals

    def _each(
        self, call: Callable[[Agent, Any], Any], arguments: Sequence[Any] | Mapping | np.ndarray
    ) -> list[Any]:
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

    def _named(self, results: list[Any]) -> dict[str, Any]:
        return dict(zip(self.agents, results, strict=True))

    def _one_each(self, what: str, given: Any) -> None:
        if len(given) != len(self.agents):
            raise ValueError(
                f"{len(given)} {what} for {len(self.agents)} agents "
                f"({', '.join(self.agents)}); pass one each, in this order"
            )


def _play(
    agent: Agent, env: Any, num_episodes: int, max_steps: int | None, adapt_between: bool
) -> list[float]:
    """Return the agent's returns on an environment of its own."""
    returns = []
    for episode in range(num_episodes):
        result = env.reset()
        obs = result[0] if isinstance(result, tuple) else result
        agent.reset()
        total, step, over = 0.0, 0, False
        while not over:
            action = agent.act(np.asarray(obs).reshape(-1))
            obs, reward, terminated, truncated = step_env(env, np.asarray(action))
            total, step = total + reward, step + 1
            truncated = truncated or step == max_steps
            agent.observe(obs, action, reward, terminated, truncated)
            over = terminated or truncated
        returns.append(total)
        if adapt_between and episode + 1 < num_episodes:
            agent.adapt()
    return returns
