"""A head that predicts the task, used in training alone (arXiv 1905.06424).

    L_task = mean[ ‖W y + b − task‖² ] / G

What a policy with memory remembers is otherwise shaped by reward alone, which says little about
the task until the policy makes use of it. ``y`` are the features that the policy's heads read.

Array letters: N tasks, E sequences per task, T time, H features of the policy, G of a task.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.meta.learners.critic import PREFIX
from policies.base import Params
from policies.functional import linear, linear_params

NAME = f"{PREFIX}task"
"""Under the critic's prefix: acting leaves both out, and their gradients are clipped together."""


def init_task_head(seed: int, features: int, goals: int) -> Params:
    """Return initial parameters from H to G features, a function of ``seed`` alone."""
    return linear_params(torch.Generator().manual_seed(seed), NAME, features, goals)


def task_error(
    params: Params, features: Float[Tensor, "N E T H"], task: Float[Tensor, "N E T G"]
) -> Float[Tensor, "N E T"]:
    """Return the mean squared error of the predicted task at every step.

    A parameter of the task has variance 1 over all training tasks, a class is one-hot.
    """
    return (linear(params, NAME, features) - task).square().mean(-1)
