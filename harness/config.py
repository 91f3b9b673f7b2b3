"""Every setting of a run, declared once: the CLI, YAML, the manifest and sweeps are made of it.

Order of precedence: default < preset < YAML < command line.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

import tyro
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from policies import COMPARED

STRICT = ConfigDict(extra="forbid")
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Unit = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class EnvConfig:
    """Which tasks."""

    horizon: Positive | None = None
    """Control steps per episode; the distribution's own if not given."""
    train_tasks: tuple[Count, ...] | None = None
    """Indices into the fixed list of training tasks; all if not given."""
    test_tasks: tuple[Count, ...] | None = None
    """Indices into the fixed list of test tasks; all if not given."""


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """The outer loop."""

    epochs: Count = 100
    """Outer iterations (meta-updates)."""
    meta_batch_size: Positive = 20
    """Tasks per outer iteration."""
    episodes_per_task: Positive = 20
    """Episodes per task of each support and query batch while training."""
    outer: Literal["ppo", "trpo"] = "ppo"
    """Outer step: clipped surrogate as in ProMP (arXiv 1810.06784), or TRPO as in MAML."""
    outer_lr: PositiveFloat = 1e-3
    """Adam step size of the ppo outer step."""
    outer_steps: Positive = 5
    """Gradient steps of the ppo outer step on one batch."""
    clip: PositiveFloat = 0.3
    """Likelihood-ratio clip of the ppo outer step."""
    inner_kl: Annotated[float, Field(ge=0)] = 5e-4
    """Weight of the KL penalty that keeps the pre-adaptation policy near the sampling one."""
    max_kl: PositiveFloat = 0.01
    """Trust region of the trpo outer step."""
    max_grad_norm: PositiveFloat = 1.0
    """Clip of the meta-gradient's norm."""
    first_order: bool = False
    """Drop the second derivatives of the inner step."""
    gamma: Unit = 0.99
    gae_lambda: Unit = 1.0
    baseline: Literal["linear", "value"] = "linear"
    """Advantage baseline: linear features fitted per task and step, or the policy's value head."""
    value_coef: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the value loss, with the value baseline."""
    action_scale: PositiveFloat = 0.1
    """The environment receives the policy's action times this (the field's recipes: 0.1)."""
    init_std: PositiveFloat = 1.0
    """Initial standard deviation of the policy, in its own action units."""
    normalize_obs: bool = True
    """Scale observations by running statistics of the training data (frozen when evaluating)."""
    max_skipped: Positive = 5
    """Updates in a row that may be skipped for a non-finite gradient before the cell fails."""


@dataclass(frozen=True, config=STRICT)
class AdaptConfig:
    """The inner loop."""

    adapter: Literal["auto", "none", "gradient"] = "auto"
    """How shots change the policy; auto takes the one the learner trains for."""
    inner_lr: PositiveFloat = 0.1
    """Step size of the adaptation."""
    adaptation_steps: Positive = 1
    """Inner gradient steps while meta-training (at test, one per shot)."""


@dataclass(frozen=True, config=STRICT)
class EvalConfig:
    """Scoring on the test tasks."""

    few_shot: tuple[Count, ...] = (1, 5, 10)
    """Numbers of shots to score after; 0 is always scored too."""
    zero_shot: bool = False
    """Score without adaptation only."""
    episodes_per_shot: Positive = 20
    """Support episodes of one shot."""
    query_episodes: Positive = 5
    """Scored episodes per task at every number of shots."""
    deterministic: bool = True
    """Query episodes take the mean action; support episodes always sample."""

    @property
    def shots(self) -> tuple[int, ...]:
        """Every number of shots that is scored, ascending, 0 first."""
        return (0,) if self.zero_shot else tuple(sorted({0, *self.few_shot}))


@dataclass(frozen=True, config=STRICT)
class ExecutionConfig:
    """Where and how it runs; nothing here changes a number."""

    backend: Literal["ray", "local"] = "ray"
    """Ray actors, or everything in this process (for debugging)."""
    num_workers: Positive | None = None
    """Rollout actors; one per available CPU if not given."""
    address: str | None = None
    """Ray cluster to join; a fresh local one if not given."""
    name: str | None = None
    """Folder below results/ to write to; made of the task distribution and the time if not given."""
    resume: bool = False
    """Continue the run of that name from its last checkpoints."""
    checkpoint_every: Positive = 10
    """Outer iterations between checkpoints."""
    job_timeout: PositiveFloat = 600.0
    """Seconds after which a worker's job counts as hung."""


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """One run: every policy with every learner and seed on one task distribution."""

    task_dist: str = "halfcheetah-vel"
    """Task distribution."""
    policy: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--method"])] = COMPARED
    """Policies to compare."""
    learner: tuple[str, ...] = ("maml",)
    """Learners to compare."""
    seed: Annotated[tuple[Count, ...], tyro.conf.arg(aliases=["--seeds"])] = (0,)
    """Seeds; every one trains its own cell."""
    preset: Literal["smoke", "quick", "standard", "paper"] = "quick"
    """Budget; a flag given beside it wins over it."""
    benchmark_mode: bool = True
    """Accepted for compatibility: comparing is what this program does."""
    envs_per_job: Positive = 100
    """Environments a worker steps at once: the unit of work, whatever the number of workers."""
    env: EnvConfig = field(default_factory=EnvConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
