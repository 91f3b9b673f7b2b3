"""The interface of a policy: a pure function of parameters, inputs and memory.

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
"""Named parameters, each ``[N, ...]``. Never modified in place; adapting makes a new dict."""

Memory = tuple[Tensor, ...]
"""The recurrent state of a policy, each part ``[N, B, ...]``; empty for a memoryless policy."""


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """Action distribution, state value, their features, and the memory after the last step."""

    action_params: Float[Tensor, "N B T A"]
    """Mean of the Gaussian, or the logits of discrete actions."""
    log_std: Float[Tensor, "M 1 1 A"] | None
    """State-independent; M is N, or 1 when the parameters are shared. None when discrete."""
    value: Float[Tensor, "N B T"]
    memory: Memory
    features: Float[Tensor, "N B T H"]
    """What the heads read; ``rl2`` may predict the task from them while it is trained."""

    @property
    def discrete(self) -> bool:
        """Whether an action is a choice of one of A."""
        return self.log_std is None

    @property
    def head(self) -> Head:
        """The distribution over actions."""
        if self.log_std is None:
            return Categorical(self.action_params)
        return Gaussian(self.action_params, self.log_std)


@runtime_checkable
class Policy(Protocol):
    """A network that holds no parameters; one method serves acting (T = 1) and learning (T > 1)."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    @property
    def input_dim(self) -> int:
        """I, the width of the input."""
        ...

    @property
    def action_dim(self) -> int:
        """A, the numbers per action, or the actions to choose from."""
        ...

    @property
    def discrete(self) -> bool:
        """Whether an action is a choice of one of A."""
        ...

    def init_params(self, seed: int) -> Params:
        """Return initial parameters with a leading axis of 1, a function of ``seed`` alone."""
        ...

    def initial_memory(self, num_tasks: int, batch: int, like: Tensor) -> Memory:
        """Return the memory before the first step, with the dtype and device of ``like``."""
        ...

    def forward(
        self,
        params: Params,
        x: Float[Tensor, "N B T I"],
        first: Bool[Tensor, "N B T"],
        memory: Memory,
    ) -> PolicyOutput:
        """Run T steps from ``memory``; where ``first`` is set, memory is reset before that step.

        Parameters have a leading axis of N, or of 1 if all tasks share them.
        """
        ...
