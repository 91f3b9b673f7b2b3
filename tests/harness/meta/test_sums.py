"""Sums of the jobs' answers: one tree, whoever adds which part of it."""

import pytest
import torch

from harness.meta.learners.base import Request
from harness.meta.learners.sums import FAN_IN, added, groups, sum_of, summed


def answers(count):
    """Gradients of such different sizes that every other order of adding gives other bits."""
    rng = torch.Generator().manual_seed(count)
    scales = 10.0 ** torch.randint(-4, 5, (count,), generator=rng)
    gradients = [{"w": torch.randn(50, generator=rng) * float(scale)} for scale in scales]
    return [(gradient, {"loss": float(gradient["w"][0])}) for gradient in gradients]


def assert_same_bits(left, right):
    assert torch.equal(left[0]["w"], right[0]["w"])
    assert left[1] == right[1]


@pytest.mark.parametrize("count", [1, 2, FAN_IN])
def test_one_group_is_added_from_the_first_to_the_last(count):
    parts = answers(count)
    total = parts[0][0]["w"]
    for gradient, _ in parts[1:]:
        total = total + gradient["w"]
    assert torch.equal(summed(parts)[0]["w"], total)


@pytest.mark.parametrize("count", [FAN_IN + 2, 40, FAN_IN**2, FAN_IN**2 + 5])
def test_levels_that_were_added_elsewhere_change_no_bit(count):
    parts = answers(count)
    first = [added(*group) for group in groups(parts)]
    assert_same_bits(summed(first), summed(parts))
    second = [added(*group) for group in groups(first)]
    assert_same_bits(summed(second), summed(parts))
    exact = sum(gradient["w"].double() for gradient, _ in parts)
    torch.testing.assert_close(summed(parts)[0]["w"].double(), exact, rtol=1e-5, atol=1e-2)
    assert not torch.equal(added(*parts)[0]["w"], summed(parts)[0]["w"])


def test_the_learner_says_that_it_adds():
    parts, asking = answers(3), sum_of("gradient", "payload")
    assert next(asking) == Request("gradient", "payload", summable=True)
    with pytest.raises(StopIteration) as stop:
        asking.send(parts)
    assert_same_bits(stop.value.value, summed(parts))
