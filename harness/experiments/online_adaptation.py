"""``adapt --online``: a checkpoint's policy adapts while it acts on the test tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness import seeding
from harness.config.protocol import scored_tasks
from harness.config.schema import RunConfig
from harness.config.scoring import AdaptConfig
from harness.errors import UsageError
from harness.execution import checkpoint
from harness.execution.cell_setup import build_setup
from harness.meta import learners
from harness.meta.cell_setup import CellSetup
from harness.meta.learners.critic import acting_params
from harness.meta.rollouts.normalizer import Normalizer
from harness.toolkit import TestTimeAdapter
from harness.types import Cell
from policies.modules import PolicyModule

Returns = NDArray[np.float64]


@dataclass(slots=True)
class NormalizedEnv:
    """An environment with the observation and action scaling that the policy was trained with."""

    env: Any
    normalizer: Normalizer
    action_scale: float

    def reset(self, seed: int) -> torch.Tensor:
        """Start an episode; return the first observation."""
        return self._normalize(self.env.reset(seed=seed)[0])

    def step(self, action: NDArray[Any]) -> tuple[torch.Tensor, float, bool, bool, dict[str, Any]]:
        """Take one step; the environment clips the action itself."""
        obs, reward, terminated, truncated, info = self.env.step(action * self.action_scale)
        return self._normalize(obs), reward, terminated, truncated, info

    def _normalize(self, obs: NDArray[Any]) -> torch.Tensor:
        return self.normalizer(torch.from_numpy(np.asarray(obs, np.float32)))


def play(
    config: AdaptConfig, cell: Cell, run: RunConfig, on_done: Callable[[int, int], None]
) -> tuple[Returns, Returns]:
    """Play the same episodes with fixed weights and while adapting.

    The episodes of a task follow each other: later ones profit from earlier ones. ``on_done`` is
    called with the number of tasks done and their total.

    Returns:
        Returns [tasks, episodes] without and with adaptation.

    Raises:
        CheckpointError: the checkpoint is damaged or does not fit its cell.
        UsageError: the policy cannot adapt online.
    """
    setup = build_setup(cell, run)
    _refuse_unsupported(setup)
    learner = learners.build(setup)
    state = checkpoint.restore(config.checkpoint, learner).snapshot()
    part = run.policy[cell.policy]
    module = PolicyModule(
        part.kind,
        obs_dim=setup.inputs.dim,
        action_dim=setup.dist.spec.action_dim,
        **dataclasses.asdict(part.settings),
    )
    module.load_state_dict(acting_params(state.params))
    adapter = TestTimeAdapter(
        module,
        adaptation_lr=config.adapt_lr or 1e-3,
        adaptation_steps=config.adapt_steps,
        buffer_size=config.buffer_size or 1000,
    )
    episodes, horizon = run.evaluation.query_episodes, setup.dist.spec.horizon
    never = episodes * horizon + 1
    indices = scored_tasks(setup.dist, run, "test")
    returns: list[list[list[float]]] = [[], []]
    for done, task in enumerate(setup.tasks("test", indices), 1):
        seed = seeding.episode_seeds(cell.seed, "adapt/online", task.index, count=1)[0] % 2**31
        env = setup.dist.make_env(task)
        scaled = NormalizedEnv(env, state.normalizer, setup.settings.action_scale)
        for column, adapt_every in enumerate((never, config.adapt_every or horizon)):
            adapter.reset()
            torch.manual_seed(seed)
            returns[column].append(
                adapter.adapt_online(scaled, episodes, adapt_every, seed=seed)[0]
            )
        env.close()
        on_done(done, len(indices))
    before, after = map(np.array, returns)
    return before, after


def _refuse_unsupported(setup: CellSetup) -> None:
    if setup.inputs.history or setup.inputs.goals:
        raise UsageError(
            f"--online: a policy trained by {setup.cell.learner!r} has more inputs than the "
            "observation; it adapts by memory as it acts. Leave --online out"
        )
    if setup.dist.spec.discrete:
        raise UsageError(
            f"--online: {setup.dist.name} has discrete actions, and online adaptation supports "
            "continuous ones only. Leave --online out"
        )
