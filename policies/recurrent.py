"""Layers of a recurrent cell, as ``policies.gru`` and ``policies.lstm`` supply it.

Letters: N tasks, B sequences per task, T time, H hidden; M parameter sets that act.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from policies.base import Memory, Params
from policies.functional import linear
from policies.fused.compiled import arrays
from policies.fused.node import Recurrence, as_node
from policies.fused.step import Arrays, dense
from policies.settings import PolicySettings


@dataclass(frozen=True)
class RecurrentCore(ABC):
    """Layers, each fed the states of the one below. Subclasses supply the cell."""

    settings: PolicySettings
    time_major: ClassVar[bool] = True
    name: ClassVar[str]
    num_states: ClassVar[int]
    """Tensors ``[N, B, H]`` that a layer remembers; the first one is its output."""
    recurrent: ClassVar[tuple[str, ...]]
    """Parameters of a layer besides the linear map of its inputs."""
    recurrence: ClassVar[Recurrence]
    """(resets, mapped inputs, ``recurrent``, states) -> every output and the last states."""
    step: ClassVar[Callable[..., tuple[np.ndarray, ...]]]
    """(mapped inputs, resets, [``recurrent``, states]) -> the states after one step."""

    @abstractmethod
    def init_layer(self, generator: Generator, inputs: int) -> Params:
        """Return a layer's ``weight``, ``bias`` and ``recurrent`` parameters."""

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1."""
        params: Params = {}
        for layer in range(self.settings.num_layers):
            inputs = self.settings.hidden_dim if layer else self.settings.encoder_dim
            own = self.init_layer(generator, inputs)
            params |= {f"{self.name}.{layer}.{part}": value for part, value in own.items()}
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros ``[N, B, H]``, the states of every layer in turn."""
        shape = (num_tasks, batch, self.settings.hidden_dim)
        count = self.num_states * self.settings.num_layers
        return tuple(like.new_zeros(shape) for _ in range(count))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return the last layer's output at every step, ``[N, T, B, H]``, and the last states."""
        last: list[Tensor] = []
        for name, own, states in self._layers():
            parts = *(params[part] for part in own), *memory[states]
            u, *after = as_node(self.recurrence, first, linear(params, name, u), *parts)
            last += after
        return u, tuple(last)

    def prepare(self, params: Params) -> Params:
        """Return ``params``."""
        return params

    def act(
        self, params: Arrays, u: np.ndarray, first: np.ndarray, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        """Return the last layer's output ``[M, B, H]`` after one step, and every layer's states."""
        last: list[Tensor] = []
        for name, own, states in self._layers():
            parts = *(params[part] for part in own), *arrays(*memory[states])
            after = self.step(dense(params, name, u), first, parts)
            last += map(torch.from_numpy, after)
            u = after[0]
        return u, tuple(last)

    def _layers(self) -> Iterator[tuple[str, list[str], slice]]:
        """Yield a layer's name, its ``recurrent`` parameters and the place of its states."""
        for layer in range(self.settings.num_layers):
            name = f"{self.name}.{layer}"
            states = slice(self.num_states * layer, self.num_states * (layer + 1))
            yield name, [f"{name}.{part}" for part in self.recurrent], states
