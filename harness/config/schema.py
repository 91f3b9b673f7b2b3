"""The settings of a run: what every run has, and the components it is made of.

Policies, learners, adapters and distributions own their settings (components.py). Settings are
merged in this order: default < preset < recipe of the distribution < environment variable
(IMUJOCO_XML_DIR) < YAML < command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from harness.config import plugins
from harness.config.components import Component, settings_as_dict
from harness.types import AGENT, Cell
from metarl_plugins import label_of
from task_distributions import Split

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
_MULTIPLES = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def count_of(value: object) -> object:
    """Return the whole number that ``5M``, ``100k`` or ``2.5e6`` stands for; others unchanged."""
    if isinstance(value, str):
        matched = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+]?[0-9]+)?)([kMG]?)", value)
        if matched is None:
            raise ValueError("give a whole number such as 5M, 100k or 2500000")
        value = float(matched[1]) * _MULTIPLES[matched[2]]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def folder(address: str | Path) -> Path:
    """Return a folder on this machine; ``file:///x`` is ``/x``, and ``%20`` in it is a space.

    Raises:
        ValueError: it is the address of something else.
    """
    scheme, colon, _ = str(address).partition(":/")
    if not colon or "/" in scheme:
        return Path(address).expanduser().absolute()
    if scheme != "file":
        raise ValueError(
            f"{scheme} addresses cannot be written to directly: mount the store and give the "
            "folder, or copy the run there with --mirror"
        )
    if isinstance(address, Path):
        raise ValueError("give a file:// address as text: a Path drops its host")
    rest = address.removeprefix("file:")
    host, _, rest = rest.removeprefix("//").partition("/") if rest[:2] == "//" else ("", "", rest)
    if host not in ("", "localhost"):
        raise ValueError(f"files on host {host!r} are out of reach: mount them, give the folder")
    return Path(f"/{unquote(rest).lstrip('/')}")


def _as_folder(value: object) -> object:
    # Before pydantic makes a Path of it, which would turn file://host/x into file:/host/x.
    return type(value)(folder(value)) if isinstance(value, str | Path) else value


Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
LargeCount = Annotated[int, BeforeValidator(count_of), Field(ge=1, le=10**15)]
PositiveFloat = Annotated[float, Field(gt=0)]
Indices = Annotated[tuple[Count, ...], Field(min_length=1)]
Shots = Annotated[tuple[Count, ...], Field(min_length=1)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)]
Folder = Annotated[Path, BeforeValidator(_as_folder)]
Splits = Annotated[tuple[Split, ...], Field(min_length=1)]

OFFICIAL_EPISODES = {"episodes_per_shot": 10, "query_episodes": 3}
"""Episodes that Meta-World's official protocol fixes (metaworld 3.1.1, evaluation.py)."""


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """Training, whatever the learner."""

    env_steps: LargeCount | None = None
    """Environment steps each cell trains for; its last iteration is finished. 5M and 100k work."""
    meta_iterations: Count | None = None
    """Outer iterations of the learner, in place of env_steps."""
    normalize_obs: bool = True
    """Scale observations by running statistics of the training data (frozen when evaluating) and
    clip them to ten standard deviations."""


@dataclass(frozen=True, config=STRICT)
class EvalConfig:
    """Scoring."""

    protocol: Literal["all", "official", "quick"] = "all"
    """Tasks to score. all: every task. official: Meta-World's protocol, the first 40 goals of each
    test class (4 of each training class), 10 episodes per shot, 3 query episodes. quick: 4 goals
    (1). Presets smoke and quick use quick for Meta-World, the others official."""
    splits: Splits = ("test",)
    """Task lists to score, each in its own table: test, ood (outside the training range), train,
    validation. Meta-World's presets score test and train, smoke on ML45 test alone."""
    few_shot: Shots = (1, 5, 10)
    """Score after these numbers of shots, and always after 0."""
    zero_shot: bool = False
    """Score without adaptation only."""
    episodes_per_shot: Positive = 20
    """Support episodes per shot."""
    query_episodes: Positive = 5
    """Scored episodes per task at every number of shots."""
    deterministic: bool = True
    """Query episodes take the mean action; support episodes always sample."""

    @property
    def shots(self) -> tuple[int, ...]:
        """Every number of shots to score, ascending from 0."""
        return (0,) if self.zero_shot else tuple(sorted({0, *self.few_shot}))


