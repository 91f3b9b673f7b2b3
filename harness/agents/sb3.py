"""Models of Stable-Baselines3 and sb3-contrib, from a saved file."""

from __future__ import annotations

import importlib
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.agents.files import File
from harness.agents.protocol import AgentError
from task_distributions import EnvSpec

PACKAGES = ("stable_baselines3", "sb3_contrib")


@dataclass(frozen=True)
class SB3Settings:
    """Settings of the agent ``sb3``."""

    path: File | None = None
    """File that the model's save() wrote. It holds pickled code: open only files that you trust."""
    algorithm: str = "PPO"
    """Class of the model: PPO, SAC, TD3, A2C, DQN, RecurrentPPO, TQC, …"""
    deterministic: bool = True
    """Take the likeliest action rather than sample."""
    vecnormalize: File | None = None
    """File that VecNormalize.save() wrote, for observations that were normalised in training."""


class SB3Agent:
    """A trained model; recurrent ones start every episode with a fresh state."""

    def __init__(self, model: Any, *, deterministic: bool = True, normalize: Any = None) -> None:
        self._model, self._deterministic = model, deterministic
        self._normalize = normalize or (lambda obs: obs)
        self.num_params = sum(part.numel() for part in model.policy.parameters())
        self.train_env_steps = int(model.num_timesteps)

    def begin_task(self, spec: EnvSpec, num_episodes: int, seed: int) -> None:
        """Seed the sampling of actions."""
        self._model.set_random_seed(seed)

    def begin_episodes(self, num_episodes: int, query: bool) -> None:
        """Begin with a fresh state."""
        self._state, self._starts = None, np.ones(num_episodes, np.bool_)

    def act(self, obs: NDArray[np.float64]) -> Any:
        """Return actions [B, A], or their indices [B]."""
        actions, self._state = self._model.predict(
            self._normalize(obs.astype(np.float32)),
            state=self._state,
            episode_start=self._starts,
            deterministic=self._deterministic,
        )
        self._starts = np.zeros_like(self._starts)
        return actions


def sb3_agent(settings: SB3Settings = SB3Settings()) -> SB3Agent:
    """Load the model.

    Raises:
        AgentError: there is no such algorithm, or no file is given.
    """
    if settings.path is None:
        raise AgentError("sb3: path is missing: name the saved model")
    model = algorithm(settings.algorithm).load(settings.path, device="cpu")
    statistics = settings.vecnormalize
    normalize = None
    if statistics is not None:
        normalize = pickle.loads(statistics.read_bytes()).normalize_obs
    return SB3Agent(model, deterministic=settings.deterministic, normalize=normalize)


def algorithm(name: str) -> Any:
    """Return the class of models called ``name``.

    Raises:
        AgentError: neither package has it, or they are not installed.
    """
    missing = []
    for package in PACKAGES:
        try:
            module = importlib.import_module(package)
        except ImportError:
            missing.append(package)
            continue
        if hasattr(getattr(module, name, None), "load"):
            return getattr(module, name)
    hint = f"; not installed: {', '.join(missing)}" if missing else ""
    raise AgentError(f"sb3: there is no algorithm {name!r} in {' and '.join(PACKAGES)}{hint}")
