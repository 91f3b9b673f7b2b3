"""The memoryless control: two hidden tanh layers, no state.

y = tanh(W u + b), on top of the encoder's own tanh layer (the 64 x 64 policy of arXiv 1703.03400).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from policies.actor_critic import ENCODER_DIM, ActorCritic
from policies.base import Memory, Params
from policies.functional import linear, linear_params, positive


@dataclass(frozen=True)
class MLPCore:
    """The second hidden layer; the encoder is the first."""

    output_dim: int
    time_major: bool = False

    def init_params(self, generator: Generator) -> Params:
        """Return fresh parameters with a leading axis of 1."""
        return linear_params(generator, "mlp", ENCODER_DIM, self.output_dim, 2.0**0.5)

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return the empty memory."""
        return ()

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return the features of every step on its own."""
        return torch.tanh(linear(params, "mlp", u)), memory


def build(
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    hidden_dim: int = 64,
) -> ActorCritic:
    """Build the memoryless policy with a second hidden layer of ``hidden_dim``."""
    positive(hidden_dim=hidden_dim)
    return ActorCritic("mlp", obs_dim, action_dim, MLPCore(hidden_dim), init_std, discrete=discrete)
