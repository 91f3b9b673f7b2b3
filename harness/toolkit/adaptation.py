"""Test-time adaptation of any torch module, in place and under guards.

One step: gradient -> clip its norm -> optimizer -> bound each entry's change -> trust region ->
moving average. The benchmark's own adapters, which map ``Params`` to ``Params``, are in
``harness.meta.adapters``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import InitVar, dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from harness.toolkit import stateful
from harness.toolkit.stateful import Hidden
from policies.heads import categorical_entropy

BatchLoss = Callable[[Any, Any], Tensor]
"""(outputs, batch) -> scalar loss."""
LossFn = Callable[[Tensor, Tensor], Tensor]
"""(output, target) -> scalar loss."""

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}
RANGES: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    (
        "a finite number above 0",
        lambda value: 0 < value < math.inf,
        ("learning_rate", "max_grad_norm", "max_param_step", "trust_radius"),
    ),
    (
        "at least 1",
        lambda value: value >= 1,
        ("num_steps", "adapt_every", "experience_batch_size"),
    ),
    ("in [0, 1)", lambda value: 0 <= value < 1, ("ema_decay", "feature_momentum")),
    ("at least 0", lambda value: value >= 0, ("entropy_weight", "experience_weight")),
)
"""Description, test and fields of ``AdaptationConfig`` for each range of values."""


@dataclass(frozen=True)
class AdaptationConfig:
    """Settings of an ``Adapter``. A guard that is None is off.

    Raises:
        ValueError: a value is out of range, or ``lr`` contradicts ``learning_rate``.
    """

    learning_rate: float = 1e-3
    """Step size; ``lr`` is accepted as a short form."""
    num_steps: int = 1
    """Gradient steps per call."""
    adapt_every: int = 1
    """Adapt on every n-th call, starting with the first; other calls only measure the loss."""
    optimizer: str = "adam"
    """``adam`` or ``sgd``."""
    select: tuple[str, ...] = ("*",)
    """Patterns for the names of the parameters to adapt."""
    max_grad_norm: float | None = 1.0
    """Guard: maximum norm of the gradient, which is scaled down if necessary."""
    max_param_step: float | None = None
    """Guard: maximum change of each parameter entry in one step."""
    trust_radius: float | None = None
    """Guard: maximum distance (2-norm over all adapted parameters) from the anchor."""
    ema_decay: float | None = None
    """Decay of the moving average of the parameters that serves as the anchor; if None, the
    anchor is fixed at the initial parameters."""
    entropy_weight: float = 1.0
    """Strategy ``tent``: weight of the predictive entropy in the loss."""
    feature_momentum: float = 0.9
    """Decay of the running feature statistics at each observation."""
    experience_batch_size: int = 32
    """Hybrid adaptation: past experiences per step."""
    experience_weight: float = 0.1
    """Hybrid adaptation: weight of the loss on past experiences."""
    lr: InitVar[float | None] = None
    """Short form of ``learning_rate``."""

    def __post_init__(self, lr: float | None) -> None:
        if lr is not None:
            if self.learning_rate not in (type(self).learning_rate, lr):
                raise ValueError(
                    f"lr is {lr} and learning_rate is {self.learning_rate}; pass only one of them"
                )
            object.__setattr__(self, "learning_rate", lr)
        for description, is_valid, names in RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not is_valid(value):
                    raise ValueError(f"{name} is {value}; it must be {description}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"unknown optimizer {self.optimizer!r}; choose from: {', '.join(OPTIMIZERS)}"
            )


class AdaptationStrategy:
    """Modifies the loss before its gradient is taken. The base class leaves it unchanged."""

    def __init__(self, config: AdaptationConfig) -> None:
        self.config = config

    def post_loss(self, loss: Tensor | None, outputs: Any, batch: Any) -> Tensor | None:
        """Return the loss to minimize; ``loss`` is None if there are no targets."""
        return loss


Strategy = TypeVar("Strategy", bound=type[AdaptationStrategy])

_STRATEGIES: dict[str, type[AdaptationStrategy]] = {}


def register_adaptation_strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Register a subclass of ``AdaptationStrategy``; defining the same class again replaces it.

    Raises:
        ValueError: the name belongs to another class.
    """

    def register(strategy: Strategy) -> Strategy:
        current = _STRATEGIES.get(name, strategy)
        identities = {(cls.__module__, cls.__qualname__) for cls in (current, strategy)}
        if len(identities) > 1:
            raise ValueError(
                f"strategy {name!r} is already registered by "
                f"{current.__module__}.{current.__qualname__}; choose another name"
            )
        _STRATEGIES[name] = strategy
        return strategy

    return register


