"""Components of a run: policies, learners, adapters and distributions with their own settings.

A component is a factory and a frozen dataclass of settings beside it; no file lists their fields.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

import policies
import task_distributions
from harness import agents
from harness.config.plugins import REGISTRIES
from harness.meta import adapters, learners
from harness.types import NoSettings
from metarl_plugins import PluginError, Registry, split

Family = Literal["policy", "learner", "agent", "adapter", "env"]

AUTO = "auto"
"""The adapter that each learner trains for."""


@dataclass(frozen=True, slots=True)
class Component:
    """A policy, learner, agent or adapter and its settings."""

    kind: str
    """Registered name, that of an entry point, ``module:factory`` or ``file.py:factory``."""
    settings: Any
    """Instance of the component's settings class."""

    def as_dict(self) -> dict[str, Any]:
        """Return the kind and the settings as JSON values."""
        return {"kind": self.kind, **settings_as_dict(self.settings)}


def _adapter_settings(kind: str) -> type:
    return NoSettings if kind == AUTO else adapters.settings_class(kind)


NAMES: dict[Family, Callable[[], tuple[str, ...]]] = {
    "policy": policies.names,
    "learner": learners.names,
    "agent": agents.names,
    "adapter": lambda: (AUTO, *adapters.names()),
    "env": task_distributions.names,
}
"""Names of each family, registered or of installed packages; listing them imports no torch."""

_SETTINGS: dict[Family, Callable[[str], type]] = {
    "policy": policies.settings_class,
    "learner": lambda kind: learners.spec(kind).settings,
    "agent": agents.settings_class,
    "adapter": _adapter_settings,
    "env": task_distributions.settings_class,
}


def settings_class(family: Family, kind: str) -> type:
    """Return the settings dataclass of a component.

    Raises:
        ValueError: there is no such component.
        PluginError: it comes from outside and cannot be used.
    """
    return _SETTINGS[family](kind)


def registry(family: Family) -> Registry:
    """Return where the names of a family are looked up."""
    return REGISTRIES["task_dist" if family == "env" else family]


@functools.cache
def fields(cls: type) -> dict[str, Any]:
    """Return the type of every setting of ``cls`` by name, with its ``Annotated`` constraints."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@functools.cache
def docs(cls: type) -> dict[str, str]:
    """Return the docstring below every field of a dataclass, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):  # a class typed into a notebook
            continue
        (tree,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(tree, ast.ClassDef)
        for statement, following in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                found[statement.target.id] = " ".join(str(following.value.value).split())
    return found


def settings_as_dict(settings: Any) -> dict[str, Any]:
    """Return an instance of a settings class as JSON values."""
    cls: Any = type(settings)
    plain: dict[str, Any] = type_adapter(cls).dump_python(settings, mode="json")
    return plain


@functools.cache
def type_adapter(cls: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of a class; making one takes milliseconds."""
    return TypeAdapter(cls)


def having(family: Family, setting: str) -> list[str]:
    """Return the components of a family that have a setting of this name."""
    found = []
    for kind in NAMES[family]():
        with contextlib.suppress(PluginError):  # of a broken package that nobody asked for
            if setting in fields(settings_class(family, kind)):
                found.append(kind)
    return found


def selection(value: Any) -> dict[str, dict[str, Any]]:
    """Return a choice of components as ``{label: {"kind": ..., setting: ...}}``.

    Accepts a name, a list of ``name`` and ``label=name``, or a mapping of labels to settings.

    Raises:
        ValueError: the value has another form, or names a label twice.
    """
    if isinstance(value, str):
        value = [value]
    if isinstance(value, Mapping):
        chosen: dict[str, dict[str, Any]] = {}
        for name, given in value.items():
            if not isinstance(given, Mapping | None):
                raise ValueError(f"{name}: write its settings as 'name: value' pairs, or {{}}")
            label, kind = split(name)
            _refuse_twice(label, chosen)
            chosen[label] = {"kind": kind, **(given or {})}
        return chosen
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("give a name, a list of names, or labels with settings")
    chosen = {}
    for item in value:
        label, kind = split(item)
        _refuse_twice(label, chosen)
        chosen[label] = {"kind": kind}
    return chosen


def _refuse_twice(label: str, chosen: Mapping[str, Any]) -> None:
    if label in chosen:
        raise ValueError(f"{label!r} is given twice; give one another label, as LABEL=NAME")
