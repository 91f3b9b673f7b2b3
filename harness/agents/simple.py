"""The shortest agents, which also show how one is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from harness.agents.protocol import AgentError
from task_distributions import EnvSpec


class RandomAgent:
    """Takes uniformly random actions: the same as the reference line ``random-action``."""

    def begin_task(self, spec: EnvSpec, num_episodes: int, seed: int) -> None:
        """Seed the actions."""
        self._rng, self._width = np.random.default_rng(seed), spec.action_dim

    def act(self, obs: NDArray[np.float64]) -> NDArray[Any]:
        """Return random actions [B, A]; the largest of several is at a random place."""
        return self._rng.uniform(-1, 1, (len(obs), self._width)).astype(np.float32)


@dataclass(frozen=True)
class ObjectSettings:
    """Settings of the agent ``object``."""

    of: str = ""
    """What was given: its module and name."""


class ObjectAgent:
    """Stands for an agent that was given to ``harness.score`` in Python, and has no name."""

    def __init__(self, settings: ObjectSettings = ObjectSettings()) -> None:
        raise AgentError(
            f"{settings.of or 'an object'} was scored from Python and cannot be made from its "
            "name: score it from there again"
        )


@dataclass(frozen=True)
class ConstantSettings:
    """Settings of the ``constant`` agent."""

    value: Annotated[float, Ge(-1), Le(1)] = 0.0
    """Every number of the action."""


class ConstantAgent:
    """Takes the same action always; 0 is the reference line ``zero-action``."""

    num_params = 1

    def __init__(self, settings: ConstantSettings = ConstantSettings()) -> None:
        self._value = settings.value

    def begin_task(self, spec: EnvSpec, num_episodes: int, seed: int) -> None:
        """Take over the size of an action."""
        self._width = spec.action_dim

    def act(self, obs: NDArray[np.float64]) -> NDArray[Any]:
        """Return actions [B, A]."""
        return np.full((len(obs), self._width), self._value)
