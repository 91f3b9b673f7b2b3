"""Every setting of a run, declared once: the CLI, YAML, the manifest and sweeps are made of it.

Order of precedence: default < preset < recipe of the distribution < YAML < command line.
"""

from __future__ import annotations

import json
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import tyro
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from tyro.constructors import PrimitiveConstructorSpec

from policies import COMPARED

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Unit = Annotated[float, Field(ge=0, le=1)]
Indices = Annotated[tuple[Count, ...], Field(min_length=1), tyro.conf.arg(metavar="I [I ...]")]
Shots = Annotated[tuple[Count, ...], Field(min_length=1), tyro.conf.arg(metavar="K [K ...]")]


def folder(address: str | Path) -> Path:
    """Return a folder of this machine; ``file:///x`` is ``/x``, and ``%20`` in it is a space.

    Raises:
        ValueError: it is the address of something else, which would become a strange folder here.
    """
    scheme, colon, _ = str(address).partition(":/")
    if not colon or "/" in scheme:
        return Path(address).expanduser().absolute()
    if scheme != "file":
        raise ValueError(
            f"{scheme} addresses are not written to: mount it and give the folder, or have the run "
            "copied there by --mirror"
        )
    if isinstance(address, Path):
        raise ValueError("a Path has lost which host the address names: give it as text")
    rest = address.removeprefix("file:")
    host, _, rest = rest.removeprefix("//").partition("/") if rest[:2] == "//" else ("", "", rest)
    if host not in ("", "localhost"):
        raise ValueError(f"files of the host {host!r} are not reached: mount it, give the folder")
    return Path(f"/{unquote(rest).lstrip('/')}")


def _as_folder(value: object) -> object:
    # Before it becomes a Path, which makes file:/host/x of file://host/x; text stays text, since
    # JSON has nothing else.
    return type(value)(folder(value)) if isinstance(value, str | Path) else value


Folder = Annotated[
    Path,
    BeforeValidator(_as_folder),
    # The command line hands over the text as it is.
    PrimitiveConstructorSpec[Any](
        nargs=1,
        metavar="FOLDER",
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: isinstance(value, str | Path),
        str_from_instance=lambda value: [str(value)],
    ),
]
Address = Annotated[str, tyro.conf.arg(metavar="ADDRESS")]
Splits = Annotated[
    tuple[Literal["test", "train"], ...],
    Field(min_length=1),
    tyro.conf.arg(metavar="{test,train} [...]"),
]
Names = Annotated[tuple[str, ...], Field(min_length=1)]

OFFICIAL_EPISODES = {"episodes_per_shot": 10, "query_episodes": 3}
"""What Meta-World's official protocol fixes (metaworld 3.1.1, metalearning_evaluation)."""


REPLAY: dict[str, Any] = {
    "buffer_size": 10_000,
    "experience_batch_size": 32,
    "experience_weight": 0.1,
}
"""Settings of ``AdaptConfig`` that act with the hybrid adapter alone; what each is if not given."""


class UsageError(ValueError):
    """Bad input of a user: names the value, what is allowed and the remedy; exit code 2."""