def strategy_names() -> tuple[str, ...]:
    """Return the names of the registered strategies."""
    return tuple(_STRATEGIES)


register_adaptation_strategy("none")(AdaptationStrategy)


@register_adaptation_strategy("tent")
class Tent(AdaptationStrategy):
    """Entropy minimization (arXiv 2006.10726)."""

    def post_loss(self, loss: Tensor | None, outputs: Any, batch: Any) -> Tensor:
        """Return ``loss`` plus the weighted mean entropy of the predictions."""
        penalty = self.config.entropy_weight * categorical_entropy(_logits(outputs)).mean()
        return penalty if loss is None else loss + penalty


def _logits(outputs: Any) -> Tensor:
    """Return the logits ``[..., classes]`` among the outputs of a model."""
    if isinstance(outputs, Mapping) and "logits" in outputs:
        outputs = outputs["logits"]
    elif isinstance(outputs, tuple) and outputs:
        outputs = outputs[0]
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"no logits in {type(outputs).__name__}; return a tensor, a tuple that starts with "
            "one, or a mapping with the key 'logits'"
        )
    return outputs


@dataclass(frozen=True, slots=True)
class MetaFeatures:
    """Label-free indicators of how well a model fits a batch."""

    entropy: float
    """Mean predictive entropy in nats."""
    confidence: float
    """Mean probability of the most likely class."""
    variance: float
    """Mean of 1 - sum p^2, the total variance of the one-hot class."""
    feature_shift: float
    """Distance of the batch's mean feature from the running mean, in running standard deviations:
    the root mean square over features. 0 for the first batch or without features."""


class FeatureMonitor:
    """Exponential moving mean and variance of features, used to detect distribution shift."""

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._moments: Tensor | None = None  # [2, F]: mean and mean square

    @torch.no_grad()
    def observe(self, outputs: Any, features: Tensor | None) -> MetaFeatures:
        """Return the meta-features of a batch, then update the running statistics.

        Args:
            outputs: model outputs with logits ``[..., classes]``.
            features: ``[..., F]``, or None.
        """
        logits = _logits(outputs)
        probabilities = logits.softmax(-1)
        return MetaFeatures(
            entropy=categorical_entropy(logits).mean().item(),
            confidence=probabilities.amax(-1).mean().item(),
            variance=(1 - probabilities.square().sum(-1)).mean().item(),
            feature_shift=0.0 if features is None else self._shift(features),
        )

    def _shift(self, features: Tensor) -> float:
        rows = features.detach().reshape(-1, features.shape[-1])
        moments = torch.stack([rows.mean(0), rows.square().mean(0)])
        if self._moments is None:
            self._moments = moments
            return 0.0
        mean, mean_square = self._moments
        variance = (mean_square - mean.square()).clamp(min=1e-8)
        shift = ((moments[0] - mean).square() / variance).mean().sqrt()
        self._moments = torch.lerp(moments, self._moments, self._momentum)
        return float(shift)


class Anchor:
    """Center of the trust region: the initial parameters or their moving average.

    Args:
        parameters: copied as the initial anchor.
        ema_decay: decay of the moving average; None fixes the anchor.
        radius: of the trust region; None disables it.
    """

    def __init__(
        self, parameters: Sequence[Tensor], ema_decay: float | None, radius: float | None
    ) -> None:
        self.values = _copies(parameters)
        self._decay, self._radius = ema_decay, radius

    @torch.no_grad()
    def constrain(self, parameters: Sequence[Tensor]) -> None:
        """Project ``parameters`` onto the trust region, then update the moving average."""
        if self._radius is not None:
            offsets = [p - value for p, value in zip(parameters, self.values, strict=True)]
            distance = get_total_norm(offsets)
            if distance > self._radius:
                for parameter, value, offset in zip(parameters, self.values, offsets, strict=True):
                    parameter.copy_(value + offset * (self._radius / distance))
        if self._decay is not None:
            for value, parameter in zip(self.values, parameters, strict=True):
                value.lerp_(parameter, 1 - self._decay)


