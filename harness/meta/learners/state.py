"""The learner's state between iterations, and its way into a checkpoint and back."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from harness.meta.learners.base import (
    CollectReport,
    IterationInfo,
    PolicySnapshot,
    Request,
    RequestKind,
    ScalarMoments,
    nanmean,
)
from harness.meta.rollouts.normalizer import Moments, Normalizer
from policies.actor_critic import SHORTCUT
from policies.base import Params
from policies.params import clone

S = TypeVar("S", bound="LearnerState")


@dataclass(slots=True)
class LearnerState:
    """Meta-parameters, their optimiser, and running statistics of the training data."""

    params: Params
    optimizer: torch.optim.Adam
    moments: Moments
    returns: ScalarMoments
    normalize_obs: bool
    learning_rate: float
    """Adam's step size before the fall that training ends with."""
    iteration: int = 0
    env_steps: int = 0
    skipped: int = 0
    """Iterations in a row that a non-finite gradient cut short."""
    _cut_short: bool = False
    """Whether that happened in this iteration."""

    @classmethod
    def fresh(cls: type[S], params: Params, lr: float, obs_dim: int, normalize_obs: bool) -> S:
        """Return the state before the first iteration."""
        leaves = clone(params)
        optimizer = torch.optim.Adam(list(leaves.values()), lr=lr)
        return cls(leaves, optimizer, Moments.zero(obs_dim), ScalarMoments(), normalize_obs, lr)

    def snapshot(self) -> PolicySnapshot:
        """Return the policy at the meta-parameters, unchanged by later updates."""
        identity = Normalizer.identity(len(self.moments.total))
        normalizer = self.moments.normalizer() if self.normalize_obs else identity
        return PolicySnapshot(
            clone(self.params), normalizer, self.returns.deviation(), self.env_steps
        )

    def accepts(self, gradient_norm: float) -> bool:
        """Return whether to follow a gradient of this norm; if not, the iteration is cut short."""
        self._cut_short |= not math.isfinite(gradient_norm)
        return not self._cut_short

    def adam_step(self, gradient: Params, scale: float = 1.0) -> None:
        """Take one Adam step along ``gradient * scale``."""
        for name, value in self.params.items():
            value.grad = gradient[name] * scale
        self.optimizer.step()

    def collect(
        self, *, warm_up: bool
    ) -> Generator[Request, list[CollectReport], list[CollectReport]]:
        """Ask for an iteration's data; in the first, after a ``warm_up`` that is only counted."""
        if warm_up and not self.iteration:
            self.count((yield Request(RequestKind.COLLECT, self.snapshot())))
        return (yield Request(RequestKind.COLLECT, self.snapshot()))

    def count(self, reports: Sequence[CollectReport]) -> None:
        """Count collected data: its steps, and the scale of its observations and returns."""
        for report in reports:
            self.env_steps += report.env_steps
            self.moments = self.moments + report.moments
            self.returns = self.returns + report.returns

    def finish_iteration(
        self, reports: Sequence[CollectReport], info: dict[str, float], *, counted: bool = False
    ) -> IterationInfo:
        """Count the iteration and, if not ``counted`` yet, its data; return what it reports."""
        self.iteration += 1
        self.skipped = self.skipped + 1 if self._cut_short else 0
        self._cut_short = False
        if not counted:
            self.count(reports)
        pre = [value for report in reports for value in report.pre_returns]
        post = [value for report in reports for value in report.post_returns]
        invalid = float(sum(report.invalid for report in reports))
        info |= {"invalid_episodes": invalid, "skipped_in_a_row": float(self.skipped)}
        return IterationInfo(nanmean(pre), nanmean(post), info)

    def save(self) -> tuple[Params, dict[str, Any]]:
        """Return the whole state as named tensors and JSON values."""
        names = list(self.params)
        tensors = {f"params/{name}": value for name, value in self.params.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                tensors[f"adam/{key}/{names[index]}"] = value
        tensors["obs/total"] = torch.from_numpy(self.moments.total)
        tensors["obs/square"] = torch.from_numpy(self.moments.square)
        meta = {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "skipped": self.skipped,
            "learning_rate": self.learning_rate,
            "obs_count": self.moments.count,
            "return_moments": [self.returns.count, self.returns.total, self.returns.square],
        }
        return tensors, meta

    def load(self, tensors: Params, meta: dict[str, Any]) -> None:
        """Restore what ``save`` returned; to act, also a policy without shortcut, as RLlib's is."""
        weight = f"{SHORTCUT}.weight"
        if weight in self.params and f"params/{weight}" not in tensors:
            kept = {key: self.params[key] for key in self.params if not key.startswith(SHORTCUT)}
            self.params = kept
            self.optimizer = torch.optim.Adam(list(kept.values()), lr=self.learning_rate)
        names = list(self.params)
        adam: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in self.params.items():
            value.copy_(tensors[f"params/{name}"])
        for key, tensor in tensors.items():
            if key.startswith("adam/"):
                _, moment, name = key.split("/", 2)
                adam.setdefault(names.index(name), {})[moment] = tensor.clone()
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": adam})
        total, square = tensors["obs/total"].numpy(), tensors["obs/square"].numpy()
        self.moments = Moments(float(meta["obs_count"]), np.array(total), np.array(square))
        self.returns = ScalarMoments(*map(float, meta["return_moments"]))
        self.iteration = int(meta["iteration"])
        self.env_steps = int(meta["env_steps"])
        self.skipped = int(meta["skipped"])
        self.learning_rate = float(meta.get("learning_rate", self.learning_rate))


def dot(x: Params, y: Params) -> float:
    """Return the inner product of two sets of parameters, in double precision."""
    return sum(float((x[name].double() * y[name].double()).sum()) for name in x)


def norm(x: Params) -> float:
    """Return the Euclidean norm of all parameters together."""
    return math.sqrt(dot(x, x))


def clipped(
    parts: Iterable[Params], limit: float, count: float = 1.0
) -> tuple[Params, list[float]]:
    """Return the means of sums over ``count`` steps, each part clipped to the norm ``limit``.

    The numbers are the norms of the parts before clipping.
    """
    kept: Params = {}
    sizes = []
    for part in parts:
        size = norm(part) / count
        scale = min(1.0, limit / (size + 1e-6)) / count
        kept |= {name: value * scale for name, value in part.items()}
        sizes.append(size)
    return kept, sizes
