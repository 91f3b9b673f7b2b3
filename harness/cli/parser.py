"""The command line of ``harness.run``: words in, one checked request out."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.cli import flags
from harness.cli.flags import Flag, Parsed
from harness.config import aliases, precedence, strict_yaml, validation
from harness.config.components import (
    NAMES,
    Component,
    Family,
    fields,
    having,
)
from harness.config.distributions import open_distribution
from harness.config.presets import Layer
from harness.config.schema import (
    SECTIONS,
    ExecutionConfig,
    LargeCount,
    Positive,
    RunConfig,
    TrainConfig,
)
from harness.config.scoring import AdaptConfig, EvaluateConfig
from harness.config.validation import KeyPath
from harness.errors import EXIT_CODES, UsageError
from metarl_plugins import choose_from, label_of

PROG = "python -m harness.run"
COMMANDS = ("train", "eval", "evaluate", "adapt", "export")
ADAPTATION_MODES = {"standard": "gradient", "hybrid": "hybrid"}
"""Value of ``--adaptation-mode`` -> adapter."""
FOR_AGENTS = ("act_timeout", "adapt_timeout")
"""Settings that harness.score alone has."""
NOT_WHEN_SCORING = ("checkpoint_every", "ckpt_dir", "eval_every", "eval_tasks")

_BUILT_IN = ", ".join(aliases.config_names())
_RUN = f"""examples:
  {PROG} --task-dist ant-vel --few-shot 1 5 10 --preset smoke
  {PROG} --policy gru wide=gru --wide.hidden-dim 256 --learner rl2
  {PROG} --resume NAME
  {PROG} --resume NAME --seeds 0 1 2 --env-steps 10M
  {PROG} train --config basic
  {PROG} eval --checkpoint checkpoints/latest.npz
  {PROG} adapt --checkpoint checkpoints/latest.npz

Meta-train policies on tasks; compare them before and after adaptation.

[Values] are those that this command would use. The last groups list the settings of the chosen
policies, learners and adapter: choose others, and --help lists theirs. --hidden-dim 32 sets every
chosen component that has it; --gru.hidden-dim 32 sets only that of gru.
Later wins: defaults, preset, recipe of the task distribution, --mode, --config, flags.

{textwrap.fill(EXIT_CODES, 100)}"""
_EVALUATE = f"""examples:
  {PROG} evaluate --checkpoint PATH
  {PROG} evaluate --checkpoint PATH --test-tasks 3 4

Score one checkpoint; settings not given are the checkpoint's own.
eval is the same without adaptation, unless --few-shot asks for shots."""
_ADAPT = f"""examples:
  {PROG} adapt --checkpoint PATH --adapt-steps 5
  {PROG} adapt --checkpoint PATH --adapt-steps 10 --online

Score one checkpoint before and after adaptation, and report the gain."""
_EXPORT = f"""examples:
  {PROG} export --checkpoint PATH.safetensors --to PATH.npz

Convert a checkpoint to .npz, or an .npz to .safetensors."""


@dataclass(frozen=True, slots=True)
class Run:
    """Train and score."""

    config: RunConfig
    given: Layer
    """The settings that the file and the flags gave, nested as in YAML."""
    pretrained: tuple[Path, ...] = ()
    """Checkpoints to score in rows of their own."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Continue a run with the configuration it was started with."""

    name: str
    execution: dict[str, Any]
    """Settings of where and how, in place of the run's own."""
    more: Layer
    """More to play: ``seed``, and the budget in section ``train``."""


@dataclass(frozen=True)
class Export:
    """Convert a checkpoint."""

    checkpoint: Path
    """Checkpoint to read, .safetensors or .npz."""
    to: Path
    """File to write, .npz or .safetensors; must not exist."""


Request = Run | Resume | EvaluateConfig | AdaptConfig | Export


def parse(argv: Sequence[str]) -> Request:
    """Read the command line of ``python -m harness.run``.

    Raises:
        UsageError: bad input; names it with the choices and the remedy.
        SystemExit: help was asked for; the code is 0.
    """
    word = argv[0] if argv and not argv[0].startswith("-") else ""
    if word and word not in COMMANDS:
        raise UsageError(f"unknown command {word!r}{choose_from(word, COMMANDS, 'or none')}")
    rest = argv[1:] if word else argv
    if word in ("eval", "evaluate"):
        return _parse_evaluate(rest, zero_shot=word == "eval")
    if word == "adapt":
        return _parse_adapt(rest)
    if word == "export":
        return _parse_export(rest)
    return parse_run(rest, below=[aliases.TRAIN] if word else [])


