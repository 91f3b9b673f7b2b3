"""Settings of test-time adaptation: how far, how often and how carefully parameters move."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import InitVar, dataclass

OPTIMIZERS: tuple[str, ...] = ("adam", "sgd")


@dataclass(frozen=True)
class AdaptationConfig:
    """What an ``Adapter`` does at each call. A guard that is None is off."""

    learning_rate: float = 1e-3
    """Step size; may be written ``lr``."""
    num_steps: int = 1
    """Gradient steps per call."""
    adapt_every: int = 1
    """Adapt at every so-manieth call; the calls between only measure the loss."""
    optimizer: str = "adam"
    """``adam`` or ``sgd``."""
    select: tuple[str, ...] = ("*",)
    """Patterns of the names of the parameters that may move."""
    max_grad_norm: float | None = 1.0
    """Guard: the gradient's norm is clipped to this."""
    max_param_step: float | None = None
    """Guard: no single number moves further than this in one step."""
    trust_radius: float | None = None
    """Guard: parameters stay within this distance (2-norm over all of them) of the anchor."""
    ema_decay: float | None = None
    """The anchor is the moving average of the parameters with this decay; the parameters the
    adapter began with if None."""
    entropy_weight: float = 1.0
    """Strategy ``tent``: weight of the predictive entropy beside the loss."""
    feature_momentum: float = 0.9
    """How much the running statistics of features keep at each observation."""
    experience_batch_size: int = 32
    """Hybrid adaptation: past experiences per step."""
    experience_weight: float = 0.1
    """Hybrid adaptation: weight of the loss on them."""
    lr: InitVar[float | None] = None
    """Short for ``learning_rate``."""

    def __post_init__(self, lr: float | None) -> None:
        if lr is not None:
            if self.learning_rate not in (type(self).learning_rate, lr):
                raise ValueError(
                    f"lr is {lr} and learning_rate is {self.learning_rate}; pass one of the two"
                )
            object.__setattr__(self, "learning_rate", lr)
        self._check()

    def _check(self) -> None:
        limits: tuple[tuple[str, Callable[[float], bool], str], ...] = (
            ("learning_rate", _above_zero, "a finite number above 0"),
            ("max_grad_norm", _above_zero, "a finite number above 0"),
            ("max_param_step", _above_zero, "a finite number above 0"),
            ("trust_radius", _above_zero, "a finite number above 0"),
            ("num_steps", lambda value: value >= 1, "at least 1"),
            ("adapt_every", lambda value: value >= 1, "at least 1"),
            ("experience_batch_size", lambda value: value >= 1, "at least 1"),
            ("ema_decay", lambda value: 0 <= value < 1, "in [0, 1)"),
            ("feature_momentum", lambda value: 0 <= value < 1, "in [0, 1)"),
            ("entropy_weight", lambda value: value >= 0, "0 or more"),
            ("experience_weight", lambda value: value >= 0, "0 or more"),
        )
        for name, allowed, words in limits:
            value = getattr(self, name)
            if value is not None and not allowed(value):
                raise ValueError(f"{name} is {value}; it must be {words}. Correct it")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer is {self.optimizer!r}; have: {', '.join(OPTIMIZERS)}. Pick one"
            )


def _above_zero(value: float) -> bool:
    return value > 0 and math.isfinite(value)
