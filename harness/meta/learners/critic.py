"""A critic apart from the policy, which observes the task: used in training alone.

Asymmetric actor-critic (arXiv 1710.06542): what estimates advantages may know what acting may not.
The critic sees what the policy is fed, without a memory, and the features of the task.

    v = w tanh(W_2 tanh(W_1 [x, task] + b_1) + b_2) + b

Array letters: N tasks, E sequences per task, T time, I input, G features of a task.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.meta.adapters.gradient import without_step_sizes
from policies.base import Params
from policies.functional import linear, linear_params
from policies.fused.tanh import tanh

PREFIX = "critic."
WIDTH = 128


def init_critic(seed: int, inputs: int) -> Params:
    """Return initial parameters for inputs of width I + G, a function of ``seed`` alone."""
    generator = torch.Generator().manual_seed(seed)
    return {
        **linear_params(generator, f"{PREFIX}0", inputs, WIDTH, 2.0**0.5),
        **linear_params(generator, f"{PREFIX}1", WIDTH, WIDTH, 2.0**0.5),
        **linear_params(generator, f"{PREFIX}2", WIDTH, 1),
    }


def critic_values(
    params: Params, x: Float[Tensor, "N E T I"], task: Float[Tensor, "N E T G"]
) -> Float[Tensor, "N E T"]:
    """Return the critic's values; ``params`` are shared by the tasks."""
    features = torch.cat([x, task], -1).reshape(1, -1, x.shape[-1] + task.shape[-1])
    hidden = tanh(linear(params, f"{PREFIX}0", features))
    hidden = tanh(linear(params, f"{PREFIX}1", hidden))
    return linear(params, f"{PREFIX}2", hidden).view(x.shape[:-1])


def split(params: Params) -> tuple[Params, Params]:
    """Return the parameters of the policy, and those of a critic and a task head."""
    critic = {name: value for name, value in params.items() if name.startswith(PREFIX)}
    return {name: value for name, value in params.items() if name not in critic}, critic


def acting_params(params: Params) -> Params:
    """Return the parameters that acting needs: no step sizes, no critic, no task head."""
    return without_step_sizes(split(params)[0])