def load_config(argv: Sequence[str]) -> RunConfig:
    """Return the checked configuration of a new run."""
    request = parse_run(argv)
    assert isinstance(request, Run)
    return request.config


# --- runs ----------------------------------------------------------------------------------------


def parse_run(argv: Sequence[str], *, below: Sequence[Layer] = ()) -> Run | Resume:
    """Read the flags of a run; ``below`` are layers of settings beneath a mode's and the user's."""
    special = select_special(argv)
    if (name := special.get("resume")) is not None:
        return _parse_resume(argv, name)
    layers = [*below]
    if (mode := special.get("mode")) is not None:
        layers.append(aliases.mode(mode))
    document = document_of(special.get("config"))
    origins = lines_of(document)
    chosen = flags.select(choice_flags(), argv)
    choice, named = _choices(chosen, special)
    before = precedence.resolve(
        [document.values, choice], origins | named, below=layers, check=False
    )
    if before.agent:
        raise UsageError(f"{special['config']}: scores agents: give it to python -m harness.score")
    parsed = flags.read(
        run_flags(before), argv, prog=PROG, description=_RUN, unknown=_explain(before)
    )
    layer, overrides = split_flags(parsed, choice)
    if (episodes := special.get("episodes")) is not None:
        layer = precedence.merged(layer, _episodes(episodes, before, mode, parsed))
    config = precedence.resolve(
        [document.values, layer],
        origins | parsed.origins | named,
        overrides=overrides,
        below=layers,
    )
    pretrained = tuple(
        _checkpoint("--pretrained", given) for given in special.get("pretrained", ())
    )
    given = given_layer([*layers, document.values, layer], overrides, config)
    return Run(config, given, pretrained)


def run_flags(config: RunConfig) -> list[Flag]:
    """Return every flag of a run with the choices and defaults of ``config``."""
    own = [*choice_flags(config), *_SPECIAL]
    omit = ("task_dist", "env", "policy", "learner", "agent", "adapter", "preset", *SECTIONS)
    own += flags.of_class(RunConfig, "run", defaults=config, omit=omit)
    for name, cls in SECTIONS.items():
        defaults = getattr(config, name)
        own += flags.of_class(cls, name, path=(name,), defaults=defaults, omit=FOR_AGENTS)
    own += env_flags(config, {name for flag in own for name in flag.names})
    components: list[Flag] = []
    for family in ("policy", "learner"):
        for label, part in getattr(config, family).items():
            components += flags.of_component(family, label, part)
    components += flags.of_component("adapter", label_of(config.adapter.kind), config.adapter)
    return [*own, *components, *flags.shared(components)]


def env_flags(config: RunConfig, taken: set[str]) -> list[Flag]:
    """Return the flags of the distribution: ``--SETTING``, and ``--LABEL.SETTING`` as well.

    A setting whose name is in ``taken`` by a flag of every run has the second one alone.
    """
    group = f"task distribution {config.label}"
    own: list[Flag] = []
    for flag in flags.of_class(type(config.env), group, path=("env",), defaults=config.env):
        full = dataclasses.replace(
            flag, names=(f"{config.label.replace('_', '-')}.{flag.names[0]}",)
        )
        if flag.names[0] in taken:
            own.append(full)
        else:
            own += [flag, dataclasses.replace(full, help=argparse.SUPPRESS)]
    return own


def choice_flags(config: RunConfig | None = None) -> list[Flag]:
    """Return the flags that decide which other flags there are."""

    def flag(name: str, hint: Any, text: str, default: Any = None) -> Flag:
        spellings = (name.replace("_", "-"), *aliases.FLAGS.get(name, ()))
        return Flag(spellings, ((name,),), hint, text, "run", default)

    def names(family: Any) -> str:
        return f"Choices: {', '.join(NAMES[family]())}."

    current: dict[str, Any] = {}
    if config is not None:
        current = {
            "policy": list(config.policy),
            "learner": list(config.learner),
            "adapter": config.adapter.kind,
            "task_dist": config.task_dist,
            "preset": config.preset,
        }
    several = tuple[str, ...]
    texts: list[tuple[str, Any, str]] = [
        ("task_dist", str, f"Task distribution. {names('env')}"),
        ("policy", several, f"Policies to compare; LABEL=NAME names a variant. {names('policy')}"),
        (
            "learner",
            several,
            f"Learners to compare; LABEL=NAME names a variant. {names('learner')}",
        ),
        ("adapter", str, f"How shots change the policy. {names('adapter')}"),
        ("preset", fields(RunConfig)["preset"], "Budget; settings given beside it win over it."),
    ]
    return [flag(name, hint, text, current.get(name)) for name, hint, text in texts]


