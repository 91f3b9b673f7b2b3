"""The frame of every policy: input encoder, sequence core, action head and value head.

u = tanh(W_e x + b_e)               h, memory = core(u, first, memory)
y = tanh(W_s [h, u] + b_s)          y = h without memory, or without W_s
action_params = W_m y + b_m         log_std = const         value = w_v y + b_v

The shortcut from u past the memory is that of arXiv 2110.05038. For discrete actions
``action_params`` are logits and there is no log_std.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from policies.base import Memory, Params, PolicyOutput
from policies.functional import linear, linear_params, positive
from policies.fused.compiled import arrays, compiles
from policies.fused.step import Arrays, dense, dense_tanh, prepared
from policies.fused.tanh import tanh
from policies.settings import PolicySettings

SHORTCUT = "shortcut"
"""Name of the layer W_s. Parameters without it are those of a policy that has none."""
MEAN_GAIN = 0.01
"""Initial actions are near zero for any observation (arXiv 2006.05990), or all equally likely."""


@runtime_checkable
class Core(Protocol):
    """A sequence model between encoder and heads."""

    @property
    def settings(self) -> PolicySettings:
        """Its sizes: input ``encoder_dim`` wide, output ``hidden_dim`` wide."""
        ...

    @property
    def time_major(self) -> bool:
        """Whether sequences are ``[N, T, B, H]`` rather than ``[N, B, T, H]``."""
        ...

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1."""
        ...

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return the memory before the first step."""
        ...

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features in the layout of ``u`` and the memory after the last step."""
        ...


