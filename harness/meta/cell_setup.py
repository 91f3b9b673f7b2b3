"""One cell made concrete, as values: what a learner, a worker and an evaluation have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.meta import adapters
from harness.meta.adapters.base import Adapter, AdapterSpec
from harness.meta.adapters.gradient import INNER_LR
from harness.meta.learners.base import Learner, PolicySnapshot
from harness.meta.rollouts.actor import Actor
from harness.meta.rollouts.batch import AdvantageEstimator
from harness.meta.rollouts.inputs import Goals, Inputs
from harness.types import Cell
from policies.base import Policy
from task_distributions import Split, Task, TaskDistribution


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of training: it ends when either is reached."""

    env_steps: int | None = None
    """Environment steps; the iteration that reaches them is the last one."""
    meta_iterations: int | None = None
    """Meta-iterations of the learner."""

    def __post_init__(self) -> None:
        """Refuse to train without end.

        Raises:
            ValueError: neither limit is given.
        """
        if self.env_steps is None and self.meta_iterations is None:
            raise ValueError("a budget has neither env_steps nor meta_iterations: give one")

    def fraction_done(self, iteration: int, env_steps: int) -> float:
        """Return the part of the budget that is used up, from 0 to 1."""
        limits = ((iteration, self.meta_iterations), (env_steps, self.env_steps))
        parts = [done / max(limit, 1) for done, limit in limits if limit is not None]
        return min(1.0, max(parts))

    def exhausted(self, iteration: int, env_steps: int) -> bool:
        """Return whether training is over after ``iteration`` iterations and ``env_steps``."""
        limits = ((iteration, self.meta_iterations), (env_steps, self.env_steps))
        return any(limit is not None and done >= limit for done, limit in limits)

    def iterations(self, steps_per_iteration: int) -> int:
        """Return the iterations it lasts if each takes ``steps_per_iteration``."""
        by_steps = None if self.env_steps is None else -(-self.env_steps // steps_per_iteration)
        return min(n for n in (self.meta_iterations, by_steps) if n is not None)


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """A registered learner: its factory, and what is known about it before it is built."""

    settings: type
    """Dataclass of its settings. Among them, acting and adapting read ``gamma``, ``gae_lambda``,
    ``baseline``, ``action_scale``, ``init_std`` and, where there is one, ``inner_lr``. It may
    extend the settings class of ``adapter``, which it then configures."""
    build: Callable[[CellSetup], Learner[Any]]
    adapter: str
    """The adapter it trains for; it scores the cell unless another one is asked for."""
    feeds_history: bool = False
    """Its policy is fed previous action, reward and boundary; memory outlives the episode."""
    feeds_task: bool = False
    """Its policy is fed the task, and with a setting ``history`` what ``feeds_history`` feeds."""
    uses_value_head: bool = False
    """It may estimate advantages by the policy's value head, as some adapters do."""
    shared_training: str | None = None
    """A learner whose training is identical to the last bit; only the scoring differs."""
    trains: bool = True
    """False if its weights stay at their initial values."""
    tied_to_budget: str = ""
    """What in its training depends on the budget, if anything: it cannot train on beyond it."""
    refuses_discrete: str = ""
    """Why it cannot learn discrete actions, if it cannot."""
    follows_adapter: bool = False
    """It trains through the adapter that scores it, on the inputs that adapter needs."""

    def fits(self, adapter: AdapterSpec) -> bool:
        """Return whether ``adapter`` can score its policy."""
        if not adapter.adapts:
            return True
        if adapter.trained_through:
            return self.follows_adapter
        if adapter.uses_value_head and not self.uses_value_head:
            return False
        return not self.feeds_task and adapter.feeds_history == self.feeds_history

    def inputs(self, settings: Any, adapter: AdapterSpec, dist: TaskDistribution) -> Inputs:
        """Return what its policy is fed if trained with ``settings`` and scored by ``adapter``."""
        history = self.feeds_history or adapter.feeds_history
        if not self.feeds_task:
            return Inputs(dist.spec, history)
        history = history or getattr(settings, "history", False)
        return Inputs(dist.spec, history, Goals.of_distribution(dist))

    def adapter_settings(self, settings: Any) -> Any:
        """Return the settings of ``adapter``, from ``settings`` where they extend its class."""
        cls = adapters.settings_class(self.adapter)
        if not isinstance(settings, cls):
            return cls()
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class CellSetup:
    """A cell with its distribution and policy built; the same in every process."""

    cell: Cell
    dist: TaskDistribution
    policy: Policy
    inputs: Inputs
    """Assembles what the policy is fed."""
    learner: LearnerSpec
    settings: Any
    """An instance of ``learner.settings``."""
    adapter: str
    """The adapter that scores the cell."""
    adapter_settings: Any
    """An instance of ``adapters.settings_class(adapter)``."""
    budget: Budget
    normalize_obs: bool
    """Scale observations by running statistics of the training data, frozen when evaluating."""
    train_tasks: tuple[int, ...]
    """Indices of the training tasks."""

    def tasks(self, split: Split, indices: Sequence[int]) -> tuple[Task, ...]:
        """Return the tasks of ``split`` at ``indices``."""
        every = self.dist.tasks(split)
        return tuple(every[index] for index in indices)

    def training_classes(self) -> list[list[int]]:
        """Return the indices of the training tasks, class by class."""
        classes: dict[str, list[int]] = {}
        tasks = self.tasks("train", self.train_tasks)
        for index, task in zip(self.train_tasks, tasks, strict=True):
            classes.setdefault(task.class_name, []).append(index)
        return list(classes.values())

    def actor(self, snapshot: PolicySnapshot) -> Actor:
        """Return the policy of ``snapshot``, ready for its first episode on any task."""
        return Actor(
            self.policy,
            snapshot.params,
            snapshot.normalizer,
            1.0 if self.dist.spec.discrete else self.settings.action_scale,
            self.inputs,
            snapshot.reward_unit(self.settings.gamma, self.dist.spec.horizon),
        )

    def estimator(self, snapshot: PolicySnapshot) -> AdvantageEstimator:
        """Return how the learner estimates advantages."""
        s = self.settings
        return AdvantageEstimator(s.gamma, s.gae_lambda, s.baseline, snapshot.return_scale)

    def scoring_adapter(self) -> Adapter:
        """Build the adapter that scores the cell."""
        inner_lr = getattr(self.settings, "inner_lr", INNER_LR)
        return adapters.build(self.adapter, self.adapter_settings, inner_lr=inner_lr)