def special_flag(name: str, hint: Any, text: str) -> Flag:
    """Return a flag that is no setting of a run."""
    return Flag((name.replace("_", "-"),), (("special", name),), hint, text, "run")


_SPECIAL: list[Flag] = [
    special_flag(
        "config", str, f"YAML file of settings, or a built-in one ({_BUILT_IN}); flags win."
    ),
    special_flag(
        "resume",
        str,
        "Continue the run of this name below results/; --seeds adds seeds, --env-steps trains on.",
    ),
    Flag(
        ("match-params",),
        (("match_params",),),
        LargeCount,
        "Choose each policy's hidden_dim so that it has about N parameters (e.g. 100k).",
        "run",
    ),
    special_flag(
        "pretrained",
        tuple[Path, ...],
        "Also score these checkpoints, or policies of the zoo, each in a row of its own.",
    ),
    special_flag("mode", str, f"Settings by name: {', '.join(aliases.MODES)}."),
    special_flag("episodes", Positive, "With --mode: training episodes; sets --env-steps."),
    special_flag(
        "adaptation_mode", Literal["standard", "hybrid"], "Sets --adapter: gradient, or hybrid."
    ),
    special_flag("benchmark_mode", bool, "Always on; accepted for compatibility."),
]


def select_special(argv: Sequence[str]) -> dict[str, Any]:
    """Return the values of the flags that are no settings, by name."""
    return {
        path[1]: value
        for path, value in flags.select(_SPECIAL, argv).values.items()
        if path[0] == "special"
    }


def _choices(chosen: Parsed, special: dict[str, Any]) -> tuple[Layer, dict[KeyPath, str]]:
    """Return the layer of the choices on the command line, and the flags that made them."""
    layer: Layer = {
        path[0]: list(value) if isinstance(value, tuple | list) else value
        for path, value in chosen.values.items()
    }
    origins = dict(chosen.origins)
    if special.get("benchmark_mode") is False:
        raise UsageError("--no-benchmark-mode: held-out tasks are always scored: leave it out")
    if (mode := special.get("adaptation_mode")) is not None:
        if "adapter" in layer:
            raise UsageError("--adaptation-mode and --adapter contradict each other: give one")
        layer["adapter"] = ADAPTATION_MODES[mode]
        origins["adapter",] = "--adaptation-mode"
    return layer, origins


def split_flags(parsed: Parsed, choice: Layer) -> tuple[Layer, dict[KeyPath, Any]]:
    """Return the settings given by flags: a layer, and those of components by path."""
    layer, overrides = dict(choice), {}
    for path, value in parsed.values.items():
        if path[0] == "special" or path in {(name,) for name in choice}:
            continue
        if path[0] in ("policy", "learner", "agent", "adapter"):
            overrides[path] = value
        elif len(path) == 1:
            layer[path[0]] = value
        else:
            layer[path[0]] = {**layer.get(path[0], {}), path[1]: value}
    return layer, overrides


def _episodes(count: int, config: RunConfig, mode: str | None, parsed: Parsed) -> Layer:
    """Return the budget that ``--episodes`` means with a mode."""
    if mode is None:
        raise UsageError(
            "--episodes: give the training budget as --env-steps, or the scored episodes as "
            "--query-episodes"
        )
    for name in ("env_steps", "meta_iterations"):
        if ("train", name) in parsed.values:
            other = parsed.origins["train", name]
            raise UsageError(f"--episodes and {other} contradict each other: give one")
    env = {path[1]: value for path, value in parsed.values.items() if path[0] == "env"}
    settings = dataclasses.replace(config.env, **env)
    horizon = open_distribution(config.task_dist, settings).spec.horizon
    return {"train": {"env_steps": count * horizon}}