@dataclass(frozen=True, config=STRICT)
class EnvConfig:
    """Which tasks."""

    horizon: Positive | None = None
    """Control steps per episode; the distribution's own if not given."""
    train_tasks: Indices | None = None
    """Indices into the fixed list of training tasks; all if not given."""
    test_tasks: Indices | None = None
    """Indices into the fixed list of test tasks; all if not given."""
    reward_version: Literal["v1", "v2"] | None = None
    """Meta-World's rewards; v2 if not given."""
    imujoco_xml: Folder | None = None
    """Folder of the official iMuJoCo halfcheetah-*.xml, in place of the reconstruction; the
    environment variable IMUJOCO_XML_DIR if not given."""


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """The outer loop."""

    epochs: Annotated[Count, tyro.conf.arg(aliases=["--num-epochs", "--outer-steps"])] = 100
    """Outer iterations (meta-updates)."""
    meta_batch_size: Annotated[
        Positive, tyro.conf.arg(aliases=["--tasks-per-batch", "--tasks-per-epoch"])
    ] = 20
    """Tasks per outer iteration."""
    episodes_per_task: Positive = 20
    """Episodes per task of each support and query batch while training."""
    outer: Literal["ppo", "trpo"] = "ppo"
    """Outer step: clipped surrogate as in ProMP (arXiv 1810.06784), or TRPO as in MAML."""
    outer_lr: PositiveFloat = 1e-3
    """Adam step size of the ppo outer step."""
    outer_steps: Annotated[Positive, tyro.conf.arg(name="outer-updates")] = 5
    """Gradient steps of the ppo outer step on one batch (outer_steps in YAML)."""
    clip: PositiveFloat = 0.3
    """Likelihood-ratio clip of the ppo outer step."""
    inner_kl: NonNegativeFloat = 5e-4
    """Weight of the KL penalty that keeps the pre-adaptation policy near the sampling one."""
    max_kl: PositiveFloat = 0.01
    """Trust region of the trpo outer step."""
    max_grad_norm: PositiveFloat = 1.0
    """Clip of the meta-gradient's norm."""
    first_order: bool = False
    """Drop the second derivatives of the inner step."""
    gamma: Unit = 0.99
    """Discount factor per step."""
    gae_lambda: Unit = 1.0
    """Lambda of generalised advantage estimation (arXiv 1506.02438)."""
    baseline: Literal["linear", "value"] = "linear"
    """Advantage baseline: linear features fitted per task and step, or the policy's value head."""
    value_coef: NonNegativeFloat = 0.5
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
class PPOConfig:
    """PPO (arXiv 1707.06347) over whole sequences: what rl2 and the controls train with.

    It takes as many episodes as maml would in all its epochs, in more and smaller iterations.
    """

    ppo_episodes: Positive = 100
    """Episodes per iteration, over all tasks; never more than maml takes."""
    ppo_tasks: Positive = 50
    """Tasks per iteration, at most."""
    episodes_in_context: Positive = 2
    """Episodes of one training sequence of rl2; memory is kept across them."""
    chunk_steps: Positive | Literal["whole"] | None = None
    """Longest stretch that the gradient goes back in time, or whole for the whole sequence; if not
    given 50, with the transformer whole."""
    ppo_passes: Positive = 10
    """Passes over the data of an iteration."""
    ppo_minibatches: Positive = 8
    """Optimiser steps per pass."""
    ppo_lr: PositiveFloat = 1e-3
    """Adam step size at the start; it falls to zero linearly."""
    ppo_clip: PositiveFloat = 0.2
    """Likelihood-ratio clip."""
    ppo_gamma: Unit = 0.97
    """Discount factor per step."""
    ppo_gae_lambda: Unit = 0.95
    """Lambda of generalised advantage estimation."""
    ppo_value_coef: NonNegativeFloat = 0.5
    """Weight of the value loss."""
    ppo_entropy_coef: NonNegativeFloat = 0.0
    """Weight of the entropy bonus."""
    ppo_action_scale: PositiveFloat = 1.0
    """The environment receives the policy's action times this."""
    ppo_init_std: PositiveFloat = 0.6
    """Initial standard deviation of the policy, in its own action units."""
    ppo_inner_lr: PositiveFloat = 0.03
    """Step size of the gradient step per shot of finetune and scratch, in place of inner_lr."""


@dataclass(frozen=True, config=STRICT)
class AdaptConfig:
    """The inner loop."""

    adapter: Literal["auto", "none", "gradient", "memory", "memory+gradient", "hybrid"] = "auto"
    """How shots change the policy; auto takes the one the learner trains for. memory+gradient is
    maml's alone: its policy is fed its past and remembers the support episodes too. hybrid is the
    gradient on the present shot and on a sample of the task's earlier ones."""
    inner_lr: PositiveFloat = 0.1
    """Step size of the adaptation."""
    learned_inner_lr: bool = False
    """Learn a step size per parameter, from inner_lr on (Meta-SGD, arXiv 1707.09835)."""
    adaptation_steps: Positive = 1
    """Inner gradient steps while meta-training (at test, one per shot)."""
    buffer_size: Positive | None = None
    """With hybrid: past environment steps to remember; 10000 if not given."""
    experience_batch_size: Positive | None = None
    """With hybrid: past steps drawn for a gradient step; 32 if not given."""
    experience_weight: NonNegativeFloat | None = None
    """With hybrid: weight of the loss on them; 0.1 if not given."""

    @property
    def replay(self) -> dict[str, Any]:
        """The numbers of the hybrid adapter, given or not."""
        given = {name: getattr(self, name) for name in REPLAY}
        return {name: REPLAY[name] if value is None else value for name, value in given.items()}

    def spelled_out(self) -> AdaptConfig:
        """Return it with the numbers of the hybrid adapter in it, where that is the adapter."""
        return replace(self, **self.replay) if self.adapter == "hybrid" else self


