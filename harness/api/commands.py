"""Training, scoring and comparing from Python: settings in, a ``Run`` out."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.runs import Run
from harness.config import precedence, validation
from harness.config.components import fields, settings_class
from harness.config.schema import SECTIONS, RunConfig
from harness.config.scoring import EvaluateConfig
from harness.config.sweep_file import PlannedCell, planned_cells
from harness.console.notebook import make_listener
from harness.errors import CellsFailedError, ExitCode, RunInterruptedError, UsageError
from harness.execution.loaded_policy import LoadedPolicy
from harness.experiments.evaluate import planned_scoring
from harness.experiments.planning import pretrained_cells
from harness.experiments.run import RunOptions, play
from harness.reporting.store.files import run_path
from harness.zoo.weights import checkpoint_path
from metarl_plugins import PluginError, label_of, split

if TYPE_CHECKING:
    from harness.reporting.compare import RunComparison

Choice = str | Sequence[str] | Mapping[str, Mapping[str, Any]]
"""A name, names, or settings by label: ``{"wide": {"kind": "gru", "hidden_dim": 256}}``."""


def train(
    task_dist: str,
    *,
    policy: Choice | None = None,
    learner: Choice | None = None,
    adapter: str | Mapping[str, Any] | None = None,
    pretrained: Sequence[str | Path] = (),
    **settings: Any,
) -> Run:
    """Train and score every policy with every learner and seed, as ``harness.run`` does.

    Args:
        task_dist: task distribution.
        policy: policies to compare.
        learner: learners to compare.
        adapter: how shots change the policy; what each learner trains for if not given.
        pretrained: checkpoints, or policies of the zoo, to score in rows of their own.
        settings: any other setting of a run by its name: ``preset``, ``seed``, ``env_steps``,
            ``few_shot``, ``name``, ``storage``, ``backend``, …, those of the distribution
            included; or whole sections, such as ``evaluation={...}``.

    Returns:
        The run, complete.

    Raises:
        UsageError: bad input.
        CellsFailedError: some cells failed; ``run`` has the others.
        RunInterruptedError: it was stopped; ``harness.run --resume`` continues it.
    """
    layer = _layer(settings, task_dist=task_dist, policy=policy, learner=learner, adapter=adapter)
    config = precedence.resolve(layer, _origins(layer))
    options = RunOptions.of_execution(
        config.execution, config.label, command=("harness.train",), given=layer, quiet=True
    )
    planned = planned_cells(config, layer)
    planned += pretrained_cells([checkpoint_path(given) for given in pretrained], config)
    return _played(planned, options)


def evaluate(policy: str | Path | LoadedPolicy, **settings: Any) -> Run:
    """Score a checkpoint again, as ``harness.run evaluate`` does.

    Args:
        policy: the file of a checkpoint, the name of a policy in the zoo, or what ``load_policy``
            or ``load_pretrained`` returned.
        settings: what differs from the checkpoint's own run: ``few_shot``, ``test_tasks``,
            ``query_episodes``, …, and ``name``, ``storage``, ``backend``.

    Raises:
        UsageError: bad input.
        CheckpointError: the file is not a whole checkpoint.
        CellsFailedError: it could not be scored.
        RunInterruptedError: it was stopped.
    """
    path = policy.path if isinstance(policy, LoadedPolicy) else checkpoint_path(policy)
    if path is None:
        raise UsageError("this policy was not loaded from a file: give the checkpoint")
    values = {"checkpoint": str(path), **_sectioned(settings, ("execution",))}
    config = validation.typed(EvaluateConfig, values, _origins(values))
    planned = planned_scoring(config)
    options = RunOptions.of_execution(
        config.execution,
        planned.config.label,
        command=("harness.evaluate",),
        given=planned.given,
        quiet=True,
    )
    return _played([planned], options)


def score(agent: Any, task_dist: str, *, label: str | None = None, **settings: Any) -> Run:
    """Score agents by the common protocol, each in a row of its own, as ``harness.score`` does.

    Args:
        agent: an agent's name, ``module:factory`` or ``path/file.py:factory``; a factory or class;
            or an object with ``act`` (or of Meta-World's protocols, a model of Stable-Baselines3, a
            torch module), of which every task gets a copy. Several: a mapping by label.
        task_dist: task distribution.
        label: what tables call it; made from its name if not given.
        settings: any setting of a run, as for ``train``.

    Raises:
        UsageError: bad input.
        CellsFailedError: an agent failed; ``run`` has the others.
        RunInterruptedError: it was stopped.
    """
    if label is not None and isinstance(agent, Mapping):
        raise UsageError("label: has no effect on a mapping of agents, whose keys are the labels")
    agents = dict(agent) if isinstance(agent, Mapping) else {label or _label(agent): agent}
    factories = {name: _factory(each) for name, each in agents.items() if not _given_by_name(each)}
    chosen = {name: _part(each) for name, each in agents.items()}
    layer = _layer(settings, task_dist=task_dist, agent=chosen)
    config = precedence.resolve(layer, _origins(layer))
    options = RunOptions.of_execution(
        config.execution,
        f"score-{config.label}",
        command=("harness.score",),
        given=layer,
        quiet=True,
    )
    planned = [
        dataclasses.replace(cell, factory=factories.get(cell.cell.policy))
        for cell in planned_cells(config, layer)
    ]
    return _played(planned, options)


def compare(runs: Sequence[str | Path | Run]) -> RunComparison:
    """Return the tables of several runs, sweeps and published folders together.

    ``frame`` of the result is one data frame with all rows.

    Raises:
        UsageError: there is no such run, or two runs were scored by different protocols.
        ArtefactError: a file of a run is malformed.
    """
    from harness.reporting.compare import compare as compare_runs

    return compare_runs([run.path if isinstance(run, Run) else run for run in runs])


def _played(planned: Sequence[PlannedCell], options: RunOptions) -> Run:
    code = play(planned, options, make_listener())
    run = Run(run_path(options.storage, options.name))
    if code == ExitCode.CELLS_FAILED:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in run.failures.items())
        raise CellsFailedError(f"{len(run.failures)} cells of {run.path} failed: {reasons}", run)
    if code == ExitCode.INTERRUPTED:
        raise RunInterruptedError(f"{run.path} was stopped before it was complete", run)
    return run


# --- settings ------------------------------------------------------------------------------------


def _layer(settings: Mapping[str, Any], **chosen: Any) -> dict[str, Any]:
    """Return settings given by their names, nested as in YAML."""
    own = {name: value for name, value in chosen.items() if value is not None}
    dist = _dist_settings(chosen["task_dist"])
    layer = {**_sectioned(settings, tuple(SECTIONS), env=dist), **own}
    for name in ("policy", "learner"):
        if isinstance(layer.get(name), tuple):
            layer[name] = list(layer[name])
    return layer


def _dist_settings(task_dist: str) -> Sequence[str]:
    try:
        return tuple(fields(settings_class("env", task_dist)))
    except (ValueError, PluginError):  # refused later, with a message
        return ()


def _sectioned(
    settings: Mapping[str, Any], sections: Sequence[str], env: Sequence[str] = ()
) -> dict[str, Any]:
    """Return ``settings`` with those of ``sections`` and the distribution in their sections."""
    nested: dict[str, Any] = {}
    homes = {name: "env" for name in env if name not in fields(RunConfig)}
    homes |= {name: section for section in sections for name in fields(SECTIONS[section])}
    for name, value in settings.items():
        value = list(value) if isinstance(value, range) else value
        plain = [value] if name in LISTS and isinstance(value, int | str) else value
        if name in homes:
            nested.setdefault(homes[name], {})[name] = plain
        elif isinstance(value, Mapping) and isinstance(nested.get(name), dict):
            nested[name] |= value
        else:
            nested[name] = dict(value) if isinstance(value, Mapping) else plain
    return nested


LISTS = ("seed", "few_shot", "splits", "train_tasks", "test_tasks")
"""Settings that are lists, for which one value may be given."""


def _origins(layer: Mapping[str, Any]) -> dict[validation.KeyPath, str]:
    """Return what messages call the settings: the names they were given by."""
    origins: dict[validation.KeyPath, str] = {}
    for name, value in layer.items():
        origins[name,] = name
        if isinstance(value, Mapping):
            origins |= {(name, str(inner)): str(inner) for inner in value}
    return origins


# --- agents --------------------------------------------------------------------------------------


def _given_by_name(agent: Any) -> bool:
    return isinstance(agent, str | Mapping)


def _target(agent: Any) -> str:
    made = agent if _makes_agents(agent) else type(agent)
    return f"{made.__module__}:{getattr(made, '__qualname__', type(made).__name__)}"


def _makes_agents(agent: Any) -> bool:
    """Return whether ``agent`` is a class or a function rather than an agent itself."""
    methods = ("act", "eval_action", "predict", "forward")
    return inspect.isclass(agent) or (
        callable(agent) and not any(hasattr(agent, name) for name in methods)
    )


def _label(agent: Any) -> str:
    name = agent if isinstance(agent, str) else _target(agent)
    return label_of(name) or "agent"


def _part(agent: Any) -> dict[str, Any]:
    if isinstance(agent, Mapping):
        return dict(agent)
    if isinstance(agent, str):
        return {"kind": split(agent)[1]}
    return {"kind": "object", "of": _target(agent)}


def _factory(agent: Any) -> Callable[[], Any]:
    """Return what makes a fresh agent in any process."""
    if _makes_agents(agent):
        made: Callable[[], Any] = agent
        return made
    if hasattr(agent, "predict") and hasattr(agent, "save"):  # it holds an environment: no copy
        buffer = io.BytesIO()
        agent.save(buffer)
        return partial(_load_model, type(agent), buffer.getvalue())
    return partial(copy.deepcopy, agent)


def _load_model(cls: Any, saved: bytes) -> Any:
    return cls.load(io.BytesIO(saved), device="cpu")
