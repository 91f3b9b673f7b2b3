"""Sums of the jobs' answers: one tree, whoever adds which part of it."""

from dataclasses import dataclass

import pytest
import torch

from harness.meta.learners.base import Request, RequestKind
from harness.meta.learners.sums import (
    FAN_IN,
    Losses,
    PartialGradient,
    add,
    sum_over_jobs,
    tree_sum,
)


@dataclass(frozen=True, slots=True)
class Loss(Losses):
    loss: float


def answers(count):
    """Gradients of such different sizes that every other order of adding gives other bits."""
    rng = torch.Generator().manual_seed(count)
    scales = 10.0 ** torch.randint(-4, 5, (count,), generator=rng)
    gradients = [{"w": torch.randn(50, generator=rng) * float(scale)} for scale in scales]
    return [PartialGradient(one, Loss(float(one["w"][0]))) for one in gradients]


def assert_same_bits(left, right):
    assert torch.equal(left.gradient["w"], right.gradient["w"])
    assert left.losses == right.losses


@pytest.mark.parametrize("count", [1, 2, FAN_IN])
def test_one_group_is_added_from_the_first_to_the_last(count):
    parts = answers(count)
    total = parts[0].gradient["w"]
    for part in parts[1:]:
        total = total + part.gradient["w"]
    assert torch.equal(tree_sum(parts).gradient["w"], total)


@pytest.mark.parametrize("count", [FAN_IN + 2, 40, FAN_IN**2, FAN_IN**2 + 5])
def test_many_answers_are_added_along_the_tree(count):
    parts = answers(count)
    exact = sum(part.gradient["w"].double() for part in parts)
    torch.testing.assert_close(tree_sum(parts).gradient["w"].double(), exact, rtol=1e-5, atol=1e-2)
    assert not torch.equal(add(*parts).gradient["w"], tree_sum(parts).gradient["w"])


def test_every_job_is_asked_and_the_answers_are_summed():
    parts, asking = answers(3), sum_over_jobs("payload")
    assert next(asking) == Request(RequestKind.COMPUTE, "payload")
    with pytest.raises(StopIteration) as stop:
        asking.send(parts)
    assert_same_bits(stop.value.value, tree_sum(parts))
