"""Flags made from settings classes: argparse reads them and writes the help.

A setting of a component has the flag ``--LABEL.SETTING``. ``--SETTING`` alone sets it for every
chosen component that has it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from harness.config import aliases
from harness.config.components import Component, docs, fields
from harness.config.validation import KeyPath, plain_words, suggestion
from harness.errors import UsageError

NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
"""Numbers behind a flag that argparse would take for flags."""
METAVARS = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag and the settings it gives."""

    names: tuple[str, ...]
    """Spellings, without the two dashes; the first is the usual one."""
    paths: tuple[KeyPath, ...]
    hint: Any
    """Type of the setting, with its constraints."""
    help: str
    group: str
    default: Any = None

    @property
    def option_strings(self) -> tuple[str, ...]:
        """Every spelling as typed."""
        return tuple(f"--{name}" for name in self.names)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The flags of a command line."""

    values: dict[KeyPath, Any] = field(default_factory=dict)
    """Value of every setting given."""
    origins: dict[KeyPath, str] = field(default_factory=dict)
    """The flag that gave it, as typed."""


def of_class(
    cls: type,
    group: str,
    *,
    path: KeyPath = (),
    prefix: str = "",
    defaults: Any = None,
    omit: Sequence[str] = (),
) -> Iterator[Flag]:
    """Yield a flag for each setting of the dataclass ``cls``."""
    texts = docs(cls)
    for name, hint in fields(cls).items():
        if name in omit:
            continue
        dashed = name.replace("_", "-")
        others = () if prefix else aliases.FLAGS.get(name, ())
        yield Flag(
            names=tuple(f"{prefix}{spelling}" for spelling in (dashed, *others)),
            paths=((*path, name),),
            hint=hint,
            help=texts.get(name, ""),
            group=group,
            default=getattr(defaults, name, None),
        )


def of_component(family: str, label: str, part: Component) -> Iterator[Flag]:
    """Yield the flags ``--LABEL.SETTING`` of a chosen component."""
    path = (family,) if family == "adapter" else (family, label)
    group = f"{family} {label}" if label == part.kind else f"{family} {label} ({part.kind})"
    yield from of_class(
        type(part.settings),
        group,
        path=path,
        prefix=f"{label.replace('_', '-')}.",
        defaults=part.settings,
    )


def shared(flags: Sequence[Flag]) -> list[Flag]:
    """Return the flags ``--SETTING``, each for all components whose flags are in ``flags``."""
    found: dict[str, list[Flag]] = {}
    for flag in flags:
        found.setdefault(flag.paths[0][-1], []).append(flag)
    return [
        Flag(
            names=(name.replace("_", "-"), *aliases.FLAGS.get(name, ())),
            paths=tuple(path for flag in same for path in flag.paths),
            hint=same[0].hint,
            help=argparse.SUPPRESS,
            group="",
        )
        for name, same in found.items()
    ]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(message.removeprefix("argument "))


class _Once(argparse.Action):
    """Keeps a value and the flag as typed; refuses a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if hasattr(namespace, self.dest):
            first = getattr(namespace, self.dest)[0]
            raise UsageError(f"{option_string}: {first} is given too: give all values at once")
        if self.nargs == 0:
            values = not str(option_string).startswith("--no-")
        setattr(namespace, self.dest, (option_string, values))


def read(
    flags: Sequence[Flag],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    unknown: typing.Callable[[str], str | None] = lambda _: None,
) -> Parsed:
    """Read a command line.

    Args:
        flags: all flags; where two have a spelling in common, the first has it.
        argv: the words to read.
        prog: the command, for the help.
        description: what the help says before the flags.
        unknown: a message for a flag that does not exist but could in another run, or None.

    Raises:
        UsageError: a flag is unknown, given twice, or its value is not of its type.
        SystemExit: help was asked for; the code is 0.
    """
    parser, known = _parser(flags, prog, description, with_help=True)
    namespace, extra = parser.parse_known_args(_dashed(argv))
    for word in extra:
        if not word.startswith("--"):
            raise UsageError(f"unexpected argument {word!r}; --help lists the flags")
        name = word.partition("=")[0]
        if (message := unknown(name[2:])) is not None:
            raise UsageError(f"{name}: {message}")
        spellings = [option for flag in flags for option in flag.option_strings]
        hint = suggestion(name, spellings, cutoff=0.75) or "; --help lists them all"
        raise UsageError(f"unknown flag {name}{hint}")
    return _converted(known, namespace)


def select(flags: Sequence[Flag], argv: Sequence[str]) -> Parsed:
    """Read the given ``flags`` alone and ignore the rest of the command line."""
    parser, known = _parser(flags, "", "", with_help=False)
    return _converted(known, parser.parse_known_args(_dashed(argv))[0])


