"""Meta-World's agents: its scripted experts, and objects of its own agent protocols."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.agents.protocol import AgentError, TaskEpisodes, has
from task_distributions import EnvSpec, Task
from task_distributions.base import BatchedEnv


class ScriptedExpert:
    """Meta-World's scripted policy for the class of each task, with the hidden goal shown.

    Written by hand for every class (arXiv 1910.10897): a reference line for ML10 and ML45, which
    no agent that has to find the goal out should be compared with.
    """

    def show_task(self, task: Task, env: BatchedEnv) -> None:
        """Take the policy of the task's class, and a view of the goals."""
        from metaworld.policies import ENV_POLICY_MAP

        if task.class_name not in ENV_POLICY_MAP or not hasattr(env, "goals"):
            raise AgentError(f"the scripted experts are for Meta-World, not for {task.dist}")
        self._policy, self._env = ENV_POLICY_MAP[task.class_name](), env

    def act(self, obs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return actions [B, 4] at observations [B, 39], whose last three numbers hide the goal."""
        seen = obs.copy()
        seen[:, -3:] = self._env.goals()
        # In float64: metaworld computes the moves of a float32 action in float32.
        return np.array([self._policy.get_action(row) for row in seen], np.float64)


class MetaWorldAgent:
    """An ``Agent`` or ``MetaLearningAgent`` of ``metaworld.evaluation``, as it stands.

    It plays one task in a vector of one environment, as ``metalearning_evaluation`` drives it:
    ``init``; ``adapt_action`` and ``step`` in every support episode, one after the other, and
    ``adapt`` after the last of a shot; ``reset`` and ``eval_action`` in query episodes, which by
    that protocol teach it nothing.
    """

    batched = False

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.adaptation = "adapt" if has(agent, "adapt_action") else "none"
        self.num_params = getattr(agent, "num_params", 0)
        self.train_env_steps = getattr(agent, "train_env_steps", 0)

    def begin_task(self, spec: EnvSpec, num_episodes: int, seed: int) -> None:
        """Forget the last task."""
        if has(self._agent, "init"):
            self._agent.init()

    def begin_episodes(self, num_episodes: int, query: bool) -> None:
        """Begin an episode."""
        self._query = query
        if query:
            self._agent.reset(np.ones(1, np.bool_))

    def act(self, obs: NDArray[np.float64]) -> Any:
        """Return the action [A] at ``obs`` [O]."""
        if self._query:
            return self._agent.eval_action(obs[np.newaxis])[0]
        actions, self._extra = self._agent.adapt_action(obs[np.newaxis])
        return actions[0]

    def observe(self, *transition: Any) -> None:
        """Pass a transition of a support episode on."""
        if not self._query:
            from metaworld.evaluation import Timestep

            rows = (np.asarray(value)[np.newaxis] for value in transition)
            self._agent.step(Timestep(*rows, self._extra))

    def adapt(self, episodes: TaskEpisodes) -> None:
        """Adapt on the transitions that were passed on."""
        self._agent.adapt()

    def snapshot(self) -> None:
        """Keep nothing: query episodes leave the agent as it was."""

    def restore(self, state: None) -> None:
        """Do nothing."""
