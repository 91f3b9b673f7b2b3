"""An agent whose module adapts in place, by a test-time adapter."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harness.toolkit.agents.base import ModuleAgent, lock_of
from harness.toolkit.hooks import MetaRLHook
from harness.toolkit.module_adapter import Adapter
from harness.toolkit.stateful import Hidden


class AdaptationAgent(ModuleAgent):
    """Acts with the adapter's module while the adapter moves its parameters.

    Args:
        adapter: of the module to act with.
        settings: those of ``ModuleAgent``.
    """

    def __init__(self, adapter: Adapter, **settings: Any) -> None:
        super().__init__(adapter.model, **settings)
        self.adapter = adapter
        self._hook = MetaRLHook(adapter)

    def adapt(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        hidden_state: Hidden = None,
    ) -> dict[str, float]:
        """Adapt to ``targets`` of ``inputs``; a policy without them to its own experience.

        Args:
            inputs: what was seen.
            targets: what the outputs should have been.
            hidden_state: before ``inputs``; fresh if None.

        Raises:
            ValueError: inputs without targets, or nothing to adapt on.
        """
        if inputs is None:
            batch = self.experience()
            with lock_of(self.model):
                return self._hook.adapt(batch)
        if targets is None:
            raise ValueError("inputs without targets; pass both, or neither")
        with lock_of(self.model):
            loss, steps = self.adapter.update_step(inputs, targets, hidden_state)
        return {"loss": loss, "steps": float(steps)}

    def update(self) -> dict[str, float]:
        """Keep what was learned: the parameters as they are become those ``reset`` goes back to."""
        return {"drift": self.adapter.commit()}

    def forget(self) -> None:
        """Go back to the parameters of the start, or of the last ``update``."""
        self.adapter.reset()