@dataclass(frozen=True, config=STRICT)
class EvalConfig:
    """Scoring."""

    protocol: Literal["all", "official", "quick"] = "all"
    """Every task, or Meta-World's: the first 40 goals of every test class (4 of every training
    class), 10 episodes per shot, 3 query episodes; quick: 4 goals (1), for a first look. Presets
    smoke and quick take quick for Meta-World, the others official."""
    splits: Splits = ("test",)
    """Whose tasks to score, in tables of their own; Meta-World's presets score both."""

    few_shot: Shots = (1, 5, 10)
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
    """Folder to write below results/; made of task distribution and time if not given."""
    resume: bool = False
    """Continue the run of that name from its last checkpoints."""
    checkpoint_every: Positive = 10
    """Outer iterations between checkpoints."""
    ckpt_dir: Folder | None = None
    """Folder that gets every checkpoint as step_N.npz too, the newest as latest.npz; train writes
    to checkpoints/ if not given. Where several cells are trained each has a folder in it."""
    job_timeout: PositiveFloat = 600.0
    """Seconds after which a worker's job counts as hung."""
    start_timeout: PositiveFloat = 120.0
    """Seconds within which a worker must have started, and how long a run without any worker waits
    for a node to come back; raise it where nodes are made on demand."""
    storage: Folder | None = None
    """Folder for the run's folder, in place of results/ of the working directory."""
    mirror: Address | None = None
    """Address that gets a copy of the run's folder every half minute and at the end: an object
    store (s3://..., gs://..., by fsspec) or a folder. With --resume, a run that is not here is
    fetched from there."""
    tensorboard: bool = True
    """Write the curves for TensorBoard too: tensorboard --logdir results/<run>."""
    wandb: bool = False
    """Write them for Weights & Biases too, offline (needs the extra wandb)."""


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """One run: every policy with every learner and seed on one task distribution."""

    task_dist: Annotated[str, tyro.conf.arg(aliases=["--task", "--env", "--env-name"])] = (
        "halfcheetah-vel"
    )
    """Task distribution; CartPole-v1 and HalfCheetah-v5 are taken for those of that physics."""
    policy: Annotated[Names, tyro.conf.arg(aliases=["--method"], metavar="NAME [NAME ...]")] = (
        COMPARED
    )
    """Policies to compare."""
    learner: Annotated[Names, tyro.conf.arg(metavar="NAME [NAME ...]")] = ("maml",)
    """Learners to compare."""
    seed: Annotated[
        tuple[Count, ...],
        Field(min_length=1),
        tyro.conf.arg(aliases=["--seeds"], metavar="N [N ...]"),
    ] = (0,)
    """Seeds; every one trains its own cell."""
    preset: Literal["smoke", "quick", "standard", "paper"] = "quick"
    """Budget; a flag given beside it wins over it."""
    benchmark_mode: bool = True
    """Score held-out tasks: what this program always does, so that only asking for it is taken."""
    envs_per_job: Positive = 100
    """Environments a worker steps at once: the unit of work, whatever the number of workers."""
    least_jobs: Positive = 4
    """Pieces that fewer environments are cut into: no more workers than that share them."""
    env: EnvConfig = field(default_factory=EnvConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    """Scoring one checkpoint alone; what is not given comes from the checkpoint."""

    checkpoint: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    """Checkpoint to score, .safetensors or .npz; it carries its own configuration."""
    task_dist: Annotated[str, tyro.conf.arg(aliases=["--task", "--env", "--env-name"])] | None = (
        None
    )
    """What the checkpoint must be of: any other is refused."""
    test_tasks: Indices | None = None
    """Indices into the fixed list of test tasks."""
    imujoco_xml: Folder | None = None
    """Where the official iMuJoCo files of the checkpoint's run lie now."""
    few_shot: Shots | None = None
    """Numbers of shots to score after; 0 is always scored too."""
    zero_shot: bool | None = None
    """Score without adaptation only."""
    episodes_per_shot: Positive | None = None
    """Support episodes of one shot."""
    query_episodes: Annotated[Positive, tyro.conf.arg(aliases=["--episodes"])] | None = None
    """Scored episodes per task at every number of shots."""
    protocol: Literal["all", "official", "quick"] | None = None
    """Every task, or so many goals of every class, as in a run."""
    splits: Splits | None = None
    """Whose tasks to score, in tables of their own."""
    deterministic: bool | None = None
    """Query episodes take the mean action; support episodes always sample."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def applied_to(self, stored: RunConfig) -> RunConfig:
        """Return the checkpoint's configuration with everything given here in its place."""
        env = replace(stored.env, **self._given("test_tasks", "imujoco_xml"))
        given = self._given(
            *("few_shot", "zero_shot", "episodes_per_shot", "query_episodes", "deterministic"),
            *("protocol", "splits"),
        )
        if "few_shot" in given:
            given.setdefault("zero_shot", False)
        if self.test_tasks is not None:
            given = {"protocol": "all", "splits": ("test",)} | given
        elif self.protocol is not None:
            env = replace(env, test_tasks=None)
            if self.protocol == "official":
                given = OFFICIAL_EPISODES | given
        evaluation = replace(stored.evaluation, **given)
        return replace(stored, env=env, evaluation=evaluation, execution=self.execution)

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def config_as_dict(config: RunConfig | EvaluateConfig) -> dict[str, Any]:
    """Return the configuration as nested dicts, lists and scalars that JSON can hold."""
    plain: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    for name in REPLAY:
        if "adapt" in plain and plain["adapt"][name] is None:
            # They came later: runs that do not set them keep the hash they had before.
            del plain["adapt"][name]
    return plain


def config_from_dict(values: dict[str, Any]) -> RunConfig:
    """Build a configuration from nested plain values; what is absent takes its default.

    Raises:
        pydantic.ValidationError: (a ``ValueError``) a key is unknown or a value is not accepted.
    """
    # Through JSON, the one strict mode that takes lists for tuples: "no" is no bool, "3" no int.
    return TypeAdapter(RunConfig).validate_json(json.dumps(values), strict=True)
