"""What a policy is: a pure function of parameters, inputs and memory.

Dimension letters: N tasks (leading axis of every parameter; 1 when all tasks share one set),
B sequences per task, T time, I input, A action, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from policies.heads import Categorical, Gaussian, Head

Params = dict[str, Tensor]
"""Named parameters, each ``[N, ...]``. Values never changed in place; adapting makes a new dict."""

Memory = tuple[Tensor, ...]
"""What a policy carries from step to step, each ``[N, B, ...]``; empty for a memoryless policy."""


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """Action distribution, state value and the memory after the last step."""

    mean: Float[Tensor, "N B T A"]
    """Of the Gaussian; of discrete actions their logits."""
    log_std: Float[Tensor, "M 1 1 A"] | None
    """State-independent; M is N, or 1 when the parameters are shared. None: discrete actions."""
    value: Float[Tensor, "N B T"]
    memory: Memory

    @property
    def head(self) -> Head:
        """The distribution over actions."""
        if self.log_std is None:
            return Categorical(self.mean)
        return Gaussian(self.mean, self.log_std)


@runtime_checkable
class Policy(Protocol):
    """A network without parameters of its own; T = 1 acts, T > 1 learns, through one method."""

    name: str
    input_dim: int
    action_dim: int

    def init_params(self, seed: int) -> Params:
        """Return fresh parameters with a leading axis of 1, a function of ``seed`` alone."""
        ...

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return the memory before the first step, of the dtype and device of ``like``."""
        ...

    def forward(
        self,
        params: Params,
        x: Float[Tensor, "N B T I"],
        first: Bool[Tensor, "N B T"],
        memory: Memory,
    ) -> PolicyOutput:
        """Run T steps from ``memory``; where ``first`` is set, memory is reset before that step.

        Parameters have a leading axis of N, or of 1 to be shared by all tasks.
        """
        ...
