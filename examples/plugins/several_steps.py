"""Several policy-gradient steps per shot, all on the same support batch."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from harness.meta.adapters.base import AdapterSpec, Shot
from harness.meta.adapters.gradient import GradientAdapter
from policies.base import Params, Policy


@dataclass(frozen=True)
class SeveralStepsSettings:
    """Settings of ``several-steps``."""

    steps: Annotated[int, Ge(1)] = 3
    """Gradient steps per shot."""


@dataclass(frozen=True, slots=True)
class SeveralStepsAdapter(GradientAdapter):
    """Repeats the gradient step; the likelihood ratio corrects for the moving parameters."""

    name: str = "several-steps"

    def adapt(self, policy: Policy, params: Params, shot: Shot) -> Params:
        """Return the parameters [N, ...] after one more shot."""
        for _ in range(self.steps_per_shot):
            params = GradientAdapter.adapt(self, policy, params, shot)
        return params


SEVERAL_STEPS = AdapterSpec(
    build=lambda settings, inner_lr: SeveralStepsAdapter(inner_lr, steps_per_shot=settings.steps),
    settings=SeveralStepsSettings,
)
