"""What a worker tells the learner of the episodes it played."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from harness.meta import objectives
from harness.meta.learners.base import Report
from harness.meta.rollouts.normalizer import Moments
from harness.types import Episodes

Triple = tuple[float, float, float]


def report_on(
    blocks: Sequence[Episodes], gamma: float, advantage_moments: Triple = (0.0, 0.0, 0.0)
) -> Report:
    """Report on ``blocks``, the episodes before adaptation first, those after it last."""
    moments = sum((Moments.of(block) for block in blocks[1:]), Moments.of(blocks[0]))
    return Report(
        env_steps=sum(block.env_steps for block in blocks),
        pre_returns=_task_means(blocks[0]),
        post_returns=_task_means(blocks[-1]),
        invalid=sum(int(block.invalid.sum()) for block in blocks),
        moments=moments,
        return_moments=_return_moments(blocks[-1], gamma),
        advantage_moments=advantage_moments,
    )


def _return_moments(episodes: Episodes, gamma: float) -> Triple:
    rewards = torch.from_numpy(episodes.rewards).double()
    returns = objectives.discounted_returns(rewards, gamma).numpy()[episodes.mask]
    return float(len(returns)), float(returns.sum()), float(np.square(returns).sum())


def _task_means(episodes: Episodes) -> tuple[float, ...]:
    return tuple(nanmean(row.tolist()) for row in episodes.returns)


def nanmean(values: Sequence[float]) -> float:
    """Return the mean of what is not NaN; NaN if nothing is."""
    valid = [value for value in values if not math.isnan(value)]
    return float(np.mean(valid)) if valid else math.nan
