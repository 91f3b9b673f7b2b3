"""torch modules and TorchScript files that map observations to actions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.agents.files import File
from harness.agents.protocol import AgentError
from task_distributions import EnvSpec


@dataclass(frozen=True)
class TorchSettings:
    """Settings of the agent ``torch``."""

    path: File | None = None
    """TorchScript file (torch.jit.save), or .pt2 file (torch.export.save)."""
    recurrent: bool = False
    """The module also takes a hidden state, None at first, and returns the next one last."""
    train_env_steps: int = 0
    """Environment steps that it was trained for, for the table."""


class TorchAgent:
    """A module called with observations [B, O], float32; returns actions [B, A].

    Of a tuple, the first part is the action: a mean, or the scores of discrete ones. A recurrent
    module is also given its hidden state, None when an episode begins, and returns the next one as
    the last part.
    """

    def __init__(
        self, module: torch.nn.Module, *, recurrent: bool = False, train_env_steps: int = 0
    ) -> None:
        self._module, self._recurrent = module, recurrent
        self.num_params = sum(part.numel() for part in module.parameters())
        self.train_env_steps = train_env_steps

    def begin_task(self, spec: EnvSpec, num_episodes: int, seed: int) -> None:
        """Seed torch, for modules that sample."""
        torch.manual_seed(seed)

    def begin_episodes(self, num_episodes: int, query: bool) -> None:
        """Begin with a fresh state."""
        self._hidden: Any = None

    @torch.no_grad()
    def act(self, obs: NDArray[np.float64]) -> NDArray[Any]:
        """Return actions [B, A]."""
        x = torch.from_numpy(obs.astype(np.float32))
        out = self._module(x, self._hidden) if self._recurrent else self._module(x)
        if self._recurrent:
            self._hidden = out[-1]
        actions: NDArray[Any] = (out[0] if isinstance(out, tuple) else out).numpy()
        return actions


def torch_agent(settings: TorchSettings = TorchSettings()) -> TorchAgent:
    """Load the module.

    Raises:
        AgentError: no file is given.
    """
    if settings.path is None:
        raise AgentError("torch: path is missing: name the saved module")
    if settings.path.suffix == ".pt2":
        module: Any = torch.export.load(settings.path).module()
    else:
        with warnings.catch_warnings():  # deprecated, and still what most files are
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(settings.path), map_location="cpu")  # type: ignore[no-untyped-call]
        module.eval()
    return TorchAgent(
        module, recurrent=settings.recurrent, train_env_steps=settings.train_env_steps
    )
