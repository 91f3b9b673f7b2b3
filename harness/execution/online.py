"""A checkpoint's policy that adapts while it acts, on the ordinary environments of its tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness import seeding
from harness.config.adapt import AdaptCommandConfig
from harness.config.schema import RunConfig
from harness.errors import UsageError
from harness.execution import checkpoint as checkpoints
from harness.meta import learners
from harness.meta.adapters.gradient import without_step_sizes
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.base import PolicyState
from harness.meta.rollouts.normalizer import Normalizer
from harness.toolkit import TestTimeAdapter
from harness.types import Cell
from policies.modules import PolicyModule

Returns = NDArray[np.float64]


@dataclass(slots=True)
class NormalizedEnv:
    """An environment as the policy was trained on it: its observations, its action units."""

    env: Any
    normalizer: Normalizer
    action_scale: float

    def reset(self, seed: int) -> torch.Tensor:
        """Start an episode; return the first observation."""
        return self._fed(self.env.reset(seed=seed)[0])

    def step(self, action: NDArray[Any]) -> tuple[torch.Tensor, float, bool, bool, dict[str, Any]]:
        """Advance by one step; the environment clips the action itself."""
        obs, reward, terminated, truncated, info = self.env.step(action * self.action_scale)
        return self._fed(obs), reward, terminated, truncated, info

    def _fed(self, obs: NDArray[Any]) -> torch.Tensor:
        return self.normalizer(torch.from_numpy(np.asarray(obs, np.float32)))


def returns(
    config: AdaptCommandConfig, cell: Cell, run: RunConfig, on_done: Callable[[int, int], None]
) -> tuple[Returns, Returns]:
    """Play the same episodes with weights as they are, and adapting all the while.

    Episodes of a task follow on each other: later ones profit from earlier ones.

    Returns:
        Returns [tasks, episodes] without and with adaptation.

    Raises:
        UsageError: the policy cannot adapt so.
    """
    problem = CellSetup.build(cell, run)
    _refuse(problem)
    state = _state(config, problem)
    module = PolicyModule(
        cell.network, obs_dim=problem.inputs.dim, action_dim=problem.dist.spec.action_dim
    )
    module.load_state_dict(without_step_sizes(state.params))
    count = run.evaluation.query_episodes
    every = config.adapt_every or problem.dist.spec.horizon
    never = count * problem.dist.spec.horizon + 1
    adapter = TestTimeAdapter(
        module,
        adaptation_lr=config.adapt_lr or 1e-3,
        adaptation_steps=config.adapt_steps,
        buffer_size=config.buffer_size or 1000,
    )
    indices = problem.scored_indices("test")
    played: list[tuple[list[float], ...]] = []
    for done, task in enumerate(problem.tasks("test", indices)):
        seed = seeding.episode_seeds(cell.seed, "adapt/online", task.index, count=1)[0] % 2**31
        env = NormalizedEnv(
            problem.dist.make_env(task), state.normalizer, problem.config.train.action_scale
        )
        pair = []
        for often in (never, every):
            adapter.reset()
            torch.manual_seed(seed)
            pair.append(adapter.adapt_online(env, count, often, seed=seed)[0])
        env.env.close()
        played.append(tuple(pair))
        on_done(done + 1, len(indices))
    before, after = (np.array([pair[part] for pair in played]) for part in (0, 1))
    return before, after


def _refuse(problem: CellSetup) -> None:
    learner = problem.cell.learner
    if problem.inputs.context or problem.inputs.goals:
        raise UsageError(
            f"--online: a policy of {learner!r} is fed more than the observation; it adapts by "
            "memory as it acts. Leave --online out"
        )
    if getattr(problem.dist.spec, "discrete", False):
        raise UsageError(
            f"--online: {problem.dist.name} has discrete actions, and this way of adapting is for "
            "continuous ones. Leave --online out"
        )


def _state(config: AdaptCommandConfig, problem: CellSetup) -> PolicyState:
    saved = checkpoints.read(config.checkpoint)
    learner = learners.build(problem)
    try:
        return learner.policy_state(learner.restore(saved.tensors, saved.learner))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # torch: shapes differ
        raise checkpoints.CheckpointError(
            f"{config.checkpoint} does not fit the cell it names: {error}"
        ) from error
