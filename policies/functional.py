"""Building blocks with a leading task axis: linear maps, norm, resets and initialisers."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from policies.base import Memory, Params


def linear(params: Params, name: str, x: Tensor) -> Tensor:
    """Return ``x [N, ..., I]`` times ``name.weight [N, I, O]`` plus ``name.bias [N, 1, O]``."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    out = torch.baddbmm(params[f"{name}.bias"], flat, params[f"{name}.weight"])
    return out.view(*x.shape[:-1], out.shape[-1])


def rms_norm(x: Tensor) -> Tensor:
    """Return ``x`` with a mean square of one over its last axis (arXiv 1910.07467).

    It has no learned scale, since a linear map follows. Not torch's ``layer_norm``, whose third
    derivative is silently wrong (2.13, CPU): exact MAML-TRPO needs it.
    """
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)


def reset(memory: Memory, first: Tensor) -> Memory:
    """Return ``memory`` with zeros where ``first [N, B]`` is set.

    Zeros are filled in rather than multiplied, so that a NaN does not outlast its episode.
    """
    if not first.any():
        return memory
    return tuple(
        part.masked_fill(first.view(*first.shape, *(1,) * (part.dim() - 2)), 0.0) for part in memory
    )


def orthogonal(generator: Generator, rows: int, columns: int, gain: float = 1.0) -> Tensor:
    """Return a ``[1, rows, columns]`` weight with orthonormal rows or columns (arXiv 1312.6120)."""
    weight = torch.empty(rows, columns, dtype=torch.float32)
    torch.nn.init.orthogonal_(weight, gain, generator=generator)
    return weight.unsqueeze(0)


def orthogonal_gates(generator: Generator, rows: int, columns: int, gates: int) -> Tensor:
    """Return a ``[1, rows, gates * columns]`` weight in which each gate is orthogonal."""
    return torch.cat([orthogonal(generator, rows, columns) for _ in range(gates)], dim=-1)


def linear_params(
    generator: Generator, name: str, inputs: int, outputs: int, gain: float = 1.0
) -> Params:
    """Return orthogonal ``name.weight [1, I, O]`` and zero ``name.bias [1, 1, O]``."""
    return {
        f"{name}.weight": orthogonal(generator, inputs, outputs, gain),
        f"{name}.bias": torch.zeros(1, 1, outputs),
    }


def projection_params(generator: Generator, name: str, inputs: int, outputs: int) -> Params:
    """Return a linear map from ``inputs`` to ``outputs``; no parameters where these are equal."""
    return {} if inputs == outputs else linear_params(generator, name, inputs, outputs)


def project(params: Params, name: str, x: Tensor) -> Tensor:
    """Return ``x`` through the linear map of ``projection_params``; ``x`` itself if it has none."""
    return linear(params, name, x) if f"{name}.weight" in params else x


def positive(**sizes: int | float) -> None:
    """Check that all ``sizes`` are positive.

    Raises:
        ValueError: one of them is not.
    """
    for name, size in sizes.items():
        if not size > 0:
            raise ValueError(f"{name} is {size!r}; it must be greater than 0. Pass a larger {name}")
