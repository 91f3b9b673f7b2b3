"""The nouns every benchmark distribution is made of: task, spec, distribution, batched environment.

Array letters: N tasks, E episodes per task, B = N·E environments, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import gymnasium
import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True, slots=True)
class Task:
    """One MDP as a small picklable value, from which any process rebuilds the same environment."""

    dist: str
    """Registry name of the distribution, e.g. ``halfcheetah-vel``."""
    version: int
    """Version of the distribution's definition (reward, observation, task list, horizon)."""
    split: Split
    index: int
    """Position in the distribution's fixed list of this split."""
    name: str
    """Human-readable id, unique within the distribution, e.g. ``test/3``."""
    params: tuple[tuple[str, float], ...]
    """What makes this task differ: parameter names and values, in SI units unless said."""

    def param(self, key: str) -> float:
        """Return one parameter of the task; ``KeyError`` if the task has none of that name."""
        return dict(self.params)[key]

    @property
    def class_name(self) -> str:
        """The class it is of (Meta-World: ``reach-v3``); '' where its distribution has none."""
        group = class_of(self.name)
        return "" if group == self.split else group


def class_of(task_name: str) -> str:
    """Return what stands before the last slash of a task's name; '' without a slash."""
    return task_name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What a policy needs to know of an environment."""

    obs_dim: int
    action_dim: int
    """Numbers per action, each in [-1, 1]; of discrete actions how many there are."""
    horizon: int
    """Control steps after which an episode is truncated."""
    has_success: bool = False
    """Whether steps report success (Meta-World); otherwise success is always ``False``."""
    discrete: bool = False
    """Actions are a choice of one of ``action_dim``. Batches still take rows of numbers: the
    largest is the choice, so that one-hot rows and scores both name it. The ordinary Gymnasium
    environment takes its index."""


@dataclass(frozen=True, slots=True)
class StepBatch:
    """What one control step of B environments returned.

    Environments whose episode is over are not stepped again: their reward is 0, their observation
    stays the last one, and their flags keep the value they ended with.
    """

    obs: NDArray[np.float64]
    """[B, O] observation after the step."""
    reward: NDArray[np.float64]
    """[B]"""
    terminated: NDArray[np.bool_]
    """[B] the MDP ended here: nothing to bootstrap from."""
    truncated: NDArray[np.bool_]
    """[B] over without having ended: the horizon was reached (value targets bootstrap here), or the
    episode is invalid."""
    success: NDArray[np.bool_]
    """[B] reached the goal at this step or before."""
    invalid: NDArray[np.bool_]
    """[B] the physics went unstable or the action was not finite: the episode is no result.

    The step that did it counts, repeats the observation before it and pays 0, so every array here
    is always finite.
    """


@runtime_checkable
class BatchedEnv(Protocol):
    """B = N·E environments stepped together; environment ``n * E + e`` is episode e of task n."""

    spec: EnvSpec
    tasks: tuple[Task, ...]
    episodes_per_task: int

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start one episode per environment, seeded with ``seeds`` [B]; return obs [B, O]."""
        ...

    def step(self, actions: NDArray[np.floating]) -> StepBatch:
        """Advance every unfinished episode by one control step with ``actions`` [B, A].

        Discrete actions are chosen by the largest number of a row, see ``EnvSpec.discrete``.
        Arrays of the returned batch are valid until the next call: copy what is kept.
        """
        ...


@runtime_checkable
class TaskDistribution(Protocol):
    """A family of MDPs with fixed, enumerated train and test tasks."""

    name: str
    version: int
    spec: EnvSpec
    protocol: str
    """One line for table captions: what the numbers are measured on (engine, reward, horizon)."""

    def tasks(self, split: Split) -> tuple[Task, ...]:
        """Return the fixed list of tasks of one split; train and test never overlap."""
        ...

    def make_env(self, task: Task) -> gymnasium.Env:
        """Return the ordinary Gymnasium environment of one task."""
        ...

    def make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedEnv:
        """Return the fast engine of the same MDPs: same seeds and actions, same trajectories."""
        ...

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float | None:
        """Return the best mean return of one fixed behaviour over ``tasks``, where analytic."""
        ...
