"""Whether a cell has diverged: decided here for every learner, adapter, backend and scheduler.

A policy that is not finite never leaves the learner, a training whose iterations teach nothing
ends, and a score without a valid episode is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from harness.meta.learners.base import DivergedError, PolicySnapshot
from harness.types import EvalRecord, Metrics
from policies.base import Params

MAX_SKIPPED = 5
"""Iterations in a row without effect at which a cell fails whose learner has no ``max_skipped``."""


def check_policy(snapshot: PolicySnapshot, iteration: int) -> None:
    """Refuse a policy that cannot act.

    Args:
        snapshot: what the learner has arrived at.
        iteration: meta-iterations done.

    Raises:
        DivergedError: a parameter, the standard deviation of the actions or a running statistic is
            not finite.
    """
    parts = {f"parameter {name!r}": value for name, value in snapshot.params.items()}
    if "log_std" in snapshot.params:
        parts["the standard deviation of the actions"] = snapshot.params["log_std"].exp()
    parts["the running mean of the observations"] = snapshot.normalizer.mean
    parts["the running deviation of the observations"] = snapshot.normalizer.std
    parts["the running deviation of the returns"] = torch.tensor(snapshot.return_scale)
    broken = [what for what, value in parts.items() if not _finite(value)]
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise DivergedError(f"{broken[0]} is not finite{more}", iteration)


def check_adapted(params: Params, shots: int) -> None:
    """Refuse parameters that adaptation has made unusable.

    Raises:
        DivergedError: one is not finite, on any of the tasks.
    """
    broken = [name for name, value in params.items() if not _finite(value)]
    if broken:
        raise DivergedError(f"parameter {broken[0]!r} is not finite after {shots} shots")


def check_training(curve: Sequence[Metrics], max_skipped: int, *, over: bool) -> None:
    """Refuse to go on with a training that no longer learns.

    Args:
        curve: every iteration so far.
        max_skipped: iterations in a row without effect that are too many.
        over: this was the last iteration; half of a short training is too many then.

    Raises:
        DivergedError: too many iterations in a row had no effect.
    """
    in_a_row: list[str] = []
    for metrics in reversed(curve):
        if not (cause := without_effect(metrics)):
            break
        in_a_row.append(cause)
    limit = min(max_skipped, -(-len(curve) // 2)) if over else max_skipped
    if in_a_row and len(in_a_row) >= limit:
        count = f"{len(in_a_row)} iterations in a row" if len(in_a_row) > 1 else "the iteration"
        raise DivergedError(f"{count}: {in_a_row[0]}", curve[-1].iteration)


def without_effect(metrics: Metrics) -> str:
    """Return why an iteration was cut short or had no data; an empty text if neither."""
    if metrics.skipped:
        return "an update was skipped, because its gradient was not finite"
    if not math.isfinite(metrics.post_return):
        return "no training episode was valid"
    broken = [name for name, value in metrics.info.items() if not math.isfinite(value)]
    return f"{broken[0]} is not finite" if broken else ""


def check_scores(records: Sequence[EvalRecord]) -> None:
    """Refuse scores that are not numbers.

    Raises:
        DivergedError: no episode of a policy on a split was valid after some number of shots.
    """
    groups: dict[tuple[str, str, int], list[bool]] = {}
    for row in records:
        groups.setdefault((row.policy, row.split, row.shots), []).append(row.invalid)
    for (policy, split, shots), invalid in groups.items():
        if all(invalid):
            raise DivergedError(
                f"no episode of {policy} on the {split} tasks was valid after {shots} shots"
            )


def _finite(value: torch.Tensor) -> bool:
    return bool(torch.isfinite(value).all())
