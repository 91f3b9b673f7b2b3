"""Recurrent soft actor-critic: off-policy, with a policy that has memory (arXiv 2110.05038).

The policy is fed what ``rl2`` is fed. Two critics (arXiv 1801.01290, 1812.05905) see the task
instead of the past, as an asymmetric critic may (1710.06542), and need no memory:

    y   = r + γ (1 - terminated) min_k Q'_k(o', ã', task)        ã = clip(scale (μ + σ ε), ±1)
    L_Q = mean Σ_k (Q_k(o, a, task) - y)²                        Q' <- Q' + τ (Q - Q')
    L_π = -mean min_k Q_k(o, ã, task) - α H(σ)                   L_α = log α (H(σ) - H(target_std))

a was played; ã is drawn again, with μ computed along a stretch of steps that begins with a fresh
memory. o' after the last step of an episode is where the next one of its sequence begins, so that
the return is that of the sequence, as in ``rl2``. H is the entropy before the clip, the same in
every state; y goes without it, so that living longer is worth nothing by itself. The gradient
through the clip is that of arXiv 1511.04143, which leads back inside.

Workers play; the learner keeps what they played and takes all optimiser steps by itself.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import layer_norm, relu

from harness import seeding
from harness.meta.cell_setup import LearnerSpec
from harness.meta.learners.base import (
    REPLAY,
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
from harness.meta.learners.state import LearnerState, clipped
from harness.meta.learners.sums import Losses, PartialGradient, sum_losses
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
    replay_steps: PositiveInt = 1_000_000
    """Most recent environment steps that are kept, at least those of an iteration. An episode that
    ends early counts in full."""
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
    """The cell fails after this many iterations in a row without effect: with a number that is not
    finite, or no valid episode. It also fails if the second half of its training was like that."""

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

    def snapshot(self) -> PolicySnapshot:
        """Return the policy alone, unchanged by later updates."""
        whole = LearnerState.snapshot(self)
        return replace(whole, params=split(whole.params)[0])

    def save(self) -> tuple[Params, dict[str, Any]]:
        """Return the whole state as named tensors and JSON values."""
        tensors, meta = LearnerState.save(self)
        tensors |= {f"target/{name}": value for name, value in self.target.items()}
        if self.kept is not None:
            tensors |= {f"{REPLAY}{name}": value for name, value in self.kept.save().items()}
        return tensors, meta

    def load(self, tensors: Params, meta: dict[str, Any]) -> None:
        """Restore what ``save`` returned; without replay and lagging critics, to act alone."""
        LearnerState.load(self, tensors, meta)
        for name in self.target:
            self.target[name] = tensors.get(f"target/{name}", self.params[name]).clone()
        kept = {k.removeprefix(REPLAY): v for k, v in tensors.items() if k.startswith(REPLAY)}
        self.kept = Sequences(**kept) if kept else None


@dataclass(frozen=True, slots=True)
class RSACLosses(Losses):
    """Numbers of one optimiser step, or sums of them."""

    critic_loss: float = 0.0
    value: float = 0.0
    """Mean over steps of the smaller critic's value, in units of the return's deviation."""
    grad_norm: float = 0.0
    """Of the policy, before clipping."""
    critic_grad_norm: float = 0.0


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
        s, before = self.settings, state.env_steps
        reports: list[CollectReport] = yield Request(RequestKind.COLLECT, state.snapshot())
        played: list[Sequences] = yield Request(RequestKind.COMPUTE, None)
        kept = Sequences.joined([*([state.kept] if state.kept else []), *played])
        rows = max(s.replay_steps // kept.rewards.shape[1], sum(map(len, played)), 1)
        state.kept = kept.where(slice(-rows, None))
        state.count(reports)
        updates = state.env_steps // s.steps_per_update - before // s.steps_per_update
        rng = seeding.generator(self.setup.cell.seed, "train/replay", state.iteration)
        noise = torch.Generator().manual_seed(int(rng.integers(2**63)))
        snapshot, total, taken = state.snapshot(), RSACLosses(), 0
        actor = self.setup.actor(snapshot)
        for _ in range(updates if len(state.kept) else 0):
            stretch = sample(state.kept, actor, rng, s.batch_size, s.stretch_steps)
            theta = clone(state.params, requires_grad=True)
            target, unit = state.target, snapshot.return_scale
            loss, losses = self.loss(theta, target, stretch, actor.action_scale, unit, noise)
            gradient, sizes = self._clipped(PartialGradient.of(loss, theta, losses).gradient)
            losses = replace(losses, grad_norm=sizes[0], critic_grad_norm=sizes[1])
            total = sum_losses(total, losses)
            taken += 1
            if not state.accepts(math.hypot(*sizes)):
                break
            state.adam_step(gradient)
            for name, value in target.items():
                value.lerp_(state.params[name], s.target_rate)
        info = {name: value / taken for name, value in total.as_info().items() if taken}
        info["std"] = float(state.params["log_std"].exp().mean())
        info["alpha"] = float(state.params[TEMPERATURE].exp())
        return state.finish_iteration(reports, info, counted=True)

    def loss(
        self,
        theta: Params,
        target: Params,
        stretch: Stretch,
        action_scale: float,
        return_scale: float,
        noise: torch.Generator,
    ) -> tuple[Tensor, RSACLosses]:
        """Return the sum of the losses at the top of the page, and the numbers it consists of.

        Each of them is differentiated by its own part of ``theta`` alone.

        Args:
            theta: parameters of the policy and the critics, and log α.
            target: the critics Q'.
            stretch: what to learn from.
            action_scale: the environment receives the policy's action times this.
            return_scale: the unit of the values; rewards are divided by it.
            noise: where ε comes from.
        """
        s, policy = self.settings, self.setup.policy
        critics = {name: theta[name] for name in target}
        fixed = {name: value.detach() for name, value in critics.items()}
        memory = policy.initial_memory(1, stretch.x.shape[1], stretch.x)
        out = policy.forward(theta, stretch.x, stretch.first, memory)
        assert out.log_std is not None
        drawn = torch.randn(out.action_params.shape, generator=noise)
        actions = bounded((out.action_params + out.log_std.exp() * drawn) * action_scale)
        obs, task, mask = stretch.obs[:, :, :-1], stretch.task, stretch.mask[0]
        with torch.no_grad():
            after = q_values(target, stretch.obs[:, :, 1:], actions[:, :, 1:], task).amin(0)
            going = s.gamma * ~stretch.terminated[0]
            targets = stretch.rewards[0] / return_scale + going * after
        error = (q_values(critics, obs, stretch.actions, task) - targets) * mask
        critic = error.square().sum() / mask.sum()
        values = q_values(fixed, obs, actions[:, :, :-1], task).amin(0)
        value = (values * mask).sum() / mask.sum()
        entropy = gaussian_entropy(out.log_std).sum()
        goal = gaussian_entropy(torch.full_like(out.log_std, math.log(s.target_std))).sum()
        log_alpha = theta[TEMPERATURE].squeeze()
        policy_loss = -value - log_alpha.exp().detach() * entropy
        alpha_loss = log_alpha * (entropy.detach() - goal)
        losses = RSACLosses(float(critic.detach()), float(value.detach()))
        return critic + policy_loss + alpha_loss, losses

    def _clipped(self, gradient: Params) -> tuple[Params, tuple[float, float]]:
        """Return the gradient, clipped by the norms of policy and critics, and these norms."""
        policy, critics = split(gradient)
        log_alpha = {TEMPERATURE: critics.pop(TEMPERATURE)}
        kept, (size, critic_size) = clipped((policy, critics), self.settings.max_grad_norm)
        return kept | log_alpha, (size, critic_size)

    def collect(
        self, tasks: Sequence[Task], context: JobContext, policy: PolicySnapshot, clock: Clock
    ) -> tuple[Sequences, CollectReport]:
        """Play the sequences of one job with sampled actions and keep them."""
        actor, blocks = self.play(tasks, context, policy, clock)
        features = Goals.of_distribution(self.setup.dist).of(tuple(tasks))
        report = CollectReport.on(blocks, policy, self.settings.gamma)
        return Sequences.of(blocks, actor, features), report

    def compute(self, data: Sequences, payload: None, clock: Clock) -> Sequences:
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
