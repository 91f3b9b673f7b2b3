"""An agent whose module is meta-trained by MAML and adapts as values: fast parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import mse_loss

from harness.meta.adapters.base import Shot
from harness.meta.adapters.gradient import GradientAdapter, inner_loss
from harness.meta.rollouts.batch import Batch
from harness.toolkit.agents.base import ModuleAgent, lock_of
from harness.toolkit.stateful import Hidden
from harness.toolkit.supervised import LossFn, MetaMAML, SupervisedTask
from policies.base import Params
from policies.modules import PolicyBase


class MetaMAMLAgent(ModuleAgent):
    """Adapts by MAML's inner steps, on data or on its own experience; the meta-parameters stay.

    Args:
        maml: holds the module and its meta-parameters.
        settings: those of ``ModuleAgent``.
    """

    def __init__(self, maml: MetaMAML, **settings: Any) -> None:
        super().__init__(maml.model, **settings)
        self.maml = maml
        self._fast: Params | None = None

    def fast_params(self) -> Params | None:
        """Return the adapted parameters, None before the first adaptation."""
        return self._fast

    def adapt(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        num_steps: int | None = None,
        initial_hidden_state: Hidden = None,
        loss_fn: LossFn = mse_loss,
    ) -> dict[str, float]:
        """Take inner steps; the next actions come from the parameters they lead to.

        Args:
            inputs: support inputs; without them a policy takes policy-gradient steps on what it
                did since it adapted last, from where it is.
            targets: what the outputs should have been; steps begin at the meta-parameters.
            num_steps: gradient steps; those of ``maml`` if None.
            initial_hidden_state: where the series of ``inputs`` start.
            loss_fn: of output and target.

        Raises:
            ValueError: inputs without targets, or nothing to adapt on.
        """
        steps = self.maml.inner_steps if num_steps is None else num_steps
        if inputs is None:
            return self._adapt_on_experience(steps)
        if targets is None:
            raise ValueError("inputs without targets; pass both, or neither")
        with lock_of(self.model):
            self._fast = self.maml.adapt_task(inputs, targets, initial_hidden_state, loss_fn, steps)
        return {"steps": float(steps)}

    def update(
        self,
        tasks: Sequence[SupervisedTask],
        initial_hidden_state: Hidden = None,
        loss_fn: LossFn = mse_loss,
    ) -> dict[str, float]:
        """Take one meta-update on ``tasks`` and drop adaptations to the parameters before it."""
        with lock_of(self.model):
            loss = self.maml.meta_update(tasks, initial_hidden_state, loss_fn)
        self.forget()
        return {"loss": loss}

    def forget(self) -> None:
        """Go back to the meta-parameters."""
        self._fast = None

    def _adapt_on_experience(self, steps: int) -> dict[str, float]:
        found = self.experience()
        assert isinstance(self.model, PolicyBase)
        memory = tuple(part.unsqueeze(0) for part in found["hidden_state"])
        batch = Batch(
            x=found["obs"].unsqueeze(0),
            first=found["first"].unsqueeze(0),
            actions=found["actions"].unsqueeze(0),
            log_probs=found["log_probs"].unsqueeze(0),
            advantages=found["advantages"].unsqueeze(0),
            value_targets=found["returns"].unsqueeze(0),
            mask=found["first"].new_ones(found["first"].shape).unsqueeze(0),
            memory=memory,
        )
        with lock_of(self.model):  # while another agent acts, its own parameters are in the module
            params = self.model.params() if self._fast is None else self._fast
        loss = inner_loss(batch.forward(self.model.policy, params), batch).item()
        adapter = GradientAdapter(self.maml.inner_lr)
        for _ in range(steps):
            params = adapter.adapt(self.model.policy, params, Shot(batch))
        self._fast = params
        self.trail.clear()
        return {"steps": float(steps), "loss": loss}
