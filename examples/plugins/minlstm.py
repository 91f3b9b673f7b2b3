"""minLSTM (arXiv 2410.01201): an LSTM whose gates see the input alone, so time is a scan.

    f, i = sigmoid(W_fi u + b_fi)      c = W_c u + b_c      h' = (f * h + i * c) / (f + i)

Letters: N tasks, B sequences per task, T time, E encoder, H hidden.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from policies.actor_critic import ActorCritic
from policies.base import Memory, Params
from policies.functional import linear, linear_params, reset
from policies.settings import PolicySettings, Size


@dataclass(frozen=True)
class MinLSTMSettings(PolicySettings):
    """Settings of minLSTM."""

    hidden_dim: Size = 64
    """Units in each layer."""
    encoder_dim: Size = 64
    """Width of the input encoder."""
    num_layers: Size = 2
    """Layers, each fed the states of the one below."""


def scan(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """Return ``h_t = a_t * h_(t-1) + b_t`` for every t, in log2 T passes over the sequence.

    Args:
        a: decays, ``[N, B, T, H]``.
        b: inputs, ``[N, B, T, H]``.
        h: the state before the first step, ``[N, B, H]``.
    """
    b = torch.cat([b[:, :, :1] + a[:, :, :1] * h.unsqueeze(2), b[:, :, 1:]], dim=2)
    shift = 1
    while shift < b.shape[2]:
        head, tail = slice(None, shift), slice(shift, None)
        earlier = slice(None, -shift)
        b = torch.cat([b[:, :, head], b[:, :, tail] + a[:, :, tail] * b[:, :, earlier]], dim=2)
        a = torch.cat([a[:, :, head], a[:, :, tail] * a[:, :, earlier]], dim=2)
        shift *= 2
    return b


@dataclass(frozen=True)
class MinLSTMCore:
    """The layers."""

    settings: MinLSTMSettings
    time_major: ClassVar[bool] = False

    def init_params(self, generator: Generator) -> Params:
        """Return initial parameters with a leading axis of 1."""
        inputs, hidden = self.settings.encoder_dim, self.settings.hidden_dim
        params: Params = {}
        for layer in range(self.settings.num_layers):
            params |= linear_params(generator, f"gates.{layer}", inputs, 2 * hidden)
            params |= linear_params(generator, f"candidate.{layer}", inputs, hidden)
            inputs = hidden
        return params

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return zeros ``h [N, B, H]``, one per layer."""
        shape = (num_tasks, batch, self.settings.hidden_dim)
        return tuple(like.new_zeros(shape) for _ in range(self.settings.num_layers))

    def forward(
        self, params: Params, u: Tensor, first: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return features ``[N, B, T, H]`` of ``u [N, B, T, E]``, and the memory after them."""
        memory = reset(memory, first[:, :, 0])
        last = []
        for layer, h in enumerate(memory):
            f, i = linear(params, f"gates.{layer}", u).sigmoid().chunk(2, dim=-1)
            keep = (f / (f + i)).masked_fill(first.unsqueeze(-1), 0.0)
            u = scan(keep, i / (f + i) * linear(params, f"candidate.{layer}", u), h)
            last.append(u[:, :, -1])
        return u, tuple(last)


def build(
    *,
    obs_dim: int,
    action_dim: int,
    discrete: bool = False,
    init_std: float = 1.0,
    settings: MinLSTMSettings = MinLSTMSettings(),
) -> ActorCritic:
    """Build the policy; see ``policies.build``."""
    return ActorCritic("minlstm", MinLSTMCore(settings), obs_dim, action_dim, discrete, init_std)
