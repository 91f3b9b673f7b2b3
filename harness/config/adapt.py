"""Settings of scoring what adaptation gains, on top of those of scoring a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic.dataclasses import dataclass

from harness.config.schema import STRICT, EvaluateConfig, Positive, PositiveFloat, RunConfig
from harness.errors import UsageError
from harness.meta.learners.traits import traits

BOTH = "memory+gradient"
"""The adapter for which a policy is trained on other inputs than by itself."""


@dataclass(frozen=True, config=STRICT)
class AdaptCommandConfig(EvaluateConfig):
    """Scoring one checkpoint before and after adaptation."""

    adapt_steps: Positive = 5
    """Adaptation steps: shots, each a gradient step on its own episodes_per_shot episodes (a policy
    that adapts by memory: that many episodes more). With --online: gradient steps each time."""
    adapter: Literal["gradient", "memory", "memory+gradient", "hybrid"] | None = None
    """How the policy adapts; what its learner trained it for if not given, a gradient where that is
    not to adapt at all. Not with --online."""
    online: bool = False
    """Adapt while acting: after every adapt_every steps, on the buffer_size last steps."""
    adapt_every: Positive | None = None
    """With --online: environment steps between adaptations; an episode's length if not given."""
    adapt_lr: PositiveFloat | None = None
    """With --online: step size; 1e-3 if not given. Otherwise the checkpoint's is taken."""
    buffer_size: Positive | None = None
    """With --online: last environment steps to learn from; 1000 if not given."""

    def applied_to(self, stored: RunConfig) -> RunConfig:
        """Return the checkpoint's configuration with everything given here in its place.

        Raises:
            UsageError: the policy was trained on other inputs than the adapter feeds it.
        """
        chosen = super().applied_to(stored)
        shots = (self.adapt_steps,)
        scored = replace(chosen.evaluation, few_shot=shots, zero_shot=False)
        context = any(traits(learner).context for learner in stored.learner)
        adapter = self.adapter or stored.adapt.adapter
        if adapter in ("auto", "none"):
            adapter = "memory" if context else "gradient"
        trained = stored.adapt.adapter
        if adapter != trained and not context and BOTH in (adapter, trained):
            word = "with" if trained == BOTH else "without"
            raise UsageError(
                f"--adapter {adapter}: the checkpoint was trained {word} --adapter {BOTH}, by "
                "which a policy is fed what happened before too. Leave --adapter out"
            )
        adapt = replace(chosen.adapt, adapter=adapter)
        return replace(chosen, evaluation=scored, adapt=adapt)

    def check(self) -> None:
        """Refuse settings that would do nothing.

        Raises:
            UsageError: one is of the other kind of adaptation.
        """
        online = ("adapt_every", "adapt_lr", "buffer_size")
        offline = ("adapter", "episodes_per_shot", "protocol", "splits", "deterministic")
        unused = offline if self.online else online
        for name in unused:
            if getattr(self, name) is not None:
                flag, word = f"--{name.replace('_', '-')}", "without" if self.online else "with"
                raise UsageError(f"{flag} acts {word} --online only: leave one of the two out")
