"""The values that travel through the harness.

Array letters: N tasks, E episodes per task, T time (the horizon), O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from task_distributions.base import Task

REFERENCE = "reference"
"""Learner of the records of reference lines."""
REFERENCE_LINES = ("zero-action", "random-action")
"""Policies of the measured reference lines: what any learner must beat."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """E episodes on each of N tasks, padded to the horizon; ``mask`` tells the steps that happened.

    ``actions`` and ``log_probs`` are in the policy's own units: the environment received
    ``actions * action_scale``.
    """

    obs: Float[np.ndarray, "N E T O"]
    """Observation before each step, as the environment gave it."""
    actions: Float[np.ndarray, "N E T A"]
    log_probs: Float[np.ndarray, "N E T"]
    """Log-probability of the action under the policy that took it."""
    rewards: Float[np.ndarray, "N E T"]
    mask: Bool[np.ndarray, "N E T"]
    """Steps that happened and belong to a valid episode."""
    last_obs: Float[np.ndarray, "N E O"]
    """Observation after the last step: what a truncated episode bootstraps from."""
    terminated: Bool[np.ndarray, "N E"]
    success: Bool[np.ndarray, "N E"]
    """Success at any step of the episode."""
    invalid: Bool[np.ndarray, "N E"]
    """The physics went unstable or an action was not finite: no result, never averaged in."""
    lengths: Float[np.ndarray, "N E"]
    """Steps that really ran, invalid episodes included: what the step budget is charged."""

    @property
    def returns(self) -> Float[np.ndarray, "N E"]:
        """Undiscounted return of each episode; NaN for invalid ones."""
        total = np.where(self.mask, self.rewards, 0.0).sum(-1)
        return np.where(self.invalid, np.nan, total)

    @property
    def env_steps(self) -> int:
        """Environment steps taken, over all tasks and episodes."""
        return int(self.lengths.sum())


@dataclass(frozen=True, slots=True)
class MetaEpisodes:
    """Everything that happened on N tasks: support batches in order, queries by number of shots."""

    support: tuple[Episodes, ...]
    """One batch per shot, each collected with the parameters the shots before it led to."""
    query: dict[int, Episodes]
    """Shots taken -> episodes scored after them."""
    adapt_seconds: dict[int, float]
    """Shots taken -> wall seconds spent adapting until then, collection excluded."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One trained thing of a run: what is compared with the other cells of its table."""

    task_dist: str
    policy: str
    learner: str
    seed: int

    @property
    def id(self) -> str:
        """File-name-safe id, e.g. ``halfcheetah-vel.ssm.maml.s0``."""
        return f"{self.task_dist}.{self.policy}.{self.learner}.s{self.seed}"

    @property
    def network(self) -> str:
        """Registered policy whose network this is: ``lstm`` of RLlib's ``rllib-lstm``."""
        return self.policy.removeprefix("rllib-")


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """One query episode, one row of ``cells/<cell>/records.parquet``."""

    run: str
    cell: str
    """Key of the cell in its run, and the name of its folder."""
    task_dist: str
    dist_version: int
    split: str
    task: str
    task_index: int
    policy: str
    """A policy's name, or the name of a reference line (``zero-action``, ``random-action``)."""
    learner: str
    """A learner's name; ``reference`` for reference lines."""
    adapter: str
    seed: int
    shots: int
    adaptation_steps: int
    """Gradient steps taken until this query."""
    query_episode: int
    return_: float
    success: bool
    length_steps: int
    invalid: bool
    support_env_steps: int
    """Environment steps of adaptation data this task had seen before this query."""
    train_env_steps: int
    adapt_seconds: float
    num_params: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """One outer iteration of one cell, one row of ``cells/<cell>/curve.parquet``."""

    iteration: int
    """Outer iterations done, from 1."""
    env_steps: int
    """Environment steps of training so far: the x-axis of every curve."""
    pre_return: float
    """Mean return of the first support batch: the meta-parameters before adaptation."""
    post_return: float
    """Mean return of the batch collected after adaptation; equals pre_return without adaptation."""
    wall_seconds: float
    """Training time so far, resumed parts included."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Where this iteration's time went: physics, inference, learner, transport (see cell.py)."""
    info: dict[str, float] = field(default_factory=dict)
    """What the learner reports: losses, KL, gradient norm, skipped updates, invalid episodes."""


__all__ = ["Cell", "Episodes", "EvalRecord", "MetaEpisodes", "Metrics", "Task"]
