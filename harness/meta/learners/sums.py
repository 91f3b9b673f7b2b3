"""Sums over jobs in one fixed order, so that no bit depends on the number of workers.

Answers are summed by job number in groups of ``FAN_IN``, the groups' sums in groups again, and so
on: a tree that depends on the number of jobs alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from harness.meta.learners.base import Request, RequestKind
from policies.base import Params

FAN_IN = 16
"""Consecutive answers that are summed into one; changing it changes the last bits of results."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Reported numbers that sum over jobs field by field; subclasses declare the fields."""

    def as_info(self) -> dict[str, float]:
        """Return the fields as a dictionary."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


L = TypeVar("L", bound=Losses)


@dataclass(frozen=True, slots=True)
class PartialGradient(Generic[L]):
    """One job's share of a gradient and of the losses."""

    gradient: Params
    """Empty where only losses were asked for."""
    losses: L

    @classmethod
    def of(cls, loss: Tensor, leaves: Params, losses: L) -> PartialGradient[L]:
        """Differentiate ``loss``; its gradient is 0 in leaves that it does not depend on."""
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradient = {
            name: torch.zeros_like(leaf) if gradient is None else gradient.detach()
            for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
        }
        return cls(gradient, losses)


def sum_over_jobs(payload: Any) -> Generator[Request, list[Any], PartialGradient[Any]]:
    """Ask every job to compute ``payload`` and return the sum of the answers."""
    return tree_sum((yield Request(RequestKind.COMPUTE, payload)))


def tree_sum(answers: Sequence[PartialGradient[L]]) -> PartialGradient[L]:
    """Sum answers in job order along a tree of fixed shape."""
    while len(answers) > FAN_IN:
        answers = [add(*answers[at : at + FAN_IN]) for at in range(0, len(answers), FAN_IN)]
    return add(*answers)


def add(*answers: PartialGradient[L]) -> PartialGradient[L]:
    """Add answers from the first to the last."""
    gradient = dict(answers[0].gradient)
    for answer in answers[1:]:
        gradient = {name: value + answer.gradient[name] for name, value in gradient.items()}
    return PartialGradient(gradient, sum_losses(*(answer.losses for answer in answers)))


def sum_losses(*losses: L) -> L:
    """Add losses from the first to the last, field by field."""
    total = losses[0].as_info()
    for one in losses[1:]:
        total = {name: value + getattr(one, name) for name, value in total.items()}
    return type(losses[0])(**total)
