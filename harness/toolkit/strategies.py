"""What an adapter's loss gains beside the task's own: a registry, open to strategies of yours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from harness.toolkit.settings import AdaptationConfig
from policies.heads import categorical_entropy

_REGISTRY: dict[str, type[AdaptationStrategy]] = {}


class AdaptationStrategy:
    """Changes the loss before the gradient is taken; this one leaves it as it is."""

    def __init__(self, config: AdaptationConfig) -> None:
        self.config = config

    def post_loss(self, loss: Tensor | None, outputs: Any, batch: Any) -> Tensor | None:
        """Return the loss to descend; ``loss`` is None where there is no target."""
        return loss


Strategy = TypeVar("Strategy", bound=type[AdaptationStrategy])


def register_adaptation_strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Make a subclass of ``AdaptationStrategy`` known as ``name``; defining it again replaces it.

    Raises:
        ValueError: another class has the name.
    """

    def register(strategy: Strategy) -> Strategy:
        known = _REGISTRY.get(name)
        if known is not None and _identity(known) != _identity(strategy):
            raise ValueError(
                f"strategy {name!r} is {known.__module__}.{known.__qualname__} already; "
                "pick another name"
            )
        _REGISTRY[name] = strategy
        return strategy

    return register


def strategy_names() -> tuple[str, ...]:
    """Return the registered names."""
    return tuple(_REGISTRY)


def make_strategy(name: str, config: AdaptationConfig) -> AdaptationStrategy:
    """Build the strategy ``name``.

    Raises:
        ValueError: the name is not registered.
    """
    if name not in _REGISTRY:
        raise ValueError(
            f"unknown strategy {name!r}; have: {', '.join(strategy_names())}. "
            "Register it by @register_adaptation_strategy"
        )
    return _REGISTRY[name](config)


def logits_of(outputs: Any) -> Tensor:
    """Return the logits ``[..., classes]`` in what a model returned.

    Raises:
        ValueError: there are none.
    """
    if isinstance(outputs, Mapping) and "logits" in outputs:
        outputs = outputs["logits"]
    elif isinstance(outputs, tuple) and outputs:
        outputs = outputs[0]
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"no logits in {type(outputs).__name__}; return a tensor, a tuple that begins with "
            "one, or a mapping with 'logits'"
        )
    return outputs


register_adaptation_strategy("none")(AdaptationStrategy)


@register_adaptation_strategy("tent")
class Tent(AdaptationStrategy):
    """Entropy minimisation (arXiv 2006.10726): be sure, of anything."""

    def post_loss(self, loss: Tensor | None, outputs: Any, batch: Any) -> Tensor:
        """Return ``loss`` plus the weighted mean entropy of the predictions."""
        extra = self.config.entropy_weight * categorical_entropy(logits_of(outputs)).mean()
        return extra if loss is None else loss + extra


def _identity(strategy: type) -> tuple[str, str]:
    return strategy.__module__, strategy.__qualname__
