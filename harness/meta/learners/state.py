"""What the learner side owns between iterations, and how it goes into a checkpoint and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.meta.learners.base import PolicyState, Report
from harness.meta.rollouts.normalizer import Moments, Normalizer
from policies.base import Params
from policies.params import clone


@dataclass(slots=True)
class LearnerState:
    """Meta-parameters, their optimiser, and the running statistics of the training data."""

    params: Params
    optimizer: torch.optim.Adam
    moments: Moments
    return_moments: tuple[float, float, float]
    normalize_obs: bool
    iteration: int = 0
    env_steps: int = 0
    skipped: int = 0
    """Updates skipped in a row for a non-finite gradient."""

    @classmethod
    def fresh(cls, params: Params, lr: float, obs_dim: int, normalize_obs: bool) -> LearnerState:
        """Return the state before the first iteration."""
        leaves = clone(params)
        optimizer = torch.optim.Adam(list(leaves.values()), lr=lr)
        return cls(leaves, optimizer, Moments.zero(obs_dim), (0.0, 0.0, 0.0), normalize_obs)

    def policy_state(self) -> PolicyState:
        """Return a snapshot that later updates do not touch."""
        count, total, square = self.return_moments
        variance = square / count - (total / count) ** 2 if count else 1.0
        obs_dim = len(self.moments.total)
        normalizer = (
            self.moments.normalizer() if self.normalize_obs else Normalizer.identity(obs_dim)
        )
        return PolicyState(self.snapshot(), normalizer, max(variance, 1e-8) ** 0.5)

    def snapshot(self) -> Params:
        """Return a copy of the meta-parameters."""
        return clone(self.params)

    def adam_step(self, gradient: Params) -> None:
        """Take one Adam step along ``gradient``."""
        for name, value in self.params.items():
            value.grad = gradient[name]
        self.optimizer.step()

    def absorb(self, reports: Sequence[Report]) -> None:
        """Count one iteration's data; called once it has been learned from."""
        self.iteration += 1
        for report in reports:
            self.env_steps += report.env_steps
            self.moments = self.moments + report.moments
            old, new = self.return_moments, report.return_moments
            self.return_moments = (old[0] + new[0], old[1] + new[1], old[2] + new[2])

    def save(self) -> tuple[Params, dict[str, Any]]:
        """Return everything as named tensors and JSON values."""
        tensors = {f"params/{name}": value for name, value in self.params.items()}
        for name, value in self.params.items():
            for key, moment in self.optimizer.state.get(value, {}).items():
                tensors[f"adam/{key}/{name}"] = moment
        tensors["obs/total"] = torch.from_numpy(self.moments.total)
        tensors["obs/square"] = torch.from_numpy(self.moments.square)
        meta = {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "skipped": self.skipped,
            "obs_count": self.moments.count,
            "return_moments": list(self.return_moments),
        }
        return tensors, meta

    def load(self, tensors: Params, meta: dict[str, Any]) -> None:
        """Become what ``save`` returned ``tensors`` and ``meta`` for."""
        for name, value in self.params.items():
            value.copy_(tensors[f"params/{name}"])
            adam = {
                key.split("/")[1]: tensor.clone()
                for key, tensor in tensors.items()
                if key.startswith("adam/") and key.split("/", 2)[2] == name
            }
            if adam:
                self.optimizer.state[value] = adam
        total, square = tensors["obs/total"].numpy(), tensors["obs/square"].numpy()
        self.moments = Moments(float(meta["obs_count"]), np.array(total), np.array(square))
        count, returns, squares = meta["return_moments"]
        self.return_moments = (float(count), float(returns), float(squares))
        self.iteration = int(meta["iteration"])
        self.env_steps = int(meta["env_steps"])
        self.skipped = int(meta["skipped"])
