"""Sums over jobs in one fixed order, so that no bit depends on who adds, or where.

Answers are added by job number in groups of ``FAN_IN``, the groups' sums in groups again, and so
on: a tree that the number of jobs alone decides. Whole levels of it may be added near the data.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from harness.meta.learners.base import Request
from policies.base import Params

Info = dict[str, float]
PartialGradient = tuple[Params, Info]
"""One job's share of a gradient and of the reported losses."""

FAN_IN = 16
"""Consecutive answers that are added to one; another number would change the last bits."""


def sum_of(kind: str, payload: Any) -> Generator[Request, list[Any], PartialGradient]:
    """Ask every job for ``kind`` and return the sum of the answers."""
    return summed((yield Request(kind, payload, summable=True)))


def summed(answers: Sequence[PartialGradient]) -> PartialGradient:
    """Add answers in job order along the tree; sums of whole levels may stand in their place."""
    while len(answers) > FAN_IN:
        answers = [added(*group) for group in groups(answers)]
    return added(*answers)


def groups(values: Sequence[Any]) -> list[Sequence[Any]]:
    """Return ``values`` in groups of ``FAN_IN`` neighbours; the last may be smaller."""
    return [values[first : first + FAN_IN] for first in range(0, len(values), FAN_IN)]


def added(*answers: PartialGradient) -> PartialGradient:
    """Add answers from the first to the last."""
    total, info = dict(answers[0][0]), dict(answers[0][1])
    for params, losses in answers[1:]:
        total = {name: value + params[name] for name, value in total.items()}
        info = {name: value + losses[name] for name, value in info.items()}
    return total, info
