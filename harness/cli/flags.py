"""Flags made of a configuration class: tyro reads them and writes the help; no value is judged."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

import policies
import task_distributions
from harness.config import validation
from harness.errors import UsageError
from harness.meta import learners

KeyPath = tuple[str, ...]
CHOICES = {
    "task_dist": task_distributions.names,
    "policy": policies.names,
    "learner": learners.names,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One command line: a configuration class and how it is presented."""

    cls: type
    prog: str
    description: str
    extra: tuple[StructFieldSpec, ...] = ()
    """Flags that are no settings, listed after those of ``cls`` itself."""
    omit: tuple[str, ...] = ()
    """Fields, of sections too, that make no flag here."""


def read(command: Command, argv: Sequence[str], default: Any) -> dict[str, Any]:
    """Let tyro read ``argv`` into nested dicts; what is not given comes from ``default``.

    Raises:
        SystemExit: help was asked for (0), or a value could not be read (2).
    """
    registry = ConstructorRegistry()

    @registry.struct_rule
    def plain(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not dataclasses.is_dataclass(info.type):
            return None
        extra = command.extra if info.type is command.cls else ()
        specs = [spec for spec in _specs(info) if spec.name not in command.omit]
        return StructConstructorSpec(instantiate=dict, fields=(*specs, *extra))

    parsed: dict[str, Any] = tyro.cli(
        command.cls,
        config=(tyro.conf.OmitArgPrefixes,),
        prog=command.prog,
        description=command.description,
        args=list(argv),
        default=default,
        registry=registry,
    )
    return parsed


def paths(command: Command) -> dict[str, KeyPath]:
    """Return every flag in its ``--dashed`` spelling, aliases too, with the path it sets."""
    found = dict(_paths(command.cls, command.omit, ()))
    return found | {f"--{spec.name.replace('_', '-')}": (spec.name,) for spec in command.extra}


def given(command: Command, argv: Sequence[str]) -> dict[KeyPath, str]:
    """Return the path of every flag in ``argv`` with its spelling.

    Raises:
        UsageError: a flag does not exist, or is given twice.
    """
    known = paths(command)
    found: dict[KeyPath, str] = {}
    for token in argv:
        if not token.startswith("--") or token == "--help":
            continue
        flag = token.partition("=")[0].replace("_", "-")
        if flag not in known:
            hint = validation.suggestion(flag, known)
            raise UsageError(f"unknown flag {flag}{hint or '; --help lists them all'}")
        if known[flag] in found:
            first = found[known[flag]]
            raise UsageError(f"{flag}: {first} was given before: give all its values at once")
        found[known[flag]] = flag
    return found


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """Return the value that follows ``flag`` in ``argv``, if it is there."""
    for position, token in enumerate(argv):
        name, equals, value = token.partition("=")
        if name.replace("_", "-") == flag:
            return value if equals else next(iter(argv[position + 1 :]), None)
    return None


def _specs(info: StructTypeInfo) -> Iterator[StructFieldSpec]:
    """Describe the fields of a configuration class to tyro."""
    hints = typing.get_type_hints(info.type, include_extras=True)
    for name, field in info.type.__pydantic_fields__.items():
        hint, text = hints[name], field.description or _inherited(info.type, name)
        if dataclasses.is_dataclass(info.default):
            default = getattr(info.default, name)
        elif field.is_required():
            default = tyro.MISSING_NONPROP
        else:
            default = field.get_default(call_default_factory=True)
        if dataclasses.is_dataclass(hint):
            text = " ".join((hint.__doc__ or "").split())
        if name in CHOICES:
            text = f"{text} Choices: {', '.join(CHOICES[name]())}."
        if default is None:
            hint, default = _unset(_not_none(hint))
        yield StructFieldSpec(name, hint, default, helptext=text)


def _inherited(cls: type, name: str) -> str | None:
    """Return what the class that declares a field says of it: subclasses do not inherit that."""
    known = (getattr(base, "__pydantic_fields__", {}).get(name) for base in cls.__mro__)
    return next((field.description for field in known if field and field.description), None)


def _unset(hint: Any) -> tuple[Any, Any]:
    """Return how a setting without a default is shown: no value, as its docstring tells."""
    bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Union else hint
    bare = typing.get_args(bare)[0] if typing.get_origin(bare) is Annotated else bare
    # The placeholder is never used: what is not given is dropped.
    literal = typing.get_origin(bare) is typing.Literal
    placeholder = typing.get_args(bare)[0] if literal else (typing.get_origin(bare) or bare)()
    return Annotated[hint, tyro.conf.arg(help_behavior_hint="")], placeholder


def _not_none(hint: Any) -> Any:
    """Return ``X`` for ``X | None``: a flag that is given has a value."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        arms = tuple(arm for arm in typing.get_args(hint) if arm is not type(None))
        return typing.Union[arms]  # noqa: UP007 - of arms known only now; of one it is that one
    return hint


def _paths(cls: type, omit: Sequence[str], section: KeyPath) -> Iterator[tuple[str, KeyPath]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, hint in hints.items():
        path, dashed = (*section, name), name.replace("_", "-")
        if dataclasses.is_dataclass(hint):
            yield from _paths(typing.cast(type, hint), omit, path)
        elif name not in omit:
            extras = getattr(_not_none(hint), "__metadata__", ())
            named = (extra.name for extra in extras if getattr(extra, "name", None))
            yield f"--{next(named, dashed)}", path
            if _not_none(hint) is bool:
                yield f"--no-{dashed}", path
            for extra in extras:
                for alias in getattr(extra, "aliases", None) or ():
                    yield alias, path
