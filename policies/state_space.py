"""Linear state-space layers: a real, diagonal, stable state space in residual layers.

    x' = A x + B u,  y = C x + D u,  A = diag(-exp(log_a))

discretised with a learnable step size dt by zero-order hold (arXiv 2111.00396, 2208.04933):

    x_t = exp(dt A) x_(t-1) + A^-1 (exp(dt A) - 1) B u_t

A starts as S4D-Real, -(1, 2, ...) (arXiv 2206.11893), in blocks as in S5. A layer is
norm -> state space -> gelu -> gate -> residual. Resets live in the scan (arXiv 2303.03982).

Letters: N tasks, B sequences per task, T time, L layers, H width, S state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from policies.actor_critic import ENCODER_DIM
from policies.base import Memory, Params
from policies.functional import linear, linear_params, orthogonal, positive, reset, rms_norm
from policies.scan import METHODS, scan

BLOCK = 8
"""States per block at the start: A = -(1, ..., 8) again and again, told apart by dt."""

NORMS: tuple[str, ...] = ("rms", "layer", "none")
"""What a layer does to its input: mean square one, mean zero and mean square one, nothing."""


@dataclass(frozen=True)
class SSMCore:
    """``num_layers`` layers, each with a state of ``state_dim``."""

    state_dim: int
    num_layers: int
    dt_min: float
    dt_max: float
    scan_method: str = "auto"
    output_dim: int = ENCODER_DIM
    time_major: bool = True
    norm: str = "rms"
    residual: bool = True
    """Whether a layer adds to its input or replaces it."""

    def __post_init__(self) -> None:
        positive(state_dim=self.state_dim, num_layers=self.num_layers)
        positive(dt_min=self.dt_min, dt_max=self.dt_max, width=self.output_dim)
        if self.scan_method not in METHODS:
            raise ValueError(
                f"scan_method is {self.scan_method!r}; have: {', '.join(METHODS)}. Pick one"
            )
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; have: {', '.join(NORMS)}. Pick one")

    def init_params(self, generator: Generator) -> Params:
        """Return fresh parameters with a leading axis of 1; at rest every state has gain one."""
        layers, state, width = self.num_layers, self.state_dim, self.output_dim
        log_a, log_dt, rate = init_poles(generator, layers, state, (self.dt_min, self.dt_max))
        params: Params = {"ssm.log_a": log_a, "ssm.log_dt": log_dt}
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
        if u.shape[1] == 1:
            memory = reset(memory, first[:, 0])
        last = []
        for layer, x in enumerate(memory):
            name = f"ssm.{layer}"
            v = self._normalised(u)
            flat = v.view(v.shape[0], -1, v.shape[-1])
            pole = (decays[:, layer], gains[:, layer])
            states, x = run_states(pole, params[f"{name}.B"], v, (first, x), self.scan_method)
            last.append(x)
            y = torch.baddbmm(flat * params[f"{name}.D"], states, params[f"{name}.C"])
            y = torch.nn.functional.gelu(y, approximate="tanh")
            gate = torch.sigmoid(linear(params, f"{name}.gate", y)).view_as(u)
            y = y.view_as(u)
            u = torch.addcmul(u, y, gate) if self.residual else y * gate
        return u, tuple(last)

    def _normalised(self, u: Tensor) -> Tensor:
        if self.norm == "none":
            return u.contiguous()
        if self.norm == "layer":
            u = u - u.mean(dim=-1, keepdim=True)
        return rms_norm(u)


def init_poles(
    generator: Generator, layers: int, state: int, dt: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``log_a`` and ``log_dt``, both ``[1, L, 1, S]``, and the rates ``a [S]`` themselves.

    ``dt`` is the range of the step size, log-uniform; dt * a is the decay rate per step.
    """
    rate = (torch.arange(state) % BLOCK + 1).float()
    low, high = dt
    uniform = torch.rand(1, layers, 1, state, generator=generator)
    log_dt = uniform * math.log(high / low) + math.log(low)
    return rate.log().repeat(1, layers, 1, 1), log_dt, rate


def discretise(log_a: Tensor, log_dt: Tensor) -> tuple[Tensor, Tensor]:
    """Return zero-order hold's ``exp(dt A)`` and ``A^-1 (exp(dt A) - 1)`` for A = -exp(log_a)."""
    a = log_a.exp()
    exponent = -a * log_dt.exp()
    return exponent.exp(), -torch.expm1(exponent) / a


def run_states(
    pole: tuple[Tensor, Tensor],
    b: Tensor,
    v: Tensor,
    start: tuple[Tensor, Tensor],
    scan_method: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run one layer's states through time: the one place where a state space is stepped.

    Args:
        pole: decay and input gain of ``discretise``, each ``[N, 1, S]``.
        b: ``B``, ``[N, H, S]``.
        v: inputs, ``[N, T, B, H]``, contiguous.
        start: resets ``[N, T, B]`` and the state before the first step, ``[N, B, S]``; a single
            step expects a state that was reset already.
        scan_method: see ``policies.scan``.

    Returns:
        All states ``[N, T * B, S]`` and the last ones ``[N, B, S]``.
    """
    decay, gain = pole
    first, x = start
    flat = v.view(v.shape[0], -1, v.shape[-1])
    if v.shape[1] == 1:
        states = torch.addcmul(torch.bmm(flat, b) * gain, decay, x)
        return states, states
    inputs = torch.bmm(flat, b * gain).view(*v.shape[:-1], -1)
    states = scan(decay.unsqueeze(1), inputs, first, x, scan_method)
    return states.view(*flat.shape[:-1], -1), states[:, -1].clone()
