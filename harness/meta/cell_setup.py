"""What a learner, a worker and an evaluation have in common: one cell made concrete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import policies
from harness.config import protocol
from harness.config.distributions import open_distribution
from harness.config.schema import RunConfig
from harness.meta.learners.traits import traits
from harness.meta.rollouts.inputs import Goals, Inputs
from harness.types import Cell
from policies.base import Policy
from task_distributions import Split, Task, TaskDistribution


@dataclass(frozen=True, slots=True)
class CellSetup:
    """A cell with its distribution and policy built; the same in every process."""

    cell: Cell
    config: RunConfig
    """With the training settings of the cell's learner."""
    dist: TaskDistribution
    policy: Policy
    inputs: Inputs
    """What the policy is fed."""

    @classmethod
    def build(cls, cell: Cell, config: RunConfig) -> CellSetup:
        """Build what ``cell`` names."""
        dist = open_distribution(cell.task_dist, config.env)
        kind = traits(cell.learner)
        config = kind.settings(config)
        goals = Goals.of_distribution(dist) if kind.goal else None
        context = kind.context or config.adapt.adapter == "memory+gradient"
        inputs = Inputs(dist.spec, context, goals)
        policy = policies.build(
            cell.network,
            obs_dim=inputs.dim,
            action_dim=dist.spec.action_dim,
            discrete=dist.spec.discrete,
            init_std=config.train.init_std,
        )
        return cls(cell, config, dist, policy, inputs)

    def task_indices(self, split: Split) -> tuple[int, ...]:
        """Return the indices of the tasks of ``split`` that this run uses."""
        return protocol.used_tasks(self.dist, self.config, split)

    def training_classes(self) -> list[list[int]]:
        """Return the indices of the training tasks of this run, class by class."""
        indices = self.task_indices("train")
        classes: dict[str, list[int]] = {}
        for index, task in zip(indices, self.tasks("train", indices), strict=True):
            classes.setdefault(task.class_name, []).append(index)
        return list(classes.values())

    def scored_indices(self, split: Split) -> tuple[int, ...]:
        """Return the indices of the tasks of ``split`` that this run scores."""
        return protocol.scored_tasks(self.dist, self.config, split)

    def tasks(self, split: Split, indices: Sequence[int]) -> tuple[Task, ...]:
        """Return the tasks of ``split`` at ``indices``."""
        every = self.dist.tasks(split)
        return tuple(every[index] for index in indices)
