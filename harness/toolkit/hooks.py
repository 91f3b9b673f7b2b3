"""Where an adapter meets a model: features from inside it, and losses of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harness.toolkit.module_adapter import Adapter

FEATURES: tuple[str, ...] = ("features", "hidden_state", "hidden_states", "logits")
"""Keys of a mapping of outputs in which features are looked for, in this order."""


class SSMHook:
    """Watches what a model computes: its hidden state, or the output of one of its layers."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._handle: RemovableHandle | None = None
        self._model: nn.Module | None = None
        self._seen: Tensor | None = None

    def attach(self, model: nn.Module, layer: str = "") -> SSMHook:
        """Watch ``layer`` (its dotted name) or the whole of ``model``; return this hook."""
        self.detach()
        self._model = model
        self._handle = model.get_submodule(layer).register_forward_hook(self._watch)
        return self

    def detach(self) -> None:
        """Stop watching."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._seen = self._model = None

    def features(self, batch: Any) -> Tensor:
        """Return the features ``[..., F]`` of the last call, cut from its graph.

        A model not called yet since ``attach`` is called on ``batch``.

        Raises:
            RuntimeError: not attached.
        """
        if self._model is None:
            raise RuntimeError("the hook is not attached; call attach(model) first")
        if self._seen is None:
            with torch.no_grad():
                _ = self._model(**batch) if isinstance(batch, Mapping) else self._model(batch)
        assert self._seen is not None
        return self._seen

    def _watch(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self._seen = _features(outputs).detach()


class MetaRLHook:
    """Losses of an actor-critic that has ``evaluate_actions``, for an adapter to descend.

    policy + value_coef * value - entropy_coef * entropy, the policy part the clipped surrogate of
    PPO (arXiv 1707.06347, eq. 7) where the batch knows how likely its actions were, else the plain
    policy gradient.

    Args:
        adapter: of the policy.
        clip: of the likelihood ratio.
        value_coef: weight of the squared error of the value head.
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
        """Return log-densities, values and entropies at the ``obs`` and ``actions`` of a batch."""
        found: tuple[Tensor, Tensor, Tensor] = self.adapter.model.evaluate_actions(  # type: ignore[operator]
            batch["obs"], batch["actions"], batch.get("hidden_state"), batch.get("first")
        )
        return found

    def loss(self, outputs: tuple[Tensor, Tensor, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Return the loss of a batch with ``advantages``, ``returns`` and perhaps ``log_probs``."""
        log_probs, values, entropy = outputs
        advantages = batch["advantages"]
        if "log_probs" in batch:
            ratio = torch.exp(log_probs - batch["log_probs"])
            clipped = ratio.clamp(1 - self._clip, 1 + self._clip)
            policy = -torch.minimum(ratio * advantages, clipped * advantages).mean()
        else:
            policy = -(log_probs * advantages).mean()
        value = (values - batch["returns"]).square().mean()
        total: Tensor = policy + self._value_coef * value - self._entropy_coef * entropy.mean()
        return total

    def adapt(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Adapt the policy on ``batch``; return what ``Adapter.adapt`` does."""
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
