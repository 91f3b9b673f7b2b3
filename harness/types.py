"""Values passed between the parts of the harness.

Array letters: N tasks, E episodes per task, T time (the horizon), O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from task_distributions.base import Task

REFERENCE = "reference"
"""Learner name of reference lines, which do not compete."""
AGENT = "agent"
"""Learner name of agents from outside, which were not trained here."""
TASK_SHOWN = "task shown"
"""Adapter column of an agent that is shown the task, such as a scripted expert."""
REFERENCE_LINES = ("zero-action", "random-action")
"""Policies of the measured reference lines, which any learner must beat."""


@dataclass(frozen=True)
class NoSettings:
    """Settings of a component that has none."""


@dataclass(frozen=True, slots=True)
class Episodes:
    """E episodes on each of N tasks, padded to the horizon; ``mask`` marks the real steps.

    ``actions`` and ``log_probs`` are in the policy's units: the environment received
    ``actions * action_scale``.
    """

    obs: Float[np.ndarray, "N E T O"]
    """Raw observation before each step."""
    actions: Float[np.ndarray, "N E T A"]
    log_probs: Float[np.ndarray, "N E T"]
    """Log-probability of the action under the policy that took it."""
    rewards: Float[np.ndarray, "N E T"]
    mask: Bool[np.ndarray, "N E T"]
    """True for real steps of valid episodes."""
    last_obs: Float[np.ndarray, "N E O"]
    """Observation after the last step, used to bootstrap truncated episodes."""
    terminated: Bool[np.ndarray, "N E"]
    success: Bool[np.ndarray, "N E"]
    """True if any step of the episode succeeded."""
    invalid: Bool[np.ndarray, "N E"]
    """The simulation became unstable or an action was not finite. Excluded from every average."""
    lengths: Float[np.ndarray, "N E"]
    """Steps taken, including invalid episodes; these count against the step budget."""

    @property
    def returns(self) -> Float[np.ndarray, "N E"]:
        """Undiscounted return of each episode; NaN for invalid ones."""
        total = np.where(self.mask, self.rewards, 0.0).sum(-1)
        return np.where(self.invalid, np.nan, total)

    @property
    def env_steps(self) -> int:
        """Environment steps taken in all tasks and episodes."""
        return int(self.lengths.sum())


@dataclass(frozen=True, slots=True)
class MetaEpisodes:
    """Support and query episodes on N tasks."""

    support: tuple[Episodes, ...]
    """One batch per shot, collected with the parameters adapted on the previous shots."""
    query: dict[int, Episodes]
    """Number of shots -> episodes played after them."""
    adapt_seconds: dict[int, float]
    """Number of shots -> wall seconds of adaptation until then, without data collection."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of task distribution, policy, learner and seed to train and evaluate."""

    task_dist: str
    policy: str
    learner: str
    seed: int

    @property
    def id(self) -> str:
        """Id that is safe in file names, e.g. ``halfcheetah-vel.ssm.maml.s0``."""
        return f"{self.task_dist}.{self.policy}.{self.learner}.s{self.seed}"


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """One query episode: a row of ``cells/<cell>/records.parquet``."""

    run: str
    cell: str
    """Key of the cell in its run, and the name of its folder."""
    task_dist: str
    dist_version: int
    split: str
    task: str
    task_index: int
    policy: str
    """Name of the policy or reference line (``zero-action``, ``random-action``)."""
    learner: str
    """Name of the learner, or ``reference`` for reference lines."""
    adapter: str
    seed: int
    shots: int
    adaptation_steps: int
    """Gradient steps before this episode."""
    query_episode: int
    return_: float
    success: bool
    length_steps: int
    invalid: bool
    support_env_steps: int
    """Environment steps of support data collected on this task before this episode."""
    train_env_steps: int
    adapt_seconds: float
    num_params: int
    rewards: tuple[float, ...] = ()
    """Mean reward per step in each twentieth of the horizon, until the episode ends. Of a task's
    first query episode alone; empty in the others, and in records of an earlier version."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """One meta-iteration of one cell: a row of ``cells/<cell>/curve.parquet``."""

    iteration: int
    """Meta-iterations done, starting at 1."""
    env_steps: int
    """Environment steps of training so far, the x-axis of learning curves."""
    pre_return: float
    """Mean return of the first support batch, before adaptation."""
    post_return: float
    """Mean return of the batch after adaptation; equal to ``pre_return`` without adaptation."""
    wall_seconds: float
    """Training time so far, including before interruptions."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of this iteration by activity, such as physics, inference, learner and idle."""
    info: dict[str, float] = field(default_factory=dict)
    """Learner statistics: losses, KL, gradient norm, skipped updates, invalid episodes."""
    validation: dict[str, float] = field(default_factory=dict)
    """Mean ``return_K`` (and ``success_K``) on validation tasks after K shots; empty if they were
    not scored after this iteration."""

    @property
    def validation_return(self) -> float | None:
        """The mean return on validation tasks after the most shots; None if not scored."""
        shots = [int(name[7:]) for name in self.validation if name.startswith("return_")]
        return self.validation[f"return_{max(shots)}"] if shots else None

    @property
    def invalid_episodes(self) -> int:
        """Invalid training episodes of this iteration."""
        return int(self.info.get("invalid_episodes", 0))

    @property
    def skipped(self) -> bool:
        """Whether an update was skipped because its gradient was not finite."""
        return self.info.get("skipped_in_a_row", 0) > 0


__all__ = ["Cell", "Episodes", "EvalRecord", "MetaEpisodes", "Metrics", "Task"]
