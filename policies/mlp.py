"""The memoryless control: hidden tanh layers, no state.

y = tanh(W u + b), on top of the encoder's own tanh layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Generator, Tensor

from policies.actor_critic import factory
from policies.base import Memory, Params
from policies.functional import linear, linear_params
from policies.fused.step import Arrays, dense_tanh
from policies.fused.tanh import tanh
from policies.settings import PolicySettings, Size


@dataclass(frozen=True)
class MLPSettings(PolicySettings):
    """Settings of the memoryless policy."""

    hidden_dim: Size = 64
    """Width of each hidden layer."""
    encoder_dim: Size = 64
    """Width of the input encoder, itself a tanh layer."""
    num_layers: Size = 1
    """Hidden layers after the encoder."""


@dataclass(frozen=True)
class MLPCore:
    """Hidden layers after the encoder."""

    settings: MLPSettings
    time_major: ClassVar[bool] = False

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1."""
        inputs, hidden = self.settings.encoder_dim, self.settings.hidden_dim
        params: Params = {}
        for layer in range(self.settings.num_layers):
            params |= linear_params(generator, f"mlp.{layer}", inputs, hidden, 2.0**0.5)
            inputs = hidden
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return the empty memory."""
        return ()

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return the features of every step, each computed from that step alone."""
        for layer in range(self.settings.num_layers):
            u = tanh(linear(params, f"mlp.{layer}", u))
        return u, memory

    def prepare(self, params: Params) -> Params:
        """Return ``params``."""
        return params

    def act(
        self, params: Arrays, u: np.ndarray, first: np.ndarray, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        """Return the features ``[M, B, H]`` of one step."""
        for layer in range(self.settings.num_layers):
            u = dense_tanh(params, f"mlp.{layer}", u)
        return u, memory


build = factory("mlp", MLPCore, MLPSettings)
