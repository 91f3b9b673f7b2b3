"""Adapting to the present alone, or to the present and the past (experience replay)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.toolkit import stateful
from harness.toolkit.experience import ExperienceBuffer
from harness.toolkit.module_adapter import Adapter
from harness.toolkit.settings import AdaptationConfig


class StandardAdapter(Adapter):
    """Adapts to the present data alone."""


class HybridAdapter(Adapter):
    """Adapts to the present data and, with less weight, to past experiences.

    loss = loss(present) + experience_weight * loss(experience_batch_size past ones)

    Past ones are series of their own: a model with a hidden state starts them with a fresh one.
    """

    def __init__(
        self,
        model: nn.Module,
        config: AdaptationConfig | None = None,
        experience_buffer: ExperienceBuffer | None = None,
        device: str | torch.device = "cpu",
        loss_fn: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss,
    ) -> None:
        super().__init__(model, config, device, loss_fn=loss_fn)
        self.experience_buffer = (
            ExperienceBuffer(device=device) if experience_buffer is None else experience_buffer
        )

    def total_loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss on the present plus the weighted one on a sample of the past."""
        present = self.loss_fn(output, y)
        past = self.experience_buffer.get_batch(self.config.experience_batch_size)
        if past is None:
            return present
        x_past, y_past = (part.to(self.device) for part in past)
        start = stateful.initial_hidden(self.model, len(x_past))
        output_past, _ = stateful.call(self.model, x_past, start)
        return present + self.config.experience_weight * self.loss_fn(output_past, y_past)
