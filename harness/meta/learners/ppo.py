"""PPO over whole sequences (arXiv 1707.06347), and with memory across episodes RL² (1611.02779).

Every worker keeps the sequences it collected. A step of the optimiser asks each of them for the
gradient on its share of one minibatch; the shares are added in a fixed order (sums.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import seeding
from harness.meta import adapters, objectives
from harness.meta.cell_setup import CellSetup
from harness.meta.learners import outer, sequences
from harness.meta.learners.base import IterationInfo, JobContext, PolicyState, Report, Request
from harness.meta.learners.iteration import Keeper, acting, concluded, fresh_state, training_plan
from harness.meta.learners.reports import report_on
from harness.meta.learners.state import LearnerState
from harness.meta.learners.sums import sum_of
from harness.meta.learners.traits import chunk_steps
from harness.meta.meta_episode import MetaEpisodeRunner
from harness.meta.rollouts.batch import Batch
from harness.meta.rollouts.episode_loop import Clock
from policies.base import Params
from policies.params import clone
from task_distributions import Task


@dataclass(frozen=True, slots=True)
class PPOData:
    """What a worker keeps of one job."""

    batch: Batch
    """[1, S, T, ...]: advantages not yet normalised."""
    where: JobContext


@dataclass(frozen=True, slots=True)
class PPOLearner(Keeper):
    """PPO on sequences of ``episodes_in_sequence`` episodes. Satisfies ``Learner``."""

    problem: CellSetup
    name: str
    adapter: str
    """What scores it."""
    episodes_in_sequence: int
    episodes_per_task: int
    """Sequences per task of an iteration."""

    @property
    def episodes_per_iteration(self) -> int:
        """Episodes of one outer iteration, over all tasks."""
        tasks = self.problem.config.train.meta_batch_size
        return tasks * self.episodes_per_task * self.episodes_in_sequence

    def init(self) -> LearnerState:
        """Return the untrained state."""
        params = self.problem.policy.init_params(self.problem.cell.seed)
        return fresh_state(self.problem, params)

    def iterate(self, state: LearnerState) -> Generator[Request, list[Any], IterationInfo]:
        """Collect, then pass over the data in minibatches, one Adam step each."""
        config, ppo = self.problem.config, self.problem.config.ppo
        reports: list[Report] = yield Request("collect", state.policy_state())
        left = 1.0 - state.iteration / max(config.train.epochs, 1)
        for group in state.optimizer.param_groups:
            group["lr"] = ppo.ppo_lr * left
        count, total, square = (
            sum(report.advantage_moments[i] for report in reports) for i in range(3)
        )
        mean = total / max(count, 1.0)
        std = max(square / max(count, 1.0) - mean * mean, 1e-16) ** 0.5
        scale = {"mean": mean, "std": std, "steps": count / ppo.ppo_minibatches}
        info: dict[str, float] = {}
        for position in range(ppo.ppo_passes * ppo.ppo_minibatches):
            payload = {"params": state.snapshot(), "position": position, **scale}
            gradient, losses = yield from sum_of("gradient", payload)
            if not losses.pop("rows"):
                continue  # fewer sequences than minibatches
            info, norm = losses, outer.norm(gradient)
            if not outer.accept(state, norm, config.train):
                break
            factor = min(1.0, config.train.max_grad_norm / (norm + 1e-6))
            state.adam_step({name: value * factor for name, value in gradient.items()})
            info["grad_norm"] = norm
        else:
            state.skipped = 0
        if "log_std" in state.params:
            info["std"] = float(state.params["log_std"].exp().mean())
        return concluded(state, reports, info)

    def collect(
        self, tasks: Sequence[Task], where: JobContext, payload: PolicyState, clock: Clock
    ) -> tuple[PPOData, Report]:
        """Play the sequences with sampled actions and keep them with their advantages."""
        problem, train = self.problem, self.problem.config.train
        actor = acting(problem, payload)
        last = self.episodes_in_sequence - 1
        carrier = adapters.build("memory" if last else "none", problem.config.adapt)
        runner = MetaEpisodeRunner(problem.dist, carrier, train, payload.return_scale)
        plan = training_plan(problem, where, last, self.episodes_per_task)
        played = runner.run(tasks, actor, plan, clock).episodes
        blocks = (*played.support, played.query[last])
        batch = sequences.learnable(blocks, actor, tuple(tasks), train, payload.return_scale)
        longest = chunk_steps(problem.config.ppo, problem.cell.network)
        batch = sequences.chunked(batch, actor, None if longest == "whole" else longest)
        gained = batch.advantages[batch.mask].double()
        moments = (float(gained.numel()), float(gained.sum()), float(gained.square().sum()))
        return PPOData(batch, where), report_on(blocks, train.gamma, moments)

    def compute(self, kind: str, data: PPOData, payload: dict[str, Any], clock: Clock) -> Any:
        """Return this job's share of the gradient on one minibatch, and of the losses."""
        assert kind == "gradient"
        ppo = self.problem.config.ppo
        passes, part = divmod(payload["position"], ppo.ppo_minibatches)
        # Jobs begin their turns at different parts: the odd rows do not all fall into the first.
        turn = (part + passes + data.where.seed_keys[0]) % ppo.ppo_minibatches
        rows = np.array_split(self._shuffled(data, passes), ppo.ppo_minibatches)[turn]
        leaves = clone(payload["params"], requires_grad=True)
        if not len(rows):
            return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}, _info()
        batch = sequences.take(data.batch, rows.tolist())
        loss, info = self._loss(batch, leaves, payload)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True)), info

    def _shuffled(self, data: PPOData, passes: int) -> np.ndarray:
        """Return an order of the job's sequences that depends on the job and the pass alone."""
        path = (data.where.iteration, data.where.seed_keys[0], passes)
        rng = seeding.generator(self.problem.cell.seed, "train/minibatches", *path)
        return rng.permutation(data.batch.x.shape[1])

    def _loss(
        self, batch: Batch, leaves: Params, payload: dict[str, Any]
    ) -> tuple[Tensor, dict[str, float]]:
        ppo, share = self.problem.config.ppo, batch.mask.sum() / payload["steps"]
        out = batch.forward(self.problem.policy, leaves)
        log_probs = out.head.log_prob(batch.actions)
        advantages = (batch.advantages - payload["mean"]) / payload["std"]
        args = (log_probs, batch.log_probs, advantages, batch.mask)
        surrogate = objectives.ppo_clip_loss(*args, clip=ppo.ppo_clip).sum() * share
        error = torch.nn.functional.smooth_l1_loss(out.value, batch.value_targets, reduction="none")
        value = objectives.masked_mean(error, batch.mask).sum() * share
        entropy = out.head.entropy(batch.mask).sum() * share
        with torch.no_grad():
            kl = objectives.masked_mean(batch.log_probs - log_probs, batch.mask).sum() * share
        loss = surrogate + ppo.ppo_value_coef * value - ppo.ppo_entropy_coef * entropy
        return loss, _info(
            float(surrogate.detach()), float(value.detach()), float(kl), batch.x.shape[1]
        )


def _info(
    surrogate: float = 0.0, value: float = 0.0, kl: float = 0.0, rows: int = 0
) -> dict[str, float]:
    losses = {"surrogate": surrogate, "value_loss": value, "approximate_kl": kl}
    return losses | {"rows": float(rows)}
