"""The state-space policy, and state-space models as ordinary torch modules.

A layer is norm -> state space -> gelu -> gate -> residual; ``policies.state_space`` has the
equations of the state space and their papers.

Letters: N tasks, B sequences per task, T time, L layers, H width, S state. The modules take x as
``[B, D]`` (a step) or ``[B, T, D]`` (a series) and give O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Gt
from torch import Generator, Tensor

from policies.actor_critic import factory
from policies.base import Memory, Params
from policies.functional import (
    linear_params,
    orthogonal,
    positive,
    project,
    projection_params,
    rms_norm,
)
from policies.fused import ssm as fused
from policies.fused.compiled import arrays
from policies.fused.node import Recurrence, Tensors, as_node
from policies.fused.step import Arrays, dense
from policies.modules import FunctionalModule, PolicyBase, as_series, seeded_generator
from policies.scan import Method
from policies.settings import PolicySettings, Size
from policies.state_space import discretise, init_poles, run_series, run_states

DT = (0.01, 0.5)
"""Default range of the initial step size."""
WEIGHTS = ("decay", "gain", "B", "C", "D", "gate.weight", "gate.bias")
"""What a layer takes of the parameters, in the order of ``layer``; see ``SSMCore.prepare``."""


@dataclass(frozen=True)
class SSMSettings(PolicySettings):
    """Settings of the state-space policy."""

    hidden_dim: Size = 64
    """Width of the residual stream."""
    encoder_dim: Size = 64
    """Width of the input encoder."""
    num_layers: Size = 2
    """State-space layers, each with its own state."""
    state_dim: Size = 64
    """State of each layer."""
    dt_min: Annotated[float, Gt(0)] = DT[0]
    """Smallest initial step size; initial sizes are log-uniform."""
    dt_max: Annotated[float, Gt(0)] = DT[1]
    """Largest initial step size."""
    scan_method: Method = "auto"
    """Algorithm of the scan over time; auto is loop on CPUs and doubling elsewhere."""
    norm: Literal["rms", "layer", "none"] = "rms"
    """Normalisation of a layer's input: mean square one, also mean zero, or none."""
    residual: bool = True
    """Whether a layer adds to its input rather than replacing it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dt_min > self.dt_max:
            raise ValueError(
                f"dt_min is {self.dt_min} and dt_max is {self.dt_max}; give dt_min <= dt_max. "
                "Change either"
            )


@dataclass(frozen=True)
class SSMCore:
    """Gated residual state-space layers."""

    settings: SSMSettings
    time_major: ClassVar[bool] = True

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1; every state has unit gain at rest."""
        sizes = self.settings
        layers, state, width = sizes.num_layers, sizes.state_dim, sizes.hidden_dim
        params = projection_params(generator, "ssm.input", sizes.encoder_dim, width)
        log_a, log_dt, rate = init_poles(generator, layers, state, (sizes.dt_min, sizes.dt_max))
        params |= {"ssm.log_a": log_a, "ssm.log_dt": log_dt}
        for layer in range(layers):
            name = f"ssm.{layer}"
            params[f"{name}.B"] = orthogonal(generator, width, state) * rate
            params[f"{name}.C"] = orthogonal(generator, state, width)
            params[f"{name}.D"] = torch.randn(1, 1, width, generator=generator)
            params |= linear_params(generator, f"{name}.gate", width, width)
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros, one ``[N, B, S]`` per layer."""
        shape = (num_tasks, batch, self.settings.state_dim)
        return tuple(like.new_zeros(shape) for _ in range(self.settings.num_layers))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features ``[N, T, B, H]`` and the last state of every layer."""
        u = project(params, "ssm.input", u)
        recurrence, last = self.recurrence, []
        loops = self.settings.scan_method != "doubling"
        run = partial(as_node, recurrence) if loops else recurrence.reference
        for parts in self._layers(params, memory):
            u, state = run(first, u, *parts)
            last.append(state)
        return u, tuple(last)

    def prepare(self, params: Params) -> Params:
        """Return ``params``, and decay and gain of every layer."""
        poles = discretise(params["ssm.log_a"], params["ssm.log_dt"])
        layers = range(self.settings.num_layers)
        return params | {
            f"ssm.{layer}.{name}": pole[:, layer]
            for name, pole in zip(("decay", "gain"), poles, strict=True)
            for layer in layers
        }

    def act(
        self, params: Arrays, u: np.ndarray, first: np.ndarray, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        """Return features ``[M, B, H]`` of one step and the state of every layer."""
        if "ssm.input.weight" in params:
            u = dense(params, "ssm.input", u)
        modes, last = self._modes, []
        for layer, state in enumerate(arrays(*memory)):
            parts = (params[f"ssm.{layer}.{name}"] for name in WEIGHTS)
            u, state = fused.step(modes, u, first, (state, *parts))
            last.append(torch.from_numpy(state))
        return u, tuple(last)

    def _layers(self, params: Params, memory: Memory) -> Iterator[Tensors]:
        """Yield the arguments of ``layer`` from the state on, for every layer."""
        params = self.prepare(params)
        for layer, state in enumerate(memory):
            yield state, *(params[f"ssm.{layer}.{name}"] for name in WEIGHTS)

    @property
    def recurrence(self) -> Recurrence:
        """``layer`` with these settings, and its hand-written passes."""
        modes = self._modes
        reference = partial(layer, self.settings.scan_method, modes)
        return Recurrence(reference, partial(fused.forward_fused, modes), partial(fused.vjp, modes))

    @property
    def _modes(self) -> fused.Modes:
        norm = self.settings.norm
        return fused.Modes(norm == "layer", norm != "none", self.settings.residual)


def layer(
    scan_method: Method,
    modes: fused.Modes,
    first: Tensor,
    u: Tensor,
    state: Tensor,
    *weights: Tensor,
) -> Tensors:
    """Return the output of a layer at every step ``[N, T, B, H]`` and its last state ``[N, B, S]``.

    Args:
        scan_method: the algorithm, see ``policies.scan``.
        modes: the variant of the layer.
        first: ``[N, T, B]``; where set, the state counts as zero before that step.
        u: ``[N, T, B, H]``.
        state: before the first step, ``[N, B, S]``.
        weights: decay and gain of ``discretise`` ``[N, 1, S]``, B ``[N, H, S]``, C ``[N, S, H]``,
            D ``[N, 1, H]``, and the gate's weight ``[N, H, H]`` and bias ``[N, 1, H]``.
    """
    decay, gain, b, c, d, gate, bias = weights
    v = u - u.mean(dim=-1, keepdim=True) if modes.center else u
    v = rms_norm(v) if modes.normalize else v.contiguous()
    states, last = run_states((decay, gain), b, v, (first, state), scan_method)
    y = torch.baddbmm(v.flatten(1, 2) * d, states, c)
    y = torch.nn.functional.gelu(y, approximate="tanh")
    opened = torch.baddbmm(bias, y, gate).sigmoid().view_as(u)
    y = y.view_as(u)
    return torch.addcmul(u, y, opened) if modes.residual else y * opened, last


build = factory("ssm", SSMCore, SSMSettings)


class Matrices(NamedTuple):
    """The matrices of one step: ``s = A s + B u``, ``y = C s + D x + bias``, u the encoded x."""

    A: Tensor
    """[S, S]"""
    B: Tensor
    """[S, H]"""
    C: Tensor
    """[O, S]"""
    D: Tensor
    """[O, I]"""


class StateSpaceModel(FunctionalModule):
    """A linear state space with learned matrices, fed by one hidden layer.

        u = relu(W x + b)     s' = A s + B u     y = C s + D x + bias

    A is diagonal and stable, discretised as in ``policies.state_space``. The hidden state is s,
    ``[B, S]``.
    """

    def __init__(
        self,
        state_dim: int,
        input_dim: int,
        output_dim: int,
        hidden_dim: int = 128,
        device: str | torch.device = "cpu",
    ) -> None:
        sizes = {
            "state_dim": state_dim,
            "input_dim": input_dim,
            "output_dim": output_dim,
            "hidden_dim": hidden_dim,
        }
        positive(**sizes)
        super().__init__(sizes)
        self.state_dim, self.input_dim = state_dim, input_dim
        self.output_dim, self.hidden_dim = output_dim, hidden_dim
        generator = seeded_generator()
        log_a, log_dt, rate = init_poles(generator, 1, state_dim, DT)
        params = linear_params(generator, "encoder", input_dim, hidden_dim, math.sqrt(2.0))
        params |= {
            "log_a": log_a,
            "log_dt": log_dt,
            "B": orthogonal(generator, hidden_dim, state_dim) * rate,
            "C": orthogonal(generator, state_dim, output_dim),
            "D": orthogonal(generator, input_dim, output_dim),
            "bias": torch.zeros(1, 1, output_dim),
        }
        self.register(params)
        self.to(device)

    def init_hidden(self, batch_size: int = 1) -> Tensor:
        """Return the state before the first step, zeros ``[B, S]``."""
        return self.params()["log_a"].new_zeros(batch_size, self.state_dim)

    def forward(self, x: Tensor, hidden_state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs ``[B, O]`` or ``[B, T, O]`` and the state after the last step ``[B, S]``.

        Raises:
            ValueError: the shapes of ``x`` or ``hidden_state`` do not fit.
        """
        series = as_series(x, self.input_dim)
        batch, steps, _ = series.shape
        state = self.init_hidden(batch) if hidden_state is None else hidden_state
        if state.shape != (batch, self.state_dim):
            raise ValueError(
                f"hidden_state is {tuple(state.shape)}; x needs ({batch}, {self.state_dim}). "
                "Get it from init_hidden(batch_size)"
            )
        params = self.params()
        timed = series.transpose(0, 1).reshape(1, steps * batch, -1)
        decay, gain = discretise(params["log_a"], params["log_dt"])
        encoder = params["encoder.weight"], params["encoder.bias"]
        space = decay[:, 0], params["B"] * gain[:, 0], params["C"], params["D"], params["bias"]
        y, last = run_series(timed, state.unsqueeze(0), (*encoder, *space))
        y = y.view(steps, batch, -1)
        return (y[0] if x.dim() == 2 else y.transpose(0, 1)), last[0]

    @torch.no_grad()
    def matrices(self) -> Matrices:
        """Return A, B, C, D of one discrete step."""
        params = self.params()
        decay, gain = discretise(params["log_a"], params["log_dt"])
        b = params["B"][0] * gain[0, 0]
        return Matrices(decay.flatten().diag(), b.T, params["C"][0].T, params["D"][0].T)


class ImprovedSSM(PolicyBase):
    """The ``ssm`` policy as a torch module: Gaussian mean, log std and value."""

    def __init__(
        self,
        input_dim: int,
        action_dim: int,
        state_dim: int = 64,
        hidden_dim: int = 128,
        num_layers: int = 2,
        use_layer_norm: bool = True,
        use_residual: bool = True,
    ) -> None:
        config = {
            "input_dim": input_dim,
            "action_dim": action_dim,
            "state_dim": state_dim,
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
            "use_layer_norm": use_layer_norm,
            "use_residual": use_residual,
        }
        settings = SSMSettings(
            hidden_dim=hidden_dim,
            encoder_dim=hidden_dim,
            num_layers=num_layers,
            state_dim=state_dim,
            norm="layer" if use_layer_norm else "none",
            residual=use_residual,
        )
        super().__init__(build(obs_dim=input_dim, action_dim=action_dim, settings=settings), config)
