"""Policies as ordinary torch modules: parameters, a hidden state, save and load.

They wrap the functional policies and add no equations. Parameters have the names of ``Params`` and
the shape ``[1, ...]``.

Shapes: x is ``[B, D]`` (a step) or ``[B, T, D]`` (a series); results have the same leading axes.
"""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

import policies
from policies.base import Memory, Params, Policy
from policies.heads import gaussian_entropy, gaussian_log_prob

Saved = TypeVar("Saved", bound="FunctionalModule")


class FunctionalModule(nn.Module):
    """A module whose parameters are a ``Params``: dotted names are nested modules."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self._config = config

    def register(self, params: Params) -> None:
        """Make ``params`` the parameters of this module."""
        self._names = tuple(params)
        self._get = attrgetter(*params)
        for name, value in params.items():
            owner: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            owner.register_parameter(last, nn.Parameter(value))

    def params(self) -> Params:
        """Return the parameters by name, in the form that functional policies take."""
        # Not get_parameter, which rejects the plain tensors that torch.func.functional_call sets.
        return dict(zip(self._names, self._get(self), strict=True))

    def save(self, path: str | Path) -> None:
        """Write sizes and parameters to one safetensors file, which holds no executable code."""
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        metadata = {"class": type(self).__name__, "config": json.dumps(self._config)}
        save_file(tensors, path, metadata)

    @classmethod
    def load(cls: type[Saved], path: str | Path, device: str | torch.device = "cpu") -> Saved:
        """Return the module that ``save`` wrote.

        Raises:
            ValueError: the file holds another class.
        """
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "checkpoint" in metadata:
            raise ValueError(
                f"{path} is a checkpoint of a run: load it by harness.load_policy(path)"
            )
        if metadata.get("class") != cls.__name__:
            raise ValueError(
                f"{path} holds {metadata.get('class', 'no class')!r}, not {cls.__name__!r}. "
                "Load it with the class that saved it"
            )
        module = cls(**json.loads(metadata["config"]))
        module.load_state_dict(tensors)
        return module.to(device)


class PolicyBase(FunctionalModule):
    """A policy that holds its parameters; its hidden state is its memory.

    Raises:
        ValueError: the policy has discrete actions.
    """

    def __init__(self, policy: Policy, config: dict[str, Any]) -> None:
        super().__init__(config)
        if policy.discrete:
            raise ValueError("a module has Gaussian actions; for discrete ones use policies.build")
        self.policy = policy
        self.input_dim, self.action_dim = policy.input_dim, policy.action_dim
        self.register(policy.init_params(seeded_generator().initial_seed()))

    def init_hidden(self, batch_size: int = 1) -> Memory:
        """Return the memory before the first step, one ``[B, ...]`` per part of it."""
        like = self.params()["log_std"]
        return tuple(part[0] for part in self.policy.initial_memory(1, batch_size, like))

    def forward(
        self, x: Tensor, hidden_state: Memory | None = None, first: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Memory]:
        """Return mean and log std ``[..., A]``, value ``[...]`` and the memory after the last step.

        ``first [B, T]`` resets the memory before the steps where it is set.
        """
        series = as_series(x, self.input_dim)
        batch, steps, _ = series.shape
        memory = self.init_hidden(batch) if hidden_state is None else hidden_state
        if first is None:
            first = torch.zeros(batch, steps, dtype=torch.bool, device=x.device)
        memory = tuple(part.unsqueeze(0) for part in memory)
        out = self.policy.forward(self.params(), series.unsqueeze(0), first.unsqueeze(0), memory)
        mean, value = out.action_params[0], out.value[0]
        if x.dim() == 2:
            mean, value = mean[:, 0], value[:, 0]
        assert out.log_std is not None
        log_std = out.log_std.flatten().expand_as(mean)
        return mean, log_std, value, tuple(part[0] for part in out.memory)

    def get_action(
        self, x: Tensor, hidden_state: Memory | None = None, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Memory]:
        """Return an action, its log-density, the value and the next memory.

        The action is not clipped to any bounds; the environment does that.
        """
        mean, log_std, value, memory = self(x, hidden_state)
        action = mean if deterministic else mean + log_std.exp() * torch.randn_like(mean)
        action = action.detach()
        return action, gaussian_log_prob(action, mean, log_std), value, memory

    def evaluate_actions(
        self,
        x: Tensor,
        actions: Tensor,
        hidden_state: Memory | None = None,
        first: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-density, value and entropy of ``actions`` taken at ``x``, each ``[...]``."""
        mean, log_std, value, _ = self(x, hidden_state, first)
        return gaussian_log_prob(actions, mean, log_std), value, gaussian_entropy(log_std)


class PolicyModule(PolicyBase):
    """A registered policy, by name; ``settings`` are the fields of its settings class."""

    def __init__(
        self, name: str, *, obs_dim: int, action_dim: int, init_std: float = 1.0, **settings: Any
    ) -> None:
        sizes: dict[str, Any] = {"obs_dim": obs_dim, "action_dim": action_dim, "init_std": init_std}
        chosen = policies.settings_class(name)(**settings)
        super().__init__(
            policies.build(name, **sizes, settings=chosen), {"name": name, **sizes, **settings}
        )


def seeded_generator() -> Generator:
    """Return a CPU generator seeded from torch's global one, so that ``manual_seed`` applies."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ()).item()))


def as_series(x: Tensor, width: int) -> Tensor:
    """Return ``x [B, D]`` or ``[B, T, D]`` as a series ``[B, T, D]``.

    Raises:
        ValueError: neither of these shapes, or D is not ``width``.
    """
    if x.dim() not in (2, 3) or x.shape[-1] != width:
        raise ValueError(
            f"x is {tuple(x.shape)}; give (batch, {width}) or (batch, time, {width}). Reshape it"
        )
    return x.unsqueeze(1) if x.dim() == 2 else x
