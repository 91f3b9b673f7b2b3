"""Linear state-space model: a real, diagonal, stable state space in residual layers.

    x' = A x + B u,  y = C x + D u,  A = diag(-exp(log_a))

discretised with a learnable step size dt by zero-order hold (arXiv 2111.00396, 2208.04933):

    x_t = exp(dt A) x_(t-1) + A^-1 (exp(dt A) - 1) B u_t

A starts as S4D-Real, -(1, 2, ...) (arXiv 2206.11893), in blocks as in S5. A layer is
norm -> state space -> gate -> residual. Resets live in the scan (arXiv 2303.03982).

Letters: N tasks, B sequences per task, T time, L layers, H width, S state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from policies.actor_critic import ENCODER_DIM, ActorCritic
from policies.base import Memory, Params
from policies.functional import linear, linear_params, orthogonal, positive, reset, rms_norm
from policies.scan import METHODS, scan

BLOCK = 8
"""States per block at the start: A = -(1, ..., 8) again and again, told apart by dt."""


@dataclass(frozen=True)
class SSMCore:
    """``num_layers`` residual layers, each with a state of ``state_dim``."""

    state_dim: int
    num_layers: int
    dt_min: float
    dt_max: float
    scan_method: str
    output_dim: int = ENCODER_DIM
    time_major: bool = True

    def init_params(self, generator: Generator) -> Params:
        """Return fresh parameters with a leading axis of 1; at rest every state has gain one."""
        layers, state, width = self.num_layers, self.state_dim, self.output_dim
        rate = (torch.arange(state) % BLOCK + 1).float()
        span = math.log(self.dt_max / self.dt_min)
        dt = torch.rand(1, layers, 1, state, generator=generator) * span + math.log(self.dt_min)
        params: Params = {
            "ssm.log_a": rate.log().repeat(1, layers, 1, 1),
            "ssm.log_dt": dt,
        }
        for layer in range(layers):
            name = f"ssm.{layer}"
            params[f"{name}.B"] = orthogonal(generator, width, state) * rate
            params[f"{name}.C"] = orthogonal(generator, state, width)
            params[f"{name}.D"] = torch.randn(1, 1, width, generator=generator)
            params |= linear_params(generator, f"{name}.gate", width, width)
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros, one ``[N, B, S]`` per layer."""
        return tuple(
            like.new_zeros(num_tasks, batch, self.state_dim) for _ in range(self.num_layers)
        )

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features ``[N, T, B, H]`` and the last state of every layer."""
        decays, gains = discretise(params["ssm.log_a"], params["ssm.log_dt"])
        single = u.shape[1] == 1
        if single:
            memory = reset(memory, first[:, 0])
        last = []
        for layer, x in enumerate(memory):
            name = f"ssm.{layer}"
            decay, gain = decays[:, layer], gains[:, layer]
            v = rms_norm(u)
            flat = v.view(v.shape[0], -1, v.shape[-1])
            if single:
                b = torch.bmm(flat, params[f"{name}.B"]) * gain
                states = torch.addcmul(b, decay, x)
                last.append(states)
            else:
                b = torch.bmm(flat, params[f"{name}.B"] * gain).view(*v.shape[:-1], -1)
                states = scan(decay.unsqueeze(1), b, first, x, self.scan_method)
                last.append(states[:, -1].clone())
                states = states.view(*flat.shape[:-1], -1)
            y = torch.baddbmm(flat * params[f"{name}.D"], states, params[f"{name}.C"])
            gate = torch.sigmoid(linear(params, f"{name}.gate", y))
            u = torch.addcmul(u, y.view_as(u), gate.view_as(u))
        return u, tuple(last)


def discretise(log_a: Tensor, log_dt: Tensor) -> tuple[Tensor, Tensor]:
    """Return zero-order hold's ``exp(dt A)`` and ``A^-1 (exp(dt A) - 1)`` for A = -exp(log_a)."""
    a = log_a.exp()
    exponent = -a * log_dt.exp()
    return exponent.exp(), -torch.expm1(exponent) / a


def build(
    *,
    obs_dim: int,
    action_dim: int,
    init_std: float = 1.0,
    state_dim: int = 64,
    num_layers: int = 2,
    dt: tuple[float, float] = (0.01, 0.5),
    scan_method: str = "auto",
) -> ActorCritic:
    """Build the state-space policy.

    Args:
        obs_dim: numbers fed per step.
        action_dim: numbers acted per step.
        init_std: standard deviation of the action at the start.
        state_dim: state of each layer.
        num_layers: layers, each with a state of its own.
        dt: range of the step size at the start, log-uniform; dt * a is the rate per step.
        scan_method: how time is run through; see ``policies.scan``.

    Raises:
        ValueError: a size is not positive or ``scan_method`` is unknown.
    """
    dt_min, dt_max = dt
    positive(state_dim=state_dim, num_layers=num_layers, dt_min=dt_min, dt_max=dt_max)
    if scan_method not in METHODS:
        raise ValueError(f"scan_method is {scan_method!r}; have: {', '.join(METHODS)}. Pick one")
    core = SSMCore(state_dim, num_layers, dt_min, dt_max, scan_method)
    return ActorCritic("ssm", obs_dim, action_dim, core, init_std)