def _explain(config: RunConfig) -> Callable[[str], str | None]:
    """Return a function that says why a flag does not exist in a run of ``config``."""
    families: dict[Family, Mapping[str, Component]] = {
        "policy": config.policy,
        "learner": config.learner,
        "adapter": {label_of(config.adapter.kind): config.adapter},
        "env": {config.label: Component(config.task_dist, config.env)},
    }

    def explain(flag: str) -> str | None:
        label, dot, dashed = flag.rpartition(".")
        full = (name for name, spellings in aliases.FLAGS.items() if dashed in spellings)
        setting = next(full, dashed.replace("-", "_"))
        if dot:
            for family, components in families.items():
                for known, part in components.items():
                    if known.replace("_", "-") == label:
                        return validation.no_setting(family, part.kind, setting)
            chosen = "; ".join(f"{name}: {', '.join(parts)}" for name, parts in families.items())
            return f"{label!r} is not chosen in this run ({chosen}). Choose it, or leave this out"
        own: tuple[Family, ...] = ("policy", "learner", "adapter")
        if kinds := [kind for family in own for kind in having(family, setting)]:
            return f"a setting of {', '.join(kinds)}; this run has none of them"
        if dists := having("env", setting):
            return f"{config.task_dist} has no such setting; it is for {' and '.join(dists)}"
        return None

    return explain


def given_layer(
    layers: Sequence[Layer], overrides: Mapping[KeyPath, Any], config: RunConfig
) -> Layer:
    """Return all that was given as one layer, from which the same configuration follows."""
    given: Layer = {}
    for layer in layers:
        given = precedence.merged(given, precedence.prepared(layer, {}))
    by_kind = given.pop("components", {})
    for family in ("policy", "learner", "agent"):
        touched = any(path[0] == family for path in overrides)
        if family in given or touched:
            components = getattr(config, family)
            chosen = given.get(family, {label: {"kind": c.kind} for label, c in components.items()})
            given[family] = {
                label: {**by_kind.get(part["kind"], {}), **part} for label, part in chosen.items()
            }
    for path, value in overrides.items():
        if path[0] == "adapter":
            given.setdefault("adapter", {"kind": config.adapter.kind})[path[1]] = value
        else:
            given[path[0]][path[1]][path[2]] = value
    return given


def _parse_resume(argv: Sequence[str], name: str) -> Resume:
    """Read the flags beside ``--resume``: where and how the run goes on, and what it gets more."""
    omit = ("name", *NOT_WHEN_SCORING)
    seeds = [name for name in fields(RunConfig) if name != "seed"]
    known = [
        *_SPECIAL[1:2],
        *flags.of_class(RunConfig, "run", omit=seeds),
        *flags.of_class(TrainConfig, "train", path=("train",), omit=("normalize_obs",)),
        *flags.of_class(ExecutionConfig, "execution", path=("execution",), omit=omit),
    ]

    def explain(flag: str) -> str:
        return f"--resume {name} continues with the run's own settings: leave it out"

    parsed = flags.read(known, argv, prog=PROG, description=_RUN, unknown=explain)
    execution = {path[1]: value for path, value in parsed.values.items() if path[0] == "execution"}
    checked = validation.typed(ExecutionConfig, execution | {"name": name}, parsed.origins)
    validation.check_execution(checked, parsed.origins | {("execution", "name"): "--resume"})
    more, _ = split_flags(parsed, {})
    more.pop("execution", None)
    return Resume(name, execution, precedence.prepared(more, parsed.origins))


# --- scoring and exporting -----------------------------------------------------------------------


def _parse_evaluate(argv: Sequence[str], *, zero_shot: bool) -> EvaluateConfig:
    values, origins = _scoring(EvaluateConfig, argv, f"{PROG} evaluate", _EVALUATE)
    if zero_shot and not values.keys() & {"few_shot", "zero_shot"}:
        values["zero_shot"] = True
    config: EvaluateConfig = _checked(EvaluateConfig, values, origins)
    return config


def _parse_adapt(argv: Sequence[str]) -> AdaptConfig:
    values, origins = _scoring(
        AdaptConfig, argv, f"{PROG} adapt", _ADAPT, omit=("few_shot", "zero_shot")
    )
    few = values.pop("few_shot", None)
    values.pop("zero_shot", None)
    if few and "adapt_steps" not in values:
        values["adapt_steps"] = max(few)
    config: AdaptConfig = _checked(AdaptConfig, values, origins)
    config.check()
    return config


