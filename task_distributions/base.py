"""The types every task distribution is made of: task, spec, distribution, batched environment.

Array letters: N tasks, E episodes per task, B = N·E environments, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

import annotated_types
import gymnasium
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.int64]
Positive = Annotated[int, annotated_types.Ge(1)]
Split = Literal["train", "validation", "test", "ood"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "ood")
"""Task lists of a distribution: ``validation`` serves learning curves and every choice of a
setting, ``test`` the final scores alone, and ``ood`` lies outside the range of the others."""


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
    """Names and values of the task's parameters, in SI units unless stated otherwise."""
    description: tuple[tuple[str, float], ...] = ()
    """What an oracle is fed about the task, unscaled, where the parameters would say little; a key
    that other tasks have and this one lacks counts as 0."""

    def param(self, key: str) -> float:
        """Return the parameter ``key``; ``KeyError`` if the task has no such parameter."""
        return dict(self.params)[key]

    @property
    def class_name(self) -> str:
        """Class of the task (Meta-World: ``reach-v3``); '' in distributions without classes."""
        prefix = class_of(self.name)
        return "" if prefix == self.split else prefix


def class_of(task_name: str) -> str:
    """Return the part of a task's name before its last slash; '' without a slash."""
    return task_name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """Sizes and kind of an environment, as far as a policy needs them."""

    obs_dim: int
    action_dim: int
    """Dimension of an action in [-1, 1]; for discrete actions the number of choices."""
    horizon: int
    """Control steps after which an episode is truncated."""
    has_success: bool = False
    """Steps report success; otherwise it is always ``False``. If tasks are named ``class/number``
    as well, as in Meta-World, protocols choose goals of every class."""
    discrete: bool = False
    """An action is one of ``action_dim`` choices. The ordinary Gymnasium environment takes its
    index; a batched one takes rows of scores (or one-hot rows) and plays the largest."""
    fixed_start: bool = False
    """Every episode of a task starts in the same state and goes on without chance, whatever the
    seed (Meta-World): the same actions make the same episode."""


@dataclass(frozen=True, slots=True)
class StepBatch:
    """Result of one control step of B environments.

    Environments whose episode is over are not stepped: their reward is 0, and their observation
    and flags keep their last values.
    """

    obs: FloatArray
    """[B, O] observation after the step."""
    reward: FloatArray
    """[B]"""
    terminated: BoolArray
    """[B] the MDP has ended: do not bootstrap."""
    truncated: BoolArray
    """[B] the episode is over but the MDP has not ended: the horizon was reached (value targets
    bootstrap here), or the episode is invalid."""
    success: BoolArray
    """[B] the goal was reached at this step or before."""
    invalid: BoolArray
    """[B] the physics became unstable or an action was not finite: the episode must not be scored.

    The offending step counts, repeats the previous observation and has reward 0, so every array
    here is always finite.
    """


@runtime_checkable
class BatchedEnv(Protocol):
    """B = N·E environments stepped together; environment ``n * E + e`` is episode e of task n."""

    spec: EnvSpec
    tasks: tuple[Task, ...]
    episodes_per_task: int

    def reset(self, seeds: Sequence[int]) -> FloatArray:
        """Start one episode per environment, seeded with ``seeds`` [B]; return obs [B, O]."""
        ...

    def step(self, actions: NDArray[np.floating]) -> StepBatch:
        """Advance every unfinished episode by one control step with ``actions`` [B, A].

        A discrete action is the index of a row's largest score, see ``EnvSpec.discrete``.
        The returned arrays are valid until the next call; copy them to keep them.
        """
        ...


@runtime_checkable
class TaskDistribution(Protocol):
    """A family of MDPs with a fixed, enumerated list of tasks for every split."""

    name: str
    version: int
    spec: EnvSpec
    protocol: str
    """One line for table captions: engine, reward, horizon."""

    def tasks(self, split: Split) -> tuple[Task, ...]:
        """Return the fixed list of tasks of one split.

        Lists overlap only where the distribution has a single task. ``validation`` and ``ood`` are
        empty where it has none.
        """
        ...

    def make_env(self, task: Task) -> gymnasium.Env:
        """Return the ordinary Gymnasium environment of one task."""
        ...

    def make_batch(self, tasks: Sequence[Task], episodes_per_task: int) -> BatchedEnv:
        """Return the batched engine for the same MDPs: same seeds and actions, same episodes."""
        ...

    def non_adaptive_return(self, tasks: Sequence[Task]) -> float | None:
        """Return the best mean return of any fixed behaviour over ``tasks``; None if unknown."""
        ...
