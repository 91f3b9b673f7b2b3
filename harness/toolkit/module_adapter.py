"""Adapting any torch module at test time, in place and within guards.

A step: gradient -> clip -> optimiser -> bound per number -> trust region -> moving average.
What an inner loop of the harness does to ``Params`` as values is ``gradient``; this is for modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from harness.toolkit import stateful
from harness.toolkit.features import FeatureMonitor, MetaFeatures
from harness.toolkit.guards import Anchor, bound_step, clip_gradients, global_norm
from harness.toolkit.settings import AdaptationConfig
from harness.toolkit.stateful import Hidden
from harness.toolkit.strategies import make_strategy

BatchLoss = Callable[[Any, Any], Tensor]
"""(outputs, batch) -> a number to descend."""


class Adapter:
    """Moves the parameters of ``model`` by a few guarded gradient steps per call.

    Args:
        model: any differentiable module; changed in place.
        config: how far, how often, how carefully.
        device: where ``model`` is moved to.
        strategy: what the loss gains; a name of ``strategies``.
        loss_fn: of output and target, for ``update_step``.

    Raises:
        ValueError: unknown strategy, or ``config.select`` matches no parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        config: AdaptationConfig | None = None,
        device: str | torch.device = "cpu",
        strategy: str = "none",
        loss_fn: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss,
    ) -> None:
        self.model, self.device = model.to(device), torch.device(device)
        self.config = config or AdaptationConfig()
        self.loss_fn = loss_fn
        self.strategy = make_strategy(strategy, self.config)
        self._names, self._parameters = self._selected()
        self._start = [parameter.detach().clone() for parameter in self._parameters]
        self._monitor = FeatureMonitor(self.config.feature_momentum)
        self._calls = 0
        self.skipped = 0
        """Steps not taken because the loss or its gradient was not finite."""
        self._begin()

    def update_step(self, x: Tensor, y: Tensor, hidden_state: Hidden = None) -> tuple[float, int]:
        """Adapt to ``x``, whose output should have been ``y``.

        Args:
            x: inputs ``[B, ...]`` or ``[B, T, ...]``.
            y: targets.
            hidden_state: the state before ``x``, where every gradient step starts from; cut from
                its graph. A fresh one if None and the model has any.

        Returns:
            The loss the last step descended, and the number of steps taken: 0 at a call that
            ``adapt_every`` passes over.
        """
        x, y = x.to(self.device), y.to(self.device)
        if hidden_state is None:
            hidden_state = stateful.initial_hidden(self.model, len(x))
        hidden = stateful.detach(hidden_state)

        def forward(_: Any) -> Any:
            return stateful.call(self.model, x, hidden)[0]

        info = self.adapt(lambda output, _: self.total_loss(output, y), (x, y), fwd_fn=forward)
        return info["loss"], int(info["steps"])

    def adapt(
        self,
        loss_fn: BatchLoss | None,
        batch: Any,
        fwd_fn: Callable[[Any], Any] | None = None,
    ) -> dict[str, float]:
        """Take the steps of one call on ``batch``.

        Args:
            loss_fn: of outputs and batch; None where there are no targets, and the strategy alone
                says what to descend.
            batch: anything ``fwd_fn`` and ``loss_fn`` take.
            fwd_fn: batch to outputs; by default the model on it, by keywords if it is a mapping.

        Returns:
            ``loss`` before the last step, ``steps`` taken, ``skipped`` ones, ``grad_norm`` before
            clipping and ``drift``, the distance from the parameters at the start.
        """
        forward = self._forward if fwd_fn is None else fwd_fn
        due = self._calls % self.config.adapt_every == 0
        self._calls += 1
        info = {"loss": float("nan"), "steps": 0.0, "skipped": 0.0, "grad_norm": 0.0}
        for _ in range(self.config.num_steps if due else 1):
            with torch.set_grad_enabled(due):
                outputs = forward(batch)
                loss = None if loss_fn is None else loss_fn(outputs, batch)
                loss = self.strategy.post_loss(loss, outputs, batch)
            if loss is None:
                raise ValueError("nothing to descend: pass a loss_fn or a strategy such as 'tent'")
            info["loss"] = loss.item()
            if due:
                norm = self._step(loss)
                info["grad_norm"] = norm
                info["steps" if norm == norm else "skipped"] += 1
        info["drift"] = self.drift()
        return info

    def observe(self, outputs: Any, batch: Any, feats: Tensor | None = None) -> MetaFeatures:
        """Return the meta-features of a batch: entropy, confidence, variance, feature shift."""
        return self._monitor.observe(outputs, feats)

    @contextmanager
    def context(self, model: nn.Module) -> Iterator[Adapter]:
        """Adapt inside, all or nothing: an exception brings parameters and optimiser back.

        Raises:
            ValueError: ``model`` is not the adapter's.
        """
        if model is not self.model:
            raise ValueError("this adapter adapts another model; create one for this model")
        kept = [parameter.detach().clone() for parameter in self._parameters]
        anchor = [value.clone() for value in self._anchor.values]
        optimizer = deepcopy(self._optimizer.state_dict())
        try:
            with torch.enable_grad():
                yield self
        except BaseException:
            self._load(kept)
            self._anchor.values = anchor
            self._optimizer.load_state_dict(optimizer)
            raise

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """Run the model with its anchor, the moving average if there is one, in place of itself."""
        kept = [parameter.detach().clone() for parameter in self._parameters]
        self._load(self._anchor.values)
        try:
            yield self.model
        finally:
            self._load(kept)

    def drift(self) -> float:
        """Return the distance (2-norm) from the parameters at the start."""
        pairs = zip(self._parameters, self._start, strict=True)
        return global_norm([parameter.detach() - start for parameter, start in pairs]).item()

    def reset(self) -> None:
        """Bring back the parameters, the anchor and the optimiser of the start."""
        self._load(self._start)
        self._begin()

    def commit(self) -> float:
        """Make the parameters as they are the start; return how far they had come."""
        came = self.drift()
        self._start = [parameter.detach().clone() for parameter in self._parameters]
        self._begin()
        return came

    def _begin(self) -> None:
        kind = torch.optim.Adam if self.config.optimizer == "adam" else torch.optim.SGD
        self._optimizer: torch.optim.Optimizer = kind(
            self._parameters, lr=self.config.learning_rate
        )
        self._anchor = Anchor(self._parameters, self.config.ema_decay, self.config.trust_radius)

    def _selected(self) -> tuple[list[str], list[nn.Parameter]]:
        chosen = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
            and any(fnmatchcase(name, pattern) for pattern in self.config.select)
        }
        if not chosen:
            have = ", ".join(name for name, _ in self.model.named_parameters())
            raise ValueError(f"select {self.config.select} matches no parameter; have: {have}")
        return list(chosen), list(chosen.values())

    def _forward(self, batch: Any) -> Any:
        return self.model(**batch) if isinstance(batch, Mapping) else self.model(batch)

    def total_loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return what ``update_step`` descends, given the output for its ``x``."""
        return self.loss_fn(output, y)

    def _step(self, loss: Tensor) -> float:
        """Take one guarded step; return the gradient's norm, NaN if it was skipped."""
        found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        used = [
            (parameter, gradient)
            for parameter, gradient in zip(self._parameters, found, strict=True)
            if gradient is not None
        ]
        if not used:
            raise ValueError("the loss depends on none of the parameters that may move")
        gradients, norm = clip_gradients([g for _, g in used], self.config.max_grad_norm)
        if not (loss.isfinite() and norm < float("inf")):
            self.skipped += 1
            return float("nan")
        before = [parameter.detach().clone() for parameter in self._parameters]
        for (parameter, _), gradient in zip(used, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()
        bound_step(self._parameters, before, self.config.max_param_step)
        self._anchor.hold(self._parameters)
        return norm

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
    """Return an adapter of ``model`` with the strategy of that name."""
    return Adapter(model, config, device, strategy)
