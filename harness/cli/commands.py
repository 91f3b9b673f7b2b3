"""The commands of ``harness.run``: how each is presented, and the flags that stand for settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import tyro
from pydantic.dataclasses import dataclass
from tyro.constructors import StructFieldSpec

from harness.cli import flags
from harness.config import aliases, validation
from harness.config.adapt import AdaptCommandConfig
from harness.config.schema import STRICT, EvaluateConfig, RunConfig
from harness.errors import UsageError
from harness.meta.learners.traits import traits

KeyPath = tuple[str, ...]
PROG = "python -m harness.run"


def _flag(name: str, kind: type, metavar: str, text: str, default: Any) -> StructFieldSpec:
    hint = Annotated[kind, tyro.conf.arg(metavar=metavar, help_behavior_hint="")]  # type: ignore[valid-type]
    return StructFieldSpec(name=name, type=cast(type, hint), default=default, helptext=text)


_BUILT_IN = ", ".join(aliases.config_names())
_FILE = f"YAML file of settings, in sections as below, or a built-in one ({_BUILT_IN}); flags win."
_SCORED = (
    f"YAML file, or a built-in one ({_BUILT_IN}): its task_dist must be the checkpoint's, its "
    "evaluation and test tasks count; what it says of training is past."
)
SHORT: dict[str, tuple[KeyPath, ...]] = {
    "episodes": (("train", "epochs"),),
    "lr": (("train", "outer_lr"), ("ppo", "ppo_lr")),
}
"""Flag that is short for settings -> those settings."""
NO_SETTINGS = ("config", "mode", "adaptation_mode", *SHORT)
"""Flags that are no settings of their own."""
MODES = {"standard": "gradient", "hybrid": "hybrid"}
"""Value of ``--adaptation-mode`` -> adapter."""

TRAIN = flags.Command(
    RunConfig,
    PROG,
    f"""examples:
  {PROG} --task-dist ant-vel --few-shot 1 5 10 --preset smoke
  {PROG} train --config basic
  {PROG} eval --checkpoint checkpoints/latest.npz
  {PROG} adapt --checkpoint checkpoints/latest.npz

Meta-train policies on tasks; compare them before and after adaptation.

train: the same for one policy (ssm unless said), checkpoints in checkpoints/.

What wins: default < --preset < task-dist's recipe < --mode < --config < flags.""",
    extra=(
        _flag("config", str, "FILE", _FILE, ""),
        _flag("mode", str, "NAME", f"Settings by name: {', '.join(aliases.MODES)}.", ""),
        _flag(
            *("episodes", int, "N"),
            "Training episodes, in whole iterations: sets --epochs.",
            0,
        ),
        _flag("lr", float, "X", "Step size of training: sets --outer-lr and --ppo-lr.", 0.0),
        _flag(
            *("adaptation_mode", str, "{standard,hybrid}"),
            "Sets --adapter: gradient, or hybrid, which replays the past too.",
            "",
        ),
    ),
)
_SCORING_FLAGS = (_flag("config", str, "FILE", _SCORED, ""),)
_NOT_SCORING = ("resume", "checkpoint_every", "ckpt_dir")
EVALUATE = flags.Command(
    EvaluateConfig,
    f"{PROG} evaluate",
    f"""examples:
  {PROG} evaluate --checkpoint PATH
  {PROG} evaluate --checkpoint PATH --test-tasks 3 4

Score one checkpoint alone; settings not given are the checkpoint's own.

eval is the same without adaptation, unless --few-shot asks for shots.""",
    extra=_SCORING_FLAGS,
    omit=_NOT_SCORING,
)
ADAPT = flags.Command(
    AdaptCommandConfig,
    f"{PROG} adapt",
    f"""examples:
  {PROG} adapt --checkpoint PATH --adapt-steps 5
  {PROG} adapt --checkpoint PATH --adapt-steps 10 --online

Score one checkpoint before and after adaptation, and what it gains.""",
    extra=_SCORING_FLAGS,
    omit=(*_NOT_SCORING, "few_shot", "zero_shot"),
)


@dataclass(frozen=True, config=STRICT)
class ExportConfig:
    """Writing a checkpoint in the other format."""

    checkpoint: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    """Checkpoint to read, .safetensors or .npz."""
    to: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    """File to write, .npz or .safetensors; must not exist."""


EXPORT = flags.Command(
    ExportConfig,
    f"{PROG} export",
    f"""examples:
  {PROG} export --checkpoint PATH.safetensors --to PATH.npz

Write a checkpoint as .npz, or an .npz as .safetensors.""",
)


def export_config(settings: dict[str, Any], given: Mapping[KeyPath, str]) -> ExportConfig:
    """Check what ``export`` was asked.

    Raises:
        UsageError: the file to write is there already, or is of no known kind.
    """
    config: ExportConfig = validation.built(ExportConfig, settings, given)
    if config.to.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"--to: {str(config.to)!r} must end in .npz or .safetensors")
    if config.to.exists():
        raise UsageError(f"--to: {str(config.to)!r} exists already; give another name")
    return config


def adaptation_mode(parsed: Mapping[str, Any], given: Mapping[KeyPath, str]) -> dict[str, Any]:
    """Return what ``--adaptation-mode`` sets.

    Raises:
        UsageError: there is no such mode, or another flag contradicts it.
    """
    if ("adaptation_mode",) not in given:
        return {}
    flag, mode = given[("adaptation_mode",)], parsed["adaptation_mode"]
    if mode not in MODES:
        raise UsageError(f"{flag}: unknown mode {mode!r}; have: {', '.join(MODES)}")
    if ("adapt", "adapter") in given:
        raise UsageError(f"{flag} and {given[('adapt', 'adapter')]} contradict each other")
    return {"adapt": {"adapter": MODES[mode]}}


def spelt_out(
    short: Mapping[str, Any], config: RunConfig, given: Mapping[KeyPath, str]
) -> dict[str, Any]:
    """Return the settings that short flags stand for, nested.

    Raises:
        UsageError: a value is out of range, or said twice, or would do nothing.
    """
    told: dict[str, Any] = {}
    for name, value in short.items():
        flag = given[(name,)]
        if not value > 0:
            raise UsageError(f"{flag}: got {value}: must be greater than 0")
        for path in SHORT[name]:
            if path in given:
                raise UsageError(f"{flag} and {given[path]} contradict each other: give one")
            if name == "episodes":
                value = _epochs(value, config)
            told.setdefault(path[0], {})[path[1]] = value
    ppo = any(traits(learner).ppo for learner in config.learner)
    if "lr" in short and config.train.outer == "trpo" and not ppo:
        raise UsageError("--lr: the trpo outer step has none. Take --max-kl, or --outer ppo")
    return told


def _epochs(episodes: int, config: RunConfig) -> int:
    """Return the iterations that take ``episodes``, rounded up."""
    train = config.train
    batches = 1 + config.adapt.adaptation_steps
    return -(-episodes // (train.meta_batch_size * train.episodes_per_task * batches))