class Adapter:
    """Adapts the parameters of ``model`` by a few guarded gradient steps per call.

    Args:
        model: any differentiable module; changed in place.
        config: step size, frequency and guards.
        device: ``model`` is moved there.
        strategy: name of a registered strategy that modifies the loss.
        loss_fn: loss for ``update_step``.

    Raises:
        ValueError: the strategy is unknown, or ``config.select`` matches no parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        config: AdaptationConfig | None = None,
        device: str | torch.device = "cpu",
        strategy: str = "none",
        loss_fn: LossFn = nn.functional.mse_loss,
    ) -> None:
        self.model, self.device = model.to(device), torch.device(device)
        self.config = config or AdaptationConfig()
        self.loss_fn = loss_fn
        if strategy not in _STRATEGIES:
            raise ValueError(
                f"unknown strategy {strategy!r}; choose from: {', '.join(strategy_names())}. "
                "Add your own with @register_adaptation_strategy"
            )
        self.strategy = _STRATEGIES[strategy](self.config)
        self._parameters = self._selected_parameters()
        self._monitor = FeatureMonitor(self.config.feature_momentum)
        self._calls = 0
        self.skipped = 0
        """Steps skipped because the loss or its gradient was not finite."""
        self._restart()

    def update_step(self, x: Tensor, y: Tensor, hidden_state: Hidden = None) -> tuple[float, int]:
        """Adapt to inputs ``x`` with targets ``y``.

        Args:
            x: inputs ``[B, ...]`` or ``[B, T, ...]``.
            y: targets.
            hidden_state: state before ``x``, from which every gradient step starts; it is
                detached. If None, a model with hidden state starts from its initial one.

        Returns:
            The loss before the last step and the number of steps taken, which is 0 for calls that
            ``adapt_every`` skips.
        """
        x, y = x.to(self.device), y.to(self.device)
        if hidden_state is None:
            hidden_state = stateful.initial_hidden(self.model, len(x))
        hidden = stateful.detach(hidden_state)
        info = self.adapt(
            lambda output, _: self.total_loss(output, y),
            (x, y),
            fwd_fn=lambda _: stateful.call(self.model, x, hidden)[0],
        )
        return info["loss"], int(info["steps"])

    def total_loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss that ``update_step`` minimizes, given the model's output."""
        return self.loss_fn(output, y)

    def adapt(
        self,
        loss_fn: BatchLoss | None,
        batch: Any,
        fwd_fn: Callable[[Any], Any] | None = None,
    ) -> dict[str, float]:
        """Take this call's gradient steps on ``batch``.

        Args:
            loss_fn: loss of outputs and batch; None if there are no targets and the strategy
                alone defines the loss.
            batch: passed to ``fwd_fn`` and ``loss_fn``.
            fwd_fn: computes the outputs from the batch. The default calls the model, with keyword
                arguments if the batch is a mapping.

        Returns:
            ``loss`` before the last step, numbers of ``steps`` taken and ``skipped``,
            ``grad_norm`` before clipping, and ``drift``, the distance from the start.

        Raises:
            ValueError: neither ``loss_fn`` nor the strategy defines a loss, or the loss does not
                depend on the adapted parameters.
        """
        forward = self._forward if fwd_fn is None else fwd_fn
        due = self._calls % self.config.adapt_every == 0
        self._calls += 1
        info = {"loss": math.nan, "steps": 0.0, "skipped": 0.0, "grad_norm": 0.0}
        for _ in range(self.config.num_steps if due else 1):
            with torch.set_grad_enabled(due):
                outputs = forward(batch)
                loss = None if loss_fn is None else loss_fn(outputs, batch)
                loss = self.strategy.post_loss(loss, outputs, batch)
            if loss is None:
                raise ValueError("no loss to minimize: pass loss_fn or a strategy such as 'tent'")
            info["loss"] = loss.item()
            if due:
                info["grad_norm"] = self._step(loss)
                info["skipped" if math.isnan(info["grad_norm"]) else "steps"] += 1
        info["drift"] = self.drift()
        return info

    def observe(self, outputs: Any, batch: Any, feats: Tensor | None = None) -> MetaFeatures:
        """Return the meta-features of a batch: entropy, confidence, variance, feature shift."""
        return self._monitor.observe(outputs, feats)

    @contextmanager
    def context(self, model: nn.Module) -> Iterator[Adapter]:
        """Adapt in a transaction: an exception restores parameters, anchor and optimizer.

        Raises:
            ValueError: ``model`` is not the adapter's model.
        """
        if model is not self.model:
            raise ValueError("this adapter belongs to another model; create one for this model")
        parameters, anchor = _copies(self._parameters), _copies(self._anchor.values)
        optimizer = deepcopy(self._optimizer.state_dict())
        try:
            with torch.enable_grad():
                yield self
        except BaseException:
            self._load(parameters)
            self._anchor.values = anchor
            self._optimizer.load_state_dict(optimizer)
            raise

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """Temporarily replace the parameters by the anchor (the moving average, if enabled)."""
        parameters = _copies(self._parameters)
        self._load(self._anchor.values)
        try:
            yield self.model
        finally:
            self._load(parameters)

    def drift(self) -> float:
        """Return the distance (2-norm) from the starting parameters."""
        pairs = zip(self._parameters, self._start, strict=True)
        return get_total_norm([parameter.detach() - start for parameter, start in pairs]).item()

    def reset(self) -> None:
        """Restore the starting parameters, anchor and optimizer state."""
        self._load(self._start)
        self._restart()

    def commit(self) -> float:
        """Make the current parameters the starting ones; return their drift until now."""
        drift = self.drift()
        self._restart()
        return drift

    def _restart(self) -> None:
        """Start from the current parameters, with a new optimizer and anchor."""
        config = self.config
        self._start = _copies(self._parameters)
        self._optimizer = OPTIMIZERS[config.optimizer](self._parameters, lr=config.learning_rate)  # type: ignore[call-arg]
        self._anchor = Anchor(self._parameters, config.ema_decay, config.trust_radius)

    def _selected_parameters(self) -> list[nn.Parameter]:
        selected = [
            parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
            and any(fnmatchcase(name, pattern) for pattern in self.config.select)
        ]
        if not selected:
            names = ", ".join(name for name, _ in self.model.named_parameters())
            raise ValueError(
                f"select {self.config.select} matches no parameter; choose from: {names}"
            )
        return selected

    def _forward(self, batch: Any) -> Any:
        return self.model(**batch) if isinstance(batch, Mapping) else self.model(batch)

    def _step(self, loss: Tensor) -> float:
        """Take one guarded step; return the gradient's norm, or NaN if the step was skipped."""
        all_gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        gradients = [gradient for gradient in all_gradients if gradient is not None]
        if not gradients:
            raise ValueError("the loss depends on none of the parameters to adapt")
        norm = get_total_norm(gradients)
        if not (loss.isfinite() and norm.isfinite()):
            self.skipped += 1
            return math.nan
        limit = self.config.max_grad_norm
        scale = 1.0 if limit is None or norm <= limit else limit / norm
        before = _copies(self._parameters)
        for parameter, gradient in zip(self._parameters, all_gradients, strict=True):
            parameter.grad = None if gradient is None else gradient * scale
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._bound_step(before)
        self._anchor.constrain(self._parameters)
        return norm.item()

    @torch.no_grad()
    def _bound_step(self, before: list[Tensor]) -> None:
        """Limit each entry's change since ``before`` to ``max_param_step``."""
        limit = self.config.max_param_step
        if limit is not None:
            for parameter, old in zip(self._parameters, before, strict=True):
                parameter.copy_(old + (parameter - old).clamp(-limit, limit))

    @torch.no_grad()
    def _load(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def create_adapter(
    model: nn.Module,
    config: AdaptationConfig | None = None,
    strategy: str = "none",
    device: str | torch.device = "cpu",
) -> Adapter:
    """Return an ``Adapter`` for ``model`` with the named strategy."""
    return Adapter(model, config, device, strategy)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]
