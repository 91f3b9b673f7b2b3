"""What an agent is: anything that acts, and optionally remembers, adapts and can be rewound.

Array letters: B episodes played side by side on one task, E episodes of a shot, T time (the
horizon), O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from harness.types import Episodes

Adaptation = Literal["none", "memory", "adapt"]
"""How an agent changes from shot to shot: not at all, by what it observes, or in ``adapt``."""


@dataclass(frozen=True, slots=True)
class TaskEpisodes:
    """The E support episodes of one shot, padded to the horizon; ``mask`` marks the real steps."""

    obs: Float[np.ndarray, "E T O"]
    """Observation before each step."""
    actions: Float[np.ndarray, "E T A"]
    """As the agent returned them; one-hot if discrete."""
    rewards: Float[np.ndarray, "E T"]
    mask: Bool[np.ndarray, "E T"]
    """False after an episode's end, and everywhere in an episode with unstable physics."""
    last_obs: Float[np.ndarray, "E O"]
    """Observation after the last step."""
    terminated: Bool[np.ndarray, " E"]
    """The MDP ended; otherwise the horizon was reached."""
    success: Bool[np.ndarray, " E"]

    @property
    def returns(self) -> Float[np.ndarray, " E"]:
        """Undiscounted return of each episode."""
        total: NDArray[np.float32] = np.where(self.mask, self.rewards, 0.0).sum(-1)
        return total

    @classmethod
    def of(cls, episodes: Episodes) -> TaskEpisodes:
        """Return the episodes of a batch of one task."""
        return cls(
            obs=episodes.obs[0],
            actions=episodes.actions[0],
            rewards=episodes.rewards[0],
            mask=episodes.mask[0],
            last_obs=episodes.last_obs[0],
            terminated=episodes.terminated[0],
            success=episodes.success[0],
        )


@runtime_checkable
class Agent(Protocol):
    """An agent, made afresh for every task by its factory. Only ``act`` is required.

    These methods are called where the agent has them, in this order:

    - ``begin_task(spec: EnvSpec, num_episodes: int, seed: int)``, once: sizes of the environment,
      the most episodes that are played side by side, and a seed below 2**32 for all random numbers.
    - ``begin_episodes(num_episodes: int, query: bool)``: B episodes begin. Query episodes are
      scored; support episodes are for adaptation. Hidden states that belong to one episode are
      reset here.
    - ``act(obs [B, O]) -> [B, A]``: actions in [-1, 1]; if they are discrete, their indices [B] or
      scores [B, A]. Rows whose episode is over are ignored.
    - ``observe(obs, action, reward, terminated, truncated)``: the transition that followed, arrays
      of B rows; ``obs`` is the observation that was acted on. In a row whose episode was over
      before, the reward is 0 and the flags stay set.
    - ``adapt(episodes: TaskEpisodes)``, after the support episodes of every shot.
    - ``snapshot() -> Any`` and ``restore(state)``: query episodes never teach, so the state before
      them is restored after them. Without these two, the agent's path up to each number of shots
      is played anew with the same seeds.

    A shot is ``--episodes-per-shot`` episodes side by side for an agent with ``adapt``. An agent
    with ``observe`` alone adapts by memory: a shot is one episode in each of its B rows, and query
    episode b continues row b. An agent with neither does not adapt.

    Optional attributes: ``batched = False`` for an agent of one episode at a time, whose arrays
    lack the axis B; ``adaptation`` (``"none"``, ``"memory"`` or ``"adapt"``) where the methods do
    not tell; and what the table shows as declared: ``num_params`` and ``train_env_steps``.

    A method ``show_task(task: Task, env: BatchedEnv)`` gives the task away at the beginning of
    episodes; the row then says ``task shown``.
    """

    def act(self, obs: NDArray[np.float64]) -> Any:
        """Return the actions to take at ``obs``."""
        ...


class AgentError(RuntimeError):
    """An agent raised an error, took too long, or returned something that is no action."""


def adaptation_of(agent: Any) -> Adaptation:
    """Return how ``agent`` changes from shot to shot.

    Raises:
        AgentError: its attribute ``adaptation`` has another value.
    """
    declared: Any = getattr(agent, "adaptation", None)
    if declared is None:
        declared = "adapt" if has(agent, "adapt") else "memory" if has(agent, "observe") else "none"
    if declared not in ("none", "memory", "adapt"):
        raise AgentError(f"adaptation is {declared!r}: choose none, memory or adapt")
    found: Adaptation = declared
    return found


def has(agent: Any, method: str) -> bool:
    """Return whether ``agent`` has ``method``."""
    return callable(getattr(agent, method, None))
