"""Recurrent soft actor-critic: off-policy, with a policy that has memory (arXiv 2110.05038).

The policy is fed what ``rl2`` is fed. Two critics (arXiv 1801.01290, 1812.05905) see the task
instead of the past, as an asymmetric critic may (1710.06542), and need no memory:

    y   = r + γ (1 - terminated) min_k Q'_k(o', a', task)          a, a' = clip(μ + σ ε, ±1)
    L_Q = mean Σ_k (Q_k(o, a, task) - y)²                     Q' <- Q' + τ (Q - Q')
    L_π = -mean min_k Q_k(o, a, task) - α H(σ)                L_α = α (H(σ) - H(target_std))

μ is the policy's after the past of a stretch of steps, which begins with a fresh memory at any
step. σ does not depend on the state, so that neither does the entropy H: it is left out of y. The
gradient through the clip is that of arXiv 1511.04143, which leads back inside.

Workers play; the learner keeps every sequence and takes all steps on them itself. It asks for
continuous actions.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import layer_norm, relu

from harness import seeding
from harness.meta.cell_setup import LearnerSpec
from harness.meta.learners.base import (
    CollectReport,
    IterationInfo,
    JobContext,
    PolicySnapshot,
    Positive,
    PositiveInt,
    Request,
    RequestKind,
    Unit,
)
from harness.meta.learners.critic import PREFIX, split
from harness.meta.learners.replay import Sequences, Stretch, sample
from harness.meta.learners.sequences import SequenceLearner, check_fits
from harness.meta.learners.state import LearnerState, norm
from harness.meta.learners.sums import Losses, PartialGradient, sum_losses
from harness.meta.rollouts.actor import Actor
from harness.meta.rollouts.episode_loop import Clock
from harness.meta.rollouts.inputs import Goals
from policies.base import Params
from policies.functional import linear, linear_params
from policies.heads import gaussian_entropy
from policies.params import clone
from task_distributions import Task

TEMPERATURE = f"{PREFIX}log_alpha"
"""Name of the logarithm of α among the parameters."""
INITIAL_ALPHA = 0.01


@dataclass(frozen=True)
class RSACSettings:
    """Settings of ``rsac``."""

    learning_rate: Positive = 1e-3
    """Adam step size of the policy."""
    critic_learning_rate: Positive = 1e-3
    """Adam step size of the critics and of α."""
    episodes_per_iteration: PositiveInt = 40
    """Episodes per iteration, over all tasks, at most."""
    tasks_per_iteration: PositiveInt = 20
    """Tasks per iteration, at most."""
    episodes_in_context: PositiveInt = 2
    """Episodes of one sequence; memory is kept across them."""
    steps_per_update: PositiveInt = 20
    """Environment steps for each optimiser step."""
    start_steps: Annotated[int, Ge(0)] = 10_000
    """Environment steps before the first optimiser step."""
    replay_steps: PositiveInt = 1_000_000
    """Most recent environment steps that are kept."""
    batch_size: PositiveInt = 16
    """Stretches per optimiser step."""
    stretch_steps: PositiveInt = 64
    """Steps of a stretch, at most; gradients do not reach beyond it."""
    critic_width: PositiveInt = 128
    """Units in each of a critic's two hidden layers."""
    gamma: Unit = 0.97
    """Discount factor per step."""
    target_rate: Unit = 0.01
    """τ, how fast the target critics follow."""
    target_std: Positive = 0.2
    """Standard deviation that α holds actions at, in the policy's own action units."""
    max_grad_norm: Positive = 1.0
    """Maximum norm of the gradient, of the policy's and of the critics' each."""
    action_scale: Positive = 1.0
    """The environment receives the policy's action times this."""
    init_std: Positive = 1.0
    """Initial standard deviation of the policy, in its own action units."""
    max_skipped: PositiveInt = 5
    """The cell fails after this many iterations in a row with a non-finite gradient."""

    def __post_init__(self) -> None:
        """Refuse sequences that do not fit into an iteration.

        Raises:
            ValueError: a sequence has more episodes than an iteration.
        """
        check_fits(self.episodes_in_context, self.episodes_per_iteration)

    @property
    def gae_lambda(self) -> float:
        """Not used: nothing here estimates advantages."""
        return 1.0

    @property
    def baseline(self) -> Literal["linear"]:
        """Not used: nothing here estimates advantages."""
        return "linear"