def _parser(
    flags: Sequence[Flag], prog: str, description: str, *, with_help: bool
) -> tuple[argparse.ArgumentParser, dict[str, Flag]]:
    width = min(shutil.get_terminal_size().columns, 100)
    parser = _Parser(
        prog=prog,
        description=description,
        usage=f"{prog} [--FLAG VALUE ...]",
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=30, width=width
        ),
    )
    parser._negative_number_matcher = NEGATIVE
    groups: dict[str, Any] = {}
    known: dict[str, Flag] = {}
    taken: set[str] = set()
    for number, flag in enumerate(flags):
        options = [option for option in flag.option_strings if option not in taken]
        if not options:
            continue
        taken.update(options)
        known[f"flag{number}"] = flag
        group = groups.setdefault(flag.group, parser.add_argument_group(flag.group))
        kwargs: dict[str, Any] = {"nargs": _nargs(flag.hint)}
        if kwargs["nargs"] == 0:
            options += [f"--no-{option[2:]}" for option in options[:1]]
            taken.update(options)
        else:
            kwargs["metavar"] = _metavar(flag.hint)
        text = flag.help if flag.help == argparse.SUPPRESS else _help(flag)
        group.add_argument(*options, dest=f"flag{number}", action=_Once, help=text, **kwargs)
    if with_help:
        parser.add_argument("--help", "-h", action="help", help=argparse.SUPPRESS)
    return parser, known


def default_text(flag: Flag) -> str:
    """Return the value that a flag has if it is not given, as typed; '' if it has none."""
    default = flag.default
    if isinstance(default, tuple | list):
        return " ".join(map(str, default))
    if isinstance(default, bool):
        return "on" if default else "off"
    return "" if default is None else str(default)


def _help(flag: Flag) -> str:
    default = default_text(flag)
    return (f"{flag.help} [{default}]" if default else flag.help).replace("%", "%%")


def _dashed(argv: Sequence[str]) -> list[str]:
    """Return the words with dashes for underscores in the names of flags."""
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        words.append(f"{name.replace('_', '-')}{equals}{value}" if word[:2] == "--" else word)
    return words


def _converted(known: Mapping[str, Flag], namespace: argparse.Namespace) -> Parsed:
    parsed = Parsed()
    for dest, (option, text) in vars(namespace).items():
        flag = known[dest]
        value = _value(flag.hint, text, option)
        for path in flag.paths:
            if path in parsed.values:
                raise UsageError(
                    f"{option} and {parsed.origins[path]} contradict each other: give one"
                )
            parsed.values[path], parsed.origins[path] = value, option
    return parsed


def _value(hint: Any, text: Any, option: str) -> Any:
    """Return the JSON value of the words ``text`` by the type of the setting."""
    try:
        value = TypeAdapter(hint).validate_python(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = plain_words(first)
        shown = text if isinstance(text, str) else " ".join(map(str, text))
        raise UsageError(f"{option}: got {shown!r}: {message}") from error
    if isinstance(value, float) and value - value != 0:
        raise UsageError(f"{option}: got {text!r}: must be a finite number")
    return TypeAdapter(hint).dump_python(value, mode="json")


def _bare(hint: Any) -> Any:
    """Return the type below ``Annotated`` and ``| None``."""
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif origin in (types.UnionType, typing.Union):
            arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
            if len(arms) != 1:
                return hint
            (hint,) = arms
        else:
            return hint


def several(hint: Any) -> bool:
    """Return whether a flag of this type takes several values."""
    return typing.get_origin(_bare(hint)) is tuple


def choices(hint: Any) -> tuple[Any, ...]:
    """Return the only values of this type: of a Literal, or True and False; () of other types."""
    bare = _bare(hint)
    if bare is bool:
        return (True, False)
    return typing.get_args(bare) if typing.get_origin(bare) is Literal else ()


def _nargs(hint: Any) -> int | str | None:
    if _bare(hint) is bool:
        return 0
    return "+" if several(hint) else None


def _metavar(hint: Any) -> str:
    bare = _bare(hint)
    if typing.get_origin(bare) is tuple:
        return _metavar(typing.get_args(bare)[0])
    if typing.get_origin(bare) is Literal:
        return "{" + ",".join(map(str, typing.get_args(bare))) + "}"
    if typing.get_origin(bare) in (types.UnionType, typing.Union):
        return "|".join(_metavar(arm) for arm in typing.get_args(bare) if arm is not type(None))
    return METAVARS.get(getattr(bare, "__name__", ""), "VALUE")