class ActingCore(Core, Protocol):
    """A core with a faster way to take a single step without gradients, compiled for CPUs."""

    def prepare(self, params: Params) -> Params:
        """Return ``params`` and what follows from them alone, once for all steps."""
        ...

    def act(
        self, params: Arrays, u: np.ndarray, first: np.ndarray, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        """Return features ``[M, B, H]`` for ``u [M, B, E]``, and the memory after the step.

        M parameter sets, prepared, act on B sequences each; ``first [M, B]`` is as in ``forward``.
        """
        ...


@dataclass(frozen=True)
class ActorCritic:
    """A ``Policy`` around a ``Core``; it holds sizes, never tensors."""

    name: str
    core: Core
    input_dim: int
    action_dim: int
    discrete: bool = False
    """Whether an action is a choice of one of ``action_dim``; ``init_std`` is then unused."""
    init_std: float = 1.0

    def __post_init__(self) -> None:
        positive(obs_dim=self.input_dim, action_dim=self.action_dim, init_std=self.init_std)

    def init_params(self, seed: int) -> Params:
        """Return initial parameters with a leading axis of 1, a function of ``seed`` alone."""
        generator = torch.Generator().manual_seed(seed)
        sizes = self.core.settings
        params = linear_params(
            generator, "encoder", self.input_dim, sizes.encoder_dim, math.sqrt(2.0)
        )
        params |= self.core.init_params(generator)
        if self.core.initial_memory(1, 1, torch.empty(0)):
            widths = sizes.hidden_dim + sizes.encoder_dim, sizes.hidden_dim
            params |= linear_params(generator, SHORTCUT, *widths, math.sqrt(2.0))
        params |= linear_params(generator, "mean", sizes.hidden_dim, self.action_dim, MEAN_GAIN)
        params |= linear_params(generator, "value", sizes.hidden_dim, 1)
        if not self.discrete:
            params["log_std"] = torch.full((1, 1, 1, self.action_dim), math.log(self.init_std))
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return the memory before the first step, with the dtype and device of ``like``."""
        return self.core.initial_memory(num_tasks, batch, like)

    def forward(
        self,
        params: Params,
        x: Float[Tensor, "N B T I"],
        first: Bool[Tensor, "N B T"],
        memory: Memory,
    ) -> PolicyOutput:
        """Run T steps of ``x [N, B, T, I]``; ``first [N, B, T]`` resets memory before its step.

        Parameters shared by several tasks are not repeated: the tasks join the batch instead.

        Raises:
            ValueError: the shapes of ``params`` and ``x`` do not fit each other.
        """
        num_tasks, batch, _, inputs = x.shape
        sets = params["mean.bias"].shape[0]
        if inputs != self.input_dim or sets not in (1, num_tasks):
            raise ValueError(
                f"x is {tuple(x.shape)} [N, B, T, I] and params hold {sets} sets; policy "
                f"{self.name!r} takes I = {self.input_dim} and 1 or N sets. Build it with the "
                "width of its input, or index params by task"
            )
        run = self._act if self._can_act(params, x, memory) else self._forward
        if sets == num_tasks:
            return run(params, x, first, memory)
        out = run(params, _fold(x), _fold(first), tuple(map(_fold, memory)))
        action_params, value, features, *memory_parts = (
            part.view(num_tasks, batch, *part.shape[2:])
            for part in (out.action_params, out.value, out.features, *out.memory)
        )
        return PolicyOutput(action_params, out.log_std, value, tuple(memory_parts), features)

    def _forward(self, params: Params, x: Tensor, first: Tensor, memory: Memory) -> PolicyOutput:
        swap = self.core.time_major
        if swap:
            x, first = x.transpose(1, 2), first.transpose(1, 2)
        u = tanh(linear(params, "encoder", x))
        y, memory = self.core.forward(params, u, first, memory)
        if f"{SHORTCUT}.weight" in params:
            y = tanh(linear(params, SHORTCUT, torch.cat((y, u), -1)))
        action_params, value = linear(params, "mean", y), linear(params, "value", y).squeeze(-1)
        if swap:
            action_params, value, y = (part.transpose(1, 2) for part in (action_params, value, y))
        return PolicyOutput(action_params, params.get("log_std"), value, memory, y)

    def _can_act(self, params: Params, x: Tensor, memory: Memory) -> bool:
        """Return whether ``_act`` can stand in for ``_forward``."""
        if x.shape[2] > 1 or not hasattr(self.core, "act"):
            return False
        parts = (x, *params.values(), *memory)
        differentiates = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
        return not differentiates and compiles(*parts)

    def _act(self, params: Params, x: Tensor, first: Tensor, memory: Memory) -> PolicyOutput:
        core = cast(ActingCore, self.core)
        inputs, resets = arrays(x[:, :, 0], first[:, :, 0])
        ready = prepared(core.prepare, params)
        u = dense_tanh(ready, "encoder", inputs)
        y, memory = core.act(ready, u, resets, memory)
        if f"{SHORTCUT}.weight" in ready:
            y = dense_tanh(ready, SHORTCUT, np.concatenate((y, u), -1))
        action_params, value = dense(ready, "mean", y), dense(ready, "value", y)
        return PolicyOutput(
            torch.from_numpy(action_params).unsqueeze(2),
            params.get("log_std"),
            torch.from_numpy(value),
            memory,
            torch.from_numpy(y).unsqueeze(2),
        )


S = TypeVar("S", bound=PolicySettings)


def factory(name: str, core: Callable[[S], Core], cls: type[S]) -> Callable[..., ActorCritic]:
    """Return the factory of the policy ``name``, whose core takes settings of the class ``cls``."""
    defaults = cls()

    def build(
        *,
        obs_dim: int,
        action_dim: int,
        discrete: bool = False,
        init_std: float = 1.0,
        settings: S = defaults,
    ) -> ActorCritic:
        """Build the policy; see ``policies.build``."""
        return ActorCritic(name, core(settings), obs_dim, action_dim, discrete, init_std)

    build.__annotations__["settings"] = cls  # where ``policies.settings_class`` reads it
    return build


def _fold(x: Tensor) -> Tensor:
    return x.reshape(1, -1, *x.shape[2:])