@dataclass(slots=True)
class RSACState(LearnerState):
    """The policy and the critics, the critics that lag behind, and what was played so far."""

    target: Params = field(default_factory=dict)
    """The critics Q'."""
    kept: Sequences | None = None

    def save(self) -> tuple[Params, dict[str, Any]]:
        """Return the whole state as named tensors and JSON values."""
        tensors, meta = LearnerState.save(self)
        tensors |= {f"target/{name}": value for name, value in self.target.items()}
        if self.kept is not None:
            tensors |= {f"kept/{name}": value for name, value in self.kept.save().items()}
        return tensors, meta

    def load(self, tensors: Params, meta: dict[str, Any]) -> None:
        """Restore what ``save`` returned; without sequences and critics, to act alone."""
        LearnerState.load(self, tensors, meta)
        for name in self.target:
            self.target[name] = tensors.get(f"target/{name}", self.params[name]).clone()
        kept = {key[5:]: value for key, value in tensors.items() if key.startswith("kept/")}
        self.kept = Sequences(**kept) if kept else None


@dataclass(frozen=True, slots=True)
class SequencesRequest:
    """Payload that asks for the sequences that a job has played."""


@dataclass(frozen=True, slots=True)
class RSACLosses(Losses):
    """Numbers of one optimiser step, or sums of them."""

    critic_loss: float = 0.0
    value: float = 0.0
    """Mean over steps of the smaller critic's value, in units of the return's deviation."""
    grad_norm: float = 0.0
    """Before clipping."""


@dataclass(frozen=True, slots=True)
class RSACLearner(SequenceLearner):
    """Recurrent soft actor-critic. Satisfies ``Learner``."""

    @property
    def settings(self) -> RSACSettings:
        """Its settings."""
        settings: RSACSettings = self.setup.settings
        return settings

    def init(self) -> RSACState:
        """Return the untrained state."""
        setup, s = self.setup, self.settings
        spec, seed = setup.dist.spec, setup.cell.seed
        params = setup.policy.init_params(seed)
        inputs = spec.obs_dim + spec.action_dim + Goals.of_distribution(setup.dist).dim
        critics = init_critics(seed, inputs, s.critic_width)
        params |= critics | {TEMPERATURE: torch.full((1, 1), math.log(INITIAL_ALPHA))}
        state = RSACState.fresh(params, s.learning_rate, spec.obs_dim, setup.normalize_obs)
        policy, others = (list(part.values()) for part in split(state.params))
        state.optimizer = torch.optim.Adam(policy, lr=s.learning_rate)
        state.optimizer.add_param_group({"params": others, "lr": s.critic_learning_rate})
        state.target = critics
        return state

    def iterate(self, state: RSACState) -> Generator[Request, list[Any], IterationInfo]:
        """Collect and keep it, then take optimiser steps on samples of all that is kept."""
        s = self.settings
        reports: list[CollectReport] = yield Request(RequestKind.COLLECT, state.snapshot())
        played: list[Sequences] = yield Request(RequestKind.COMPUTE, SequencesRequest())
        kept = [*([state.kept] if state.kept else []), *played]
        state.kept = Sequences.joined(kept).newest(s.replay_steps)
        new = sum(report.env_steps for report in reports)
        updates = max(1, round(new / s.steps_per_update)) if state.kept.steps else 0
        if state.env_steps + new < s.start_steps:
            updates = 0
        rng = seeding.generator(self.setup.cell.seed, "train/replay", state.iteration)
        noise = torch.Generator().manual_seed(int(rng.integers(2**63)))
        snapshot = state.snapshot()
        actor, total = self.setup.actor(snapshot), RSACLosses()
        for _ in range(updates):
            stretch = sample(state.kept, actor, rng, s.batch_size, s.stretch_steps)
            gradient, losses = self._gradient(state, stretch, actor, snapshot.return_scale, noise)
            total = sum_losses(total, losses)
            if not state.accepts(losses.grad_norm):
                break
            state.adam_step(gradient)
            for name, value in state.target.items():
                value.lerp_(state.params[name], s.target_rate)
        info = {name: value / updates for name, value in total.as_info().items() if updates}
        info["std"] = float(state.params["log_std"].exp().mean())
        info["alpha"] = float(state.params[TEMPERATURE].exp())
        return state.finish_iteration(reports, info)

    def _gradient(
        self,
        state: RSACState,
        stretch: Stretch,
        actor: Actor,
        return_scale: float,
        noise: torch.Generator,
    ) -> tuple[Params, RSACLosses]:
        """Return the gradient of the losses at the top of the page, clipped, and their values."""
        s, policy = self.settings, self.setup.policy
        theta = clone(state.params, requires_grad=True)
        critics = {name: theta[name] for name in state.target}
        fixed = {name: value.detach() for name, value in critics.items()}
        memory = policy.initial_memory(1, s.batch_size, stretch.x)
        out = policy.forward(theta, stretch.x, stretch.first, memory)
        assert out.log_std is not None
        drawn = torch.randn(out.action_params.shape, generator=noise)
        actions = bounded((out.action_params + out.log_std.exp() * drawn) * actor.action_scale)
        obs, task, mask = stretch.obs[:, :, :-1], stretch.task, stretch.mask[0]
        count = mask.sum()

        with torch.no_grad():
            after = q_values(state.target, stretch.obs[:, :, 1:], actions[:, :, 1:], task).amin(0)
            going = s.gamma * ~stretch.terminated[0]
            targets = stretch.rewards[0] / return_scale + going * after
        error = (q_values(critics, obs, stretch.actions, task) - targets) * mask
        critic = error.square().sum() / count
        values = q_values(fixed, obs, actions[:, :, :-1], task).amin(0)
        value = (values * mask).sum() / count
        entropy = gaussian_entropy(out.log_std).sum()
        goal = gaussian_entropy(torch.full_like(out.log_std, math.log(s.target_std))).sum()
        temperature = theta[TEMPERATURE].squeeze()
        actor_loss = -value - temperature.exp().detach() * entropy
        alpha_loss = temperature * (entropy.detach() - goal)
        loss = critic + actor_loss + alpha_loss
        gradient = PartialGradient.of(loss, theta, RSACLosses()).gradient
        size = self._clip(gradient, critics)
        return gradient, RSACLosses(float(critic.detach()), float(value.detach()), size)

    def _clip(self, gradient: Params, critics: Params) -> float:
        """Clip the gradient of the policy and that of the critics; return its norm before."""
        sizes = []
        for part in (gradient.keys() - critics.keys() - {TEMPERATURE}, critics.keys()):
            size = norm({name: gradient[name] for name in part})
            scale = min(1.0, self.settings.max_grad_norm / (size + 1e-6))
            gradient.update({name: gradient[name] * scale for name in part})
            sizes.append(size)
        return math.hypot(*sizes)

    def collect(
        self, tasks: Sequence[Task], context: JobContext, policy: PolicySnapshot, clock: Clock
    ) -> tuple[Sequences, CollectReport]:
        """Play the sequences of one job with sampled actions and keep them."""
        actor, blocks = self.play(tasks, context, policy, clock)
        features = Goals.of_distribution(self.setup.dist).of(tuple(tasks))
        report = CollectReport.on(blocks, self.settings.gamma)
        return Sequences.of(blocks, actor, features), report

    def compute(self, data: Sequences, payload: SequencesRequest, clock: Clock) -> Sequences:
        """Return the sequences of one job."""
        return data


