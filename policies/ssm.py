"""The state-space policy, and state-space models as ordinary torch modules.

The equations of a layer and their papers: ``policies.state_space``.

Shapes: x is ``[B, D]`` (a step) or ``[B, T, D]`` (a series); H hidden, S state, O output.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from policies.actor_critic import ActorCritic
from policies.functional import linear_params, orthogonal, positive
from policies.modules import FunctionalModule, PolicyBase, as_series, seeded_generator
from policies.series import run_series
from policies.state_space import SSMCore, discretise, init_poles

__all__ = ["ImprovedSSM", "Matrices", "SSMCore", "StateSpaceModel", "build", "discretise"]

DT = (0.01, 0.5)
"""Range of the step size at the start."""


class Matrices(NamedTuple):
    """One step written out: ``s = A s + B u``, ``y = C s + D x + bias``, u the encoded x."""

    A: Tensor
    """[S, S]"""
    B: Tensor
    """[S, H]"""
    C: Tensor
    """[O, S]"""
    D: Tensor
    """[O, I]"""


class StateSpaceModel(FunctionalModule):
    """One linear state space with all its matrices learned, fed by one hidden layer.

        u = relu(W x + b)     s' = A s + B u     y = C s + D x + bias

    A is diagonal and stable, discretised as in ``policies.state_space``; its hidden state is s
    itself, ``[B, S]``.
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
                "Make it by init_hidden(batch_size)"
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
        """Return A, B, C, D of one step, discretised and written out."""
        params = self.params()
        decay, gain = discretise(params["log_a"], params["log_dt"])
        b = params["B"][0] * gain[0, 0]
        return Matrices(decay.flatten().diag(), b.T, params["C"][0].T, params["D"][0].T)


class ImprovedSSM(PolicyBase):
    """Actor-critic on state-space layers with a state each: Gaussian mean, log std and value."""

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
        norm = "layer" if use_layer_norm else "none"
        core = SSMCore(
            state_dim, num_layers, *DT, output_dim=hidden_dim, norm=norm, residual=use_residual
        )
        policy = ActorCritic("ssm", input_dim, action_dim, core, 1.0, encoder_dim=hidden_dim)
        super().__init__(policy, config)


def build(  # noqa: PLR0913 - a keyword for every setting
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    state_dim: int = 64,
    num_layers: int = 2,
    dt: tuple[float, float] = (0.01, 0.5),
    scan_method: str = "auto",
) -> ActorCritic:
    """Build the state-space policy.

    Args:
        obs_dim: numbers fed per step.
        action_dim: numbers acted per step, or discrete actions to choose from.
        discrete: whether actions are such a choice.
        init_std: standard deviation of the action at the start.
        state_dim: state of each layer.
        num_layers: layers, each with a state of its own.
        dt: range of the step size at the start, log-uniform; dt * a is the rate per step.
        scan_method: how time is run through; see ``policies.scan``.

    Raises:
        ValueError: a size is not positive or ``scan_method`` is unknown.
    """
    dt_min, dt_max = dt
    core = SSMCore(state_dim, num_layers, dt_min, dt_max, scan_method)
    return ActorCritic("ssm", obs_dim, action_dim, core, init_std, discrete=discrete)