@dataclass(frozen=True, config=STRICT)
class ExecutionConfig:
    """Where and how it runs; nothing here changes a number of training or scoring."""

    backend: Literal["ray", "local"] = "ray"
    """Ray actors, or everything in this process (for debugging)."""
    num_workers: Positive | None = None
    """Rollout actors per cell. If not given, cells run side by side on one CPU each when there are
    at least as many as CPUs; otherwise every cell gets one actor per CPU."""
    address: str | None = None
    """Ray cluster to join; a fresh local one if not given."""
    name: str | None = None
    """Folder to write below results/; made from task distribution and time if not given."""
    checkpoint_every: Positive = 10
    """Outer iterations between checkpoints."""
    eval_every: LargeCount | Literal["auto", "never"] = "never"
    """Environment steps between scorings on validation tasks, after every number of shots, for the
    curves and asha. auto: an eighth of the budget, or more where scoring is costly. It changes no
    training."""
    eval_tasks: Positive = 10
    """Validation tasks that are scored then, on one query episode each."""
    ckpt_dir: Folder | None = None
    """Folder that also gets every checkpoint as step_N.npz, the newest as latest.npz; train writes
    to checkpoints/ if not given. With several cells, each has its own folder in it."""
    job_timeout: PositiveFloat = 600.0
    """Seconds after which a worker's job counts as hung."""
    act_timeout: PositiveFloat = 60.0
    """Seconds that an agent may take to act (harness.score)."""
    adapt_timeout: PositiveFloat = 300.0
    """Seconds that an agent may take to be made, and to adapt (harness.score)."""
    start_timeout: PositiveFloat = 120.0
    """Seconds to wait for a worker to start, or for a lost node to return; raise it where nodes are
    created on demand."""
    storage: Folder | None = None
    """Folder for the run's folder, in place of results/ in the working directory."""
    mirror: str | None = None
    """Address that gets a copy of the run's folder every half minute and at the end: an object
    store (s3://..., gs://..., by fsspec) or a folder. With --resume, a run that is not here is
    fetched from there."""
    tensorboard: bool = True
    """Also write settings, curves and scores for TensorBoard:
    tensorboard --logdir results/<run>."""
    wandb: bool = False
    """The same for Weights & Biases (extra trackers): online with WANDB_API_KEY set, else offline
    in the run's folder, for wandb sync."""
    trackio: bool = False
    """The same for Trackio (extra trackers): shown by trackio show."""


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class RunConfig:
    """One run: every policy with every learner and seed on one task distribution.

    Built by ``precedence.resolve``, which checks it.
    """

    task_dist: str
    """Task distribution: a name, or an environment's id (CartPole-v1, HalfCheetah-v5)."""
    env: Any
    """Settings of the distribution."""
    policy: Mapping[str, Component]
    """Policies by label: NAME, or LABEL=NAME for a variant with settings of its own."""
    learner: Mapping[str, Component]
    """Learners by label, likewise."""
    adapter: Component
    """How shots change the policy; auto takes what each learner trains for."""
    agent: Mapping[str, Component] = field(default_factory=dict)
    """Agents by label, scored in place of policies and learners."""
    seed: Seeds = (0,)
    """Seeds; each has cells of its own."""
    preset: Literal["smoke", "quick", "standard", "paper"] = "quick"
    """Budget; settings given beside it win over it."""
    train_tasks: Indices | None = None
    """Indices into the fixed list of training tasks; all if not given."""
    test_tasks: Indices | None = None
    """Indices into the fixed list of test tasks; those of the protocol if not given."""
    envs_per_job: Positive = 100
    """Environments that one job steps as a batch; the number of workers does not change it."""
    min_jobs: Positive = 4
    """Least jobs of an iteration (at most one a task), so that workers can share them."""
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    @property
    def label(self) -> str:
        """What tables and folders call the task distribution."""
        return label_of(self.task_dist)

    @property
    def cells(self) -> list[Cell]:
        """The cells of a run, seed by seed, so that a partial run already compares policies."""
        if self.agent:
            return [
                Cell(self.label, name, AGENT, seed) for seed in self.seed for name in self.agent
            ]
        return [
            Cell(self.label, policy, learner, seed)
            for seed in self.seed
            for learner in self.learner
            for policy in self.policy
        ]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Travel as names where a component's own classes are unknown to the other process."""
        if any(plugins.names_in(self)):
            return plugins.unpack, plugins.pack(self, config_as_dict(self))
        return super().__reduce_ex__(protocol)

    def one_cell(self, policy: str, learner: str, seed: int) -> RunConfig:
        """Return the configuration of a single cell."""
        if learner == AGENT:
            return replace(self, agent={policy: self.agent[policy]}, seed=(seed,))
        return replace(
            self,
            policy={policy: self.policy[policy]},
            learner={learner: self.learner[learner]},
            seed=(seed,),
        )


SECTIONS: dict[str, type] = {
    "train": TrainConfig,
    "evaluation": EvalConfig,
    "execution": ExecutionConfig,
}
"""Sections of ``RunConfig`` that every run has."""


def config_as_dict(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as nested dicts, lists and scalars that JSON can hold."""
    scalars = ("task_dist", "preset", "envs_per_job", "min_jobs")
    lists = ("seed", "train_tasks", "test_tasks")
    plain: dict[str, Any] = {name: getattr(config, name) for name in scalars}
    for name in lists:
        value = getattr(config, name)
        plain[name] = None if value is None else list(value)
    for name in ("policy", "learner"):
        plain[name] = {label: part.as_dict() for label, part in getattr(config, name).items()}
    if config.agent:
        plain["agent"] = {label: part.as_dict() for label, part in config.agent.items()}
    plain["adapter"] = config.adapter.as_dict()
    plain["env"] = settings_as_dict(config.env)
    for name in SECTIONS:
        plain[name] = settings_as_dict(getattr(config, name))
    if outside := plugins.origins_in(config):
        plain["plugins"] = outside
    return plain