def init_critics(seed: int, inputs: int, width: int) -> Params:
    """Return initial parameters of two critics, [2, ...], a function of ``seed`` alone."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"0": (inputs, width, 2.0**0.5), "1": (width, width, 2.0**0.5), "2": (width, 1, 1.0)}
    params: Params = {}
    for layer, (rows, columns, gain) in sizes.items():
        pair = [linear_params(generator, f"{PREFIX}{layer}", rows, columns, gain) for _ in "12"]
        params |= {name: torch.cat([one[name] for one in pair]) for name in pair[0]}
    return params


def q_values(
    critics: Params,
    obs: Float[Tensor, "1 B W O"],
    actions: Float[Tensor, "1 B W A"],
    task: Float[Tensor, "1 B G"],
) -> Float[Tensor, "2 B W"]:
    """Return both critics' values: two layers of ReLU and layer norm (arXiv 1607.06450)."""
    features = task.unsqueeze(2).expand(*obs.shape[:3], -1)
    hidden = torch.cat([obs, actions, features], -1).expand(2, -1, -1, -1)
    for layer in "01":
        hidden = linear(critics, f"{PREFIX}{layer}", hidden)
        hidden = relu(layer_norm(hidden, hidden.shape[-1:]))
    return linear(critics, f"{PREFIX}2", hidden).squeeze(-1)


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * torch.where(gradient < 0, 1 - x, 1 + x) / 2


def bounded(x: Tensor) -> Tensor:
    """Clip ``x`` to [-1, 1], with a gradient that is scaled down towards the bound it descends to.

    It is 0 there and the other way round beyond it (arXiv 1511.04143, equation 11).
    """
    y: Tensor = _Bounded.apply(x)  # type: ignore[no-untyped-call]
    return y


RSAC = LearnerSpec(
    settings=RSACSettings,
    build=RSACLearner,
    adapter="memory",
    feeds_history=True,
    refuses_discrete="its critics differentiate by the action",
)