def scoring_flags(cls: type = EvaluateConfig, omit: Sequence[str] = ()) -> list[Flag]:
    """Return every flag of the scoring of a checkpoint."""
    return [
        *flags.of_class(cls, "scoring", omit=("execution", *omit)),
        Flag(
            ("episodes",), (("query_episodes",),), Positive, "Same as --query-episodes.", "scoring"
        ),
        *_SPECIAL[:1],
        *flags.of_class(
            ExecutionConfig, "execution", path=("execution",), omit=(*NOT_WHEN_SCORING, *FOR_AGENTS)
        ),
    ]


def _scoring(
    cls: type, argv: Sequence[str], prog: str, description: str, omit: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Return the settings that a file and the flags give for scoring, and who gave them."""
    parsed = flags.read(scoring_flags(cls, omit), argv, prog=prog, description=description)
    values = _from_document(parsed.values.pop(("special", "config"), None), cls)
    given = {path[0] for path in parsed.values}
    if {"few_shot", "zero_shot"} <= given:
        raise UsageError("--few-shot and --zero-shot contradict each other: give one")
    if given & {"few_shot", "zero_shot"}:
        values = {
            key: value for key, value in values.items() if key not in ("few_shot", "zero_shot")
        }
    for path, value in parsed.values.items():
        if len(path) == 1:
            values[path[0]] = value
        else:
            values["execution"] = {**values.get("execution", {}), path[1]: value}
    return values, parsed.origins


def _from_document(name: str | None, cls: type) -> dict[str, Any]:
    """Return what a run's file says about scoring; its training settings are already past."""
    document = document_of(name)
    if not document.values:
        return {}
    precedence.resolve(document.values, lines_of(document))
    known = set(fields(cls))
    top = {
        key: document.values[key] for key in ("task_dist", "test_tasks") if key in document.values
    }
    found = {**(document.values.get("evaluation") or {}), **top}
    if document.values.get("execution"):
        found["execution"] = {
            key: value
            for key, value in document.values["execution"].items()
            if key not in NOT_WHEN_SCORING
        }
    return {key: value for key, value in found.items() if key in known and value is not None}


def _checked(cls: type, values: dict[str, Any], origins: dict[KeyPath, str]) -> Any:
    if "checkpoint" not in values:
        raise UsageError("--checkpoint is missing: name the checkpoint to score")
    checkpoint = _checkpoint("--checkpoint", values["checkpoint"])
    config = validation.typed(cls, values | {"checkpoint": str(checkpoint)}, origins)
    if config.task_dist is not None:
        validation.check_kind("env", config.task_dist, ("task_dist",), origins)
    if config.adapter is not None:
        validation.check_kind("adapter", config.adapter, ("adapter",), origins)
    validation.check_execution(config.execution, origins)
    return config


def _checkpoint(flag: str, given: str) -> Path:
    """Return the file of a checkpoint that a flag names by its path, or by its name in the zoo."""
    from harness.zoo.weights import checkpoint_path

    try:
        path = checkpoint_path(given)
    except UsageError as error:
        raise type(error)(f"{flag}: {error}") from error
    if not path.exists():
        raise UsageError(
            f"{flag}: {given!r} does not exist; checkpoints are in "
            "results/<run>/cells/<cell>/checkpoints/"
        )
    return path


def _parse_export(argv: Sequence[str]) -> Export:
    known = list(flags.of_class(Export, "export"))
    parsed = flags.read(known, argv, prog=f"{PROG} export", description=_EXPORT)
    values = {path[0]: value for path, value in parsed.values.items()}
    for name in ("checkpoint", "to"):
        if name not in values:
            raise UsageError(f"--{name} is missing")
    request: Export = validation.typed(Export, values, parsed.origins)
    if request.to.suffix not in (".npz", ".safetensors"):
        raise UsageError(f"--to: {str(request.to)!r} must end in .npz or .safetensors")
    if request.to.exists():
        raise UsageError(f"--to: {str(request.to)!r} exists already; give another name")
    return request


# --- files ---------------------------------------------------------------------------------------


def document_of(name: str | None) -> strict_yaml.Document:
    """Return the file that ``--config`` names; an empty one without."""
    if name is None:
        return strict_yaml.Document({}, {})
    return strict_yaml.read(aliases.config_file(name))


def lines_of(document: strict_yaml.Document) -> dict[KeyPath, str]:
    """Return how messages name the settings of a file, by their path."""
    return {path: f"{line}: {'.'.join(path)}" for path, line in document.lines.items()}
