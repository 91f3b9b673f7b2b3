"""Hooks between an adapter and a model: internal features, and actor-critic losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harness.meta import objectives
from harness.toolkit.adaptation import Adapter

FEATURES: tuple[str, ...] = ("features", "hidden_state", "hidden_states", "logits")
"""Keys searched for features in a mapping of outputs, in this order."""


class SSMHook:
    """Records a model's hidden state, or the output of one of its layers, at every call."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._handle: RemovableHandle | None = None
        self._model: nn.Module | None = None
        self._features: Tensor | None = None

    def attach(self, model: nn.Module, layer: str = "") -> SSMHook:
        """Record the outputs of ``model``, or of its submodule ``layer``; return this hook."""
        self.detach()
        self._model = model
        self._handle = model.get_submodule(layer).register_forward_hook(self._record)
        return self

    def detach(self) -> None:
        """Stop recording."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._features = self._model = None

    def features(self, batch: Any) -> Tensor:
        """Return the features ``[..., F]`` of the last call, detached from its graph.

        If the model was not called since ``attach``, it is called on ``batch``.

        Raises:
            RuntimeError: the hook is not attached.
        """
        if self._model is None:
            raise RuntimeError("the hook is not attached; call attach(model) first")
        if self._features is None:
            with torch.no_grad():
                _ = self._model(**batch) if isinstance(batch, Mapping) else self._model(batch)
        assert self._features is not None
        return self._features

    def _record(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self._features = _features(outputs).detach()


class MetaRLHook:
    """Adapts an actor-critic that has ``evaluate_actions`` by its policy and value losses.

    loss = policy + value_coef * value - entropy_coef * entropy

    The policy loss is PPO's clipped surrogate if the batch has the ``log_probs`` at sampling time,
    and the plain policy gradient otherwise.

    Args:
        adapter: of the policy.
        clip: range of the likelihood ratio (arXiv 1707.06347, eq. 7).
        value_coef: weight of the value head's squared error.
        entropy_coef: weight of the entropy bonus.
    """

    def __init__(
        self,
        adapter: Adapter,
        clip: float = 0.2,
        value_coef: float = 0.5,
        entropy_coef: float = 0.0,
    ) -> None:
        self.adapter = adapter
        self._clip, self._value_coef, self._entropy_coef = clip, value_coef, entropy_coef

    def outputs(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-densities, values and entropies for the batch's ``obs`` and ``actions``."""
        outputs: tuple[Tensor, Tensor, Tensor] = self.adapter.model.evaluate_actions(  # type: ignore[operator]
            batch["obs"], batch["actions"], batch.get("hidden_state"), batch.get("first")
        )
        return outputs

    def loss(self, outputs: tuple[Tensor, Tensor, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return the loss of a batch with ``advantages``, ``returns`` and maybe ``log_probs``."""
        log_probs, values, entropy = outputs
        advantages = batch["advantages"]
        if "log_probs" in batch:
            new, old, gain = (
                x.reshape(1, 1, -1) for x in (log_probs, batch["log_probs"], advantages)
            )
            mask = torch.ones_like(new, dtype=torch.bool)
            policy = objectives.ppo_clip_loss(new, old, gain, mask, self._clip)[0]
        else:
            policy = -(log_probs * advantages).mean()
        value = (values - batch["returns"]).square().mean()
        total: Tensor = policy + self._value_coef * value - self._entropy_coef * entropy.mean()
        return total

    def adapt(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Adapt the policy on ``batch``; return the result of ``Adapter.adapt``."""
        return self.adapter.adapt(self.loss, batch, fwd_fn=self.outputs)


def _features(outputs: Any) -> Tensor:
    if isinstance(outputs, Mapping):
        outputs = next((outputs[key] for key in FEATURES if key in outputs), None)
    while isinstance(outputs, tuple | list) and outputs:  # the hidden state comes last
        outputs = outputs[-1]
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"no features in {type(outputs).__name__}; attach to a layer that returns a tensor, or "
            f"return a mapping with one of {', '.join(FEATURES)}"
        )
    return outputs
